//! HTTP requests to a receiver of alerts.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};

/// The timeout of one attempt, including the connection set-up.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of characters of a response body that an error message quotes.
const MAX_EXCERPT: usize = 300;
/// The number of bytes of a response body that are read for the excerpt. A character has up to four.
const MAX_EXCERPT_BYTES: usize = 4 * MAX_EXCERPT;

/// A URL that alerts are posted to. It may contain credentials, so no error and no log shows it.
pub struct Endpoint {
    client: Client,
    url: Url,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

/// An endpoint cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The text is not an absolute HTTP URL.
    #[error("it is not an absolute HTTP URL; write it as https://host/path")]
    NotHttp,
    /// The HTTP client cannot be created. The most likely cause is that no root certificates are
    /// installed.
    #[error("cannot create an HTTP client: {0}; install the package ca-certificates")]
    Client(#[from] reqwest::Error),
}

/// An attempt to deliver a transition failed.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The receiver rejects the request because of its content, so a retry cannot succeed.
    #[error("the receiver answered {status}: {excerpt}")]
    Rejected {
        /// A 4xx status other than 408 and 429.
        status: StatusCode,
        /// The start of the response body.
        excerpt: String,
    },
    /// The receiver is overloaded or broken, so a retry may succeed.
    #[error("the receiver answered {status}: {excerpt}")]
    Unavailable {
        /// Any status except 2xx and those of [`DeliveryError::Rejected`].
        status: StatusCode,
        /// The start of the response body.
        excerpt: String,
        /// The pause that the receiver requests with `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// There was no response: the receiver was not reachable, TLS failed, or the attempt timed out.
    #[error("no response: {0}")]
    Unreachable(String),
}

impl DeliveryError {
    /// Returns the stable code, which is a metric label.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Rejected { .. } => "rejected",
            Self::Unavailable { .. } => "unavailable",
            Self::Unreachable(_) => "unreachable",
        }
    }

    /// Returns true if a retry cannot succeed.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Rejected { .. })
    }

    /// Returns the pause that the receiver requested.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            Self::Rejected { .. } | Self::Unreachable(_) => None,
        }
    }
}

impl Endpoint {
    /// Creates an HTTP client for the URL. It does not follow redirects, because the body is only
    /// meant for this address.
    ///
    /// # Errors
    /// Fails if the text is not an absolute HTTP URL.
    pub fn new(url: &str) -> Result<Self, EndpointError> {
        let parsed = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or(EndpointError::NotHttp)?;
        let client = Client::builder()
            .timeout(ATTEMPT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("mailpulse-notify/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, url: parsed })
    }

    /// Returns whether requests cross a network without encryption.
    pub fn is_plaintext(&self) -> bool {
        let host = self.url.host_str().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_local = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        self.url.scheme() == "http" && !is_local
    }

    /// Posts a JSON body once.
    ///
    /// # Errors
    /// Fails if there is no response or its status is not 2xx.
    pub async fn post(&self, headers: HeaderMap, body: Vec<u8>) -> Result<(), DeliveryError> {
        let request = self
            .client
            .post(self.url.clone())
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .headers(headers)
            .body(body);
        let response = request
            .send()
            .await
            .map_err(|error| DeliveryError::Unreachable(with_causes(&error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let retry_after = retry_after(response.headers());
        let excerpt = excerpt(response).await;
        Err(if is_final(status) {
            DeliveryError::Rejected { status, excerpt }
        } else {
            DeliveryError::Unavailable { status, excerpt, retry_after }
        })
    }
}

/// Reads the beginning of a response body. A receiver may send a body without end, so the rest is not
/// read.
async fn excerpt(mut response: Response) -> String {
    let mut body = Vec::new();
    while body.len() < MAX_EXCERPT_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = MAX_EXCERPT_BYTES - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
            Ok(None) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&body).chars().take(MAX_EXCERPT).collect()
}

/// Returns true for the 4xx statuses that mean the request is wrong, which are all except 408 (timeout)
/// and 429 (too many requests).
fn is_final(status: StatusCode) -> bool {
    status.is_client_error()
        && !matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// Reads `Retry-After` in seconds (RFC 9110 §10.2.3). The other form, a date, is ignored because it
/// depends on the receiver's clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Returns the causes of an error as text. The error itself is left out because it contains the URL,
/// which may contain credentials.
fn with_causes(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "timed out" } else { "failed" }.to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_status_of_a_wrong_request_is_final() {
        let is_final = |code| is_final(StatusCode::from_u16(code).unwrap());
        assert!([400, 401, 403, 404, 410, 413, 422].into_iter().all(is_final));
        assert!(![301, 302, 408, 429, 500, 502, 503, 504].into_iter().any(is_final));
    }

    #[test]
    fn only_absolute_http_urls_are_accepted() {
        assert!(Endpoint::new("http://127.0.0.1:9093/api/v2/alerts").is_ok());
        for url in ["", "127.0.0.1:9093", "ftp://example.com/", "/path"] {
            let error = Endpoint::new(url).unwrap_err().to_string();
            assert!(error.contains("https://host/path"), "{error}");
        }
    }

    #[test]
    fn neither_errors_nor_debug_output_show_a_url() {
        let endpoint = Endpoint::new("https://user:hunter2@example.com/token-4711").unwrap();
        let error = Endpoint::new("ftp://user:hunter2@example.com/token-4711").unwrap_err();
        let shown = format!("{endpoint:?} {error} {error:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("token-4711"), "{shown}");
    }

    #[test]
    fn only_http_to_another_machine_is_plaintext() {
        let is_plaintext = |url| Endpoint::new(url).unwrap().is_plaintext();
        for url in ["http://example.com/", "http://192.0.2.1/", "http://[2001:db8::1]/"] {
            assert!(is_plaintext(url), "{url}");
        }
        for url in
            ["https://example.com/", "http://127.0.0.1:1/", "http://[::1]/", "http://localhost/"]
        {
            assert!(!is_plaintext(url), "{url}");
        }
    }
}
