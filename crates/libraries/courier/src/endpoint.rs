//! HTTP requests to a receiver.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Body, Client, Response, StatusCode, Url, redirect};

use crate::address_guard::{AddressError, AddressGuard};

/// The number of characters of a response body that an error message quotes.
const MAX_EXCERPT: usize = 300;
/// The number of bytes of a response body that are read for the excerpt. A character has up to four.
const MAX_EXCERPT_BYTES: usize = 4 * MAX_EXCERPT;

/// How the HTTP client of an endpoint works.
#[derive(Debug, Clone, Copy)]
pub struct ClientSettings {
    /// To which addresses it connects.
    pub guard: AddressGuard,
    /// The timeout of one attempt, including the connection set-up.
    pub timeout: Duration,
    /// The value of the header `User-Agent`, such as `mailpulse-notify/0.1.0`.
    pub user_agent: &'static str,
}

/// A URL that messages are posted to. It may contain credentials, so no error and no log shows it.
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
    /// The host is an address, or a name, that connections may not be made to.
    #[error(
        "{0} is not an address of the public Internet; set allow_private = true for it if it is meant \
         to be in your own network"
    )]
    Private(String),
    /// The HTTP client cannot be created. The most likely cause is that no root certificates are
    /// installed.
    #[error("cannot create an HTTP client: {0}; install the package ca-certificates")]
    Client(#[from] reqwest::Error),
}

/// An attempt to deliver a message failed.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The receiver rejects the message because of its content, so a retry cannot succeed.
    #[error("the receiver rejected the message: {answer}")]
    Rejected {
        /// The status and the start of the response.
        answer: String,
    },
    /// The receiver is overloaded or broken, so a retry may succeed.
    #[error("the receiver could not accept the message: {answer}")]
    Unavailable {
        /// The status and the start of the response.
        answer: String,
        /// The pause that the receiver requests with `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// There was no response: the receiver was not reachable, TLS failed, or the attempt timed out.
    #[error("no response: {0}")]
    Unreachable(String),
    /// The host has no address that connections may be made to.
    #[error("{0}")]
    Address(#[from] AddressError),
}

impl DeliveryError {
    /// Returns the stable code, which is a metric label.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Rejected { .. } => "rejected",
            Self::Unavailable { .. } => "unavailable",
            Self::Unreachable(_) | Self::Address(AddressError::Unresolved(_)) => "unreachable",
            Self::Address(AddressError::Refused(_)) => "address_refused",
        }
    }

    /// Returns true if a retry cannot succeed. An address may change, so it is tried again.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Rejected { .. })
    }

    /// Returns the pause that the receiver requested.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            Self::Rejected { .. } | Self::Unreachable(_) | Self::Address(_) => None,
        }
    }
}

impl Endpoint {
    /// Creates an HTTP client for the URL. It does not follow redirects, because the body is only
    /// meant for this address, and it connects only to addresses that the guard allows. With
    /// [`AddressGuard::PublicOnly`] it ignores the proxies of the environment, because a proxy would
    /// resolve the name again.
    ///
    /// # Errors
    /// Fails if the text is not an absolute HTTP URL, or if its host is an address that is not allowed.
    pub fn new(url: &str, settings: ClientSettings) -> Result<Self, EndpointError> {
        let guard = settings.guard;
        let parsed = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or(EndpointError::NotHttp)?;
        let host = host_of(&parsed);
        // A client does not resolve addresses, so the resolver does not see them.
        let is_refused = match host.parse::<IpAddr>() {
            Ok(address) => !guard.allows(address),
            Err(_) => guard == AddressGuard::PublicOnly && is_localhost(host),
        };
        if is_refused {
            return Err(EndpointError::Private(host.to_owned()));
        }
        Ok(Self { client: client(settings)?, url: parsed })
    }

    /// Returns whether requests cross a network without encryption.
    pub fn is_plaintext(&self) -> bool {
        let host = host_of(&self.url);
        let is_loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        self.url.scheme() == "http" && !is_localhost(host) && !is_loopback
    }

    /// Posts a JSON body once.
    ///
    /// # Errors
    /// Fails if there is no response or its status is not 2xx.
    pub async fn post(
        &self,
        headers: HeaderMap,
        body: impl Into<Body>,
    ) -> Result<(), DeliveryError> {
        let request = self
            .client
            .post(self.url.clone())
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .headers(headers)
            .body(body);
        let response = request.send().await.map_err(|error| no_response(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let retry_after = retry_after(response.headers());
        let answer = format!("{status}: {}", excerpt(response).await);
        Err(if is_final(status) {
            DeliveryError::Rejected { answer }
        } else {
            DeliveryError::Unavailable { answer, retry_after }
        })
    }
}

fn client(settings: ClientSettings) -> reqwest::Result<Client> {
    let client = Client::builder()
        .timeout(settings.timeout)
        .redirect(redirect::Policy::none())
        .dns_resolver(settings.guard)
        .user_agent(settings.user_agent);
    match settings.guard {
        AddressGuard::PublicOnly => client.no_proxy().build(),
        AddressGuard::AllowPrivate => client.build(),
    }
}

fn host_of(url: &Url) -> &str {
    url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host == "localhost" || host.ends_with(".localhost")
}

/// Reads the beginning of a response body. A receiver may send a body without end, so the rest is not
/// read.
async fn excerpt(mut response: Response) -> String {
    let mut body = Vec::new();
    let mut is_whole = false;
    while body.len() < MAX_EXCERPT_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = MAX_EXCERPT_BYTES - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
            Ok(None) => {
                is_whole = true;
                break;
            }
            Err(_) => break,
        }
    }
    let mut text = String::from_utf8_lossy(&body).into_owned();
    if !is_whole {
        // The last word may be an address whose @ was not read.
        text.truncate(text.rfind(is_separator).unwrap_or(0));
    }
    without_addresses(&text).chars().take(MAX_EXCERPT).collect()
}

