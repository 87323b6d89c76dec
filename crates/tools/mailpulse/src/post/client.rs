//! Posts requests to an ingress over HTTP or HTTPS.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url, redirect};
use serde::Deserialize;
use service::{Settings, SettingsError};
use testkit::signers::SignedBody;

use crate::InputError;

/// How long one request may take. The ingress answers within 3 s, or spools the request.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The number of bytes of an answer that are read.
const MAX_ANSWER: usize = 16 << 10;

/// The answer of the ingress.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Empty if the answer is not that of an ingress.
    pub(crate) request_id: String,
    /// The code of a problem document; empty if the answer has none.
    pub(crate) code: String,
    /// What the answer says beside the code.
    pub(crate) detail: String,
}

/// What the answers of the ingress have: a receipt, or a problem document.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Document {
    request_id: String,
    code: String,
    detail: String,
}

/// A client for the path of one source.
#[derive(Clone)]
pub(crate) struct Client {
    client: reqwest::Client,
    url: Url,
}

impl Client {
    /// `base` is scheme, host and port of the ingress, to which the path of the source is appended.
    ///
    /// # Errors
    /// If `base` is not an HTTP URL.
    pub(crate) fn new(base: &str, path: &str) -> Result<Self, InputError> {
        let text = format!("{}{path}", base.trim_end_matches('/'));
        let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| {
            InputError(format!("`{base}` is not the URL of an ingress; write http://host:port"))
        })?;
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // The body is meant for this address only.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| InputError(format!("cannot create an HTTP client: {error}")))?;
        Ok(Self { client, url })
    }

    /// Returns the URL without user and password.
    pub(crate) fn url(&self) -> String {
        let mut url = self.url.clone();
        // Fails only for URLs without a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.into()
    }

    /// Posts a request once.
    ///
    /// # Errors
    /// Why there was no answer.
    pub(crate) async fn post(&self, request: SignedBody) -> Result<Answer, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            let value = HeaderValue::from_str(value).map_err(|error| error.to_string())?;
            headers.insert(name, value);
        }
        let request = self.client.post(self.url.clone()).headers(headers).body(request.body);
        let mut response = request.send().await.map_err(|error| reason(&error))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| reason(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                break;
            }
        }
        let Document { request_id, code, detail } =
            serde_json::from_slice(&body).unwrap_or_default();
        Ok(Answer { status, request_id, code, detail })
    }
}

/// Returns the innermost reason of an error, without the URL, which may have a password.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", TIMEOUT.as_secs());
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Returns the URL of an ingress on this machine, from its settings.
///
/// # Errors
/// If `ingress.listen` is invalid.
pub(crate) fn local_ingress(settings: &Settings) -> Result<String, SettingsError> {
    #[derive(Deserialize)]
    struct Listen {
        listen: SocketAddr,
    }
    let Listen { listen } = settings.section("ingress")?;
    let host = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(ip) if ip.is_unspecified() => "[::1]".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    Ok(format!("http://{host}:{}", listen.port()))
}
