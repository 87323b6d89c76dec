//! A URL that alerts are posted to.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url, redirect};

/// How long one try may take, connecting included.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of an answer's body goes to the log.
const EXCERPT: usize = 300;

/// A URL that alerts are posted to.
#[derive(Debug)]
pub struct Endpoint {
    client: Client,
    url: Url,
}

/// The URL cannot be posted to.
#[derive(Debug, thiserror::Error)]
pub enum BadUrl {
    /// Not an absolute HTTP URL.
    #[error("`{0}` is not a URL to post to; write it as https://host/path")]
    NotHttp(String),
    /// TLS cannot be set up; most likely no root certificates are installed.
    #[error("no HTTP client can be made: {0}; install the system's ca-certificates")]
    NoClient(#[from] reqwest::Error),
}

/// A try that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Trying again can never help: the request is refused for what it is.
    #[error("answered {status}: {excerpt}")]
    Refused {
        /// A 4xx other than 408 and 429.
        status: StatusCode,
        /// The answer's first words.
        excerpt: String,
    },
    /// Busy or broken; it may pass.
    #[error("answered {status}: {excerpt}")]
    Unavailable {
        /// Anything but 2xx and the 4xx of [`Failure::Refused`].
        status: StatusCode,
        /// The answer's first words.
        excerpt: String,
        /// The pause it asks for.
        retry_after: Option<Duration>,
    },
    /// No answer: not reachable, no TLS, or too slow.
    #[error("no answer: {0}")]
    Unreachable(String),
}

impl Failure {
    /// The stable code: metric label.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Unavailable { .. } => "unavailable",
            Self::Unreachable(_) => "unreachable",
        }
    }

    /// Whether trying again can never help.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// The pause the other side asked for.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            Self::Refused { .. } | Self::Unreachable(_) => None,
        }
    }
}

impl Endpoint {
    /// Prepares a client for it. Redirects are not followed: the body is for this address.
    ///
    /// # Errors
    /// When it is not an absolute HTTP URL.
    pub fn new(url: &str) -> Result<Self, BadUrl> {
        let parsed = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| BadUrl::NotHttp(url.to_owned()))?;
        let client = Client::builder()
            .timeout(TRY_TIMEOUT)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("mailpulse-notify/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, url: parsed })
    }

    /// Posts JSON once.
    ///
    /// # Errors
    /// When the answer is not 2xx, or there is none.
    pub async fn post(&self, headers: HeaderMap, body: Vec<u8>) -> Result<(), Failure> {
        let request = self
            .client
            .post(self.url.clone())
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .headers(headers)
            .body(body);
        let response =
            request.send().await.map_err(|error| Failure::Unreachable(in_full(&error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let retry_after = seconds(response.headers());
        let excerpt = response.text().await.unwrap_or_default().chars().take(EXCERPT).collect();
        Err(if is_final(status) {
            Failure::Refused { status, excerpt }
        } else {
            Failure::Unavailable { status, excerpt, retry_after }
        })
    }
}

/// The 4xx say that the request is wrong, except "took too long" and "too many".
fn is_final(status: StatusCode) -> bool {
    status.is_client_error()
        && !matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// `Retry-After` in seconds (RFC 9110 §10.2.3); its other form, a date, is not worth a clock.
fn seconds(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// An error with its causes; without the URL, which may hold credentials.
fn in_full(error: &reqwest::Error) -> String {
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
    fn only_a_wrong_request_is_final() {
        let is_final = |code| is_final(StatusCode::from_u16(code).unwrap());
        assert!([400, 401, 403, 404, 410, 413, 422].into_iter().all(is_final));
        assert!(![301, 302, 408, 429, 500, 502, 503, 504].into_iter().any(is_final));
    }

    #[test]
    fn only_urls_one_can_post_to() {
        assert!(Endpoint::new("http://127.0.0.1:9093/api/v2/alerts").is_ok());
        for url in ["", "127.0.0.1:9093", "ftp://example.com/", "/path"] {
            let error = Endpoint::new(url).unwrap_err().to_string();
            assert!(error.contains("https://host/path"), "{error}");
        }
    }
}