/// Returns whether the character ends an address. A local part can have many others, as in `o'brien` or `a=b`.
fn is_separator(c: char) -> bool {
    c.is_whitespace() || "<>()[]{},;:\"".contains(c)
}

/// Returns the text with `<address>` in place of each word that looks like an address, also in the encodings of JSON,
/// URLs and HTML: receivers repeat what they have received, and their answers are logged.
fn without_addresses(text: &str) -> String {
    const AT: [&str; 9] =
        ["@", "%40", "%2540", "%252540", "\\u0040", "&#64", "&#064", "&#x40", "&commat"];
    let words = text.split_inclusive(is_separator).map(|part| {
        let word = part.trim_end_matches(is_separator);
        if AT.iter().any(|at| word.contains(at)) {
            format!("<address>{}", &part[word.len()..])
        } else {
            part.to_owned()
        }
    });
    words.collect()
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

/// Returns the error for a request without a response. Its text has the causes only: the error itself
/// contains the URL, which may contain credentials.
fn no_response(error: &reqwest::Error) -> DeliveryError {
    let mut text = if error.is_timeout() { "timed out" } else { "failed" }.to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(address) = error.downcast_ref::<AddressError>() {
            return DeliveryError::Address(address.clone());
        }
        text = format!("{text}: {error}");
        cause = error.source();
    }
    DeliveryError::Unreachable(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_no_address() {
        for (answer, expected) in [
            (r#"{"error":"ada@example.com is unknown"}"#, r#"{"error":"<address> is unknown"}"#),
            ("no <ada@example.com>, <bob@example.org>", "no <<address>>, <<address>>"),
            ("GET /people/ada%40example.com?x=1", "GET <address>"),
            ("o'brien@example.com, a=b@example.com", "<address>, <address>"),
            ("ada%2540example.com ada&#64;example.com", "<address> <address>;example.com"),
            (
                "ada&#x40;example.com ada&commat;example.com",
                "<address>;example.com <address>;example.com",
            ),
            (r#"["ada\u0040example.com"]"#, r#"["<address>"]"#),
            ("ada@example.com", "<address>"),
            ("the queue is full, 503", "the queue is full, 503"),
        ] {
            assert_eq!(without_addresses(answer), expected);
        }
    }

    const fn settings(guard: AddressGuard) -> ClientSettings {
        ClientSettings { guard, timeout: Duration::from_secs(10), user_agent: "mailpulse-test" }
    }

    fn new(url: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::new(url, settings(AddressGuard::AllowPrivate))
    }

    #[test]
    fn private_addresses_are_refused_in_every_notation() {
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://0/",
            "https://169.254.169.254/latest",
            "https://localhost/",
            "https://a.localhost:8443/",
            "https://10.1.2.3:9093/",
            "http://LOCALHOST/",
            "http://localhost./",
        ] {
            let error = Endpoint::new(url, settings(AddressGuard::PublicOnly)).err();
            let error = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("allow_private = true"), "{url}: {error}");
            assert!(new(url).is_ok(), "{url}");
        }
        let public = settings(AddressGuard::PublicOnly);
        assert!(Endpoint::new("https://93.184.216.34/", public).is_ok());
    }

    #[tokio::test]
    async fn a_client_does_not_connect_to_a_name_with_a_private_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let client = client(settings(AddressGuard::PublicOnly)).unwrap();
        let endpoint = Endpoint { client, url: url.parse().unwrap() };
        let error = endpoint.post(HeaderMap::new(), Vec::<u8>::new()).await.unwrap_err();
        assert_eq!(error.code(), "address_refused", "{error}");
        assert!(error.to_string().contains("allow_private = true"), "{error}");
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "there was a connection");
    }

    #[test]
    fn only_the_status_of_a_wrong_request_is_final() {
        let is_final = |code| is_final(StatusCode::from_u16(code).unwrap());
        assert!([400, 401, 403, 404, 410, 413, 422].into_iter().all(is_final));
        assert!(![301, 302, 408, 429, 500, 502, 503, 504].into_iter().any(is_final));
    }

    #[test]
    fn only_absolute_http_urls_are_accepted() {
        assert!(new("http://127.0.0.1:9093/api/v2/alerts").is_ok());
        for url in ["", "127.0.0.1:9093", "ftp://example.com/", "/path"] {
            let error = new(url).unwrap_err().to_string();
            assert!(error.contains("https://host/path"), "{error}");
        }
    }

    #[test]
    fn neither_errors_nor_debug_output_show_a_url() {
        let endpoint = new("https://user:hunter2@example.com/token-4711").unwrap();
        let error = new("ftp://user:hunter2@example.com/token-4711").unwrap_err();
        let shown = format!("{endpoint:?} {error} {error:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("token-4711"), "{shown}");
    }

    #[test]
    fn only_http_to_another_machine_is_plaintext() {
        let is_plaintext = |url| new(url).unwrap().is_plaintext();
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
