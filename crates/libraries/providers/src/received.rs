use std::net::IpAddr;

use http::HeaderMap;

use crate::Refusal;
use crate::examine::Trace;

/// One request as it came in.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body: the bytes that were sent, after `Content-Encoding` and before anything else.
    pub body: &'a [u8],
    /// The address it came from, behind whatever proxies are ours; `None` where it is not known,
    /// which no list of addresses allows.
    pub remote_ip: Option<IpAddr>,
    /// Unix seconds, by the caller's clock.
    pub now: i64,
}

impl<'a> Received<'a> {
    /// A header's value where it is visible ASCII.
    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A header without which there is no signature.
    pub(crate) fn signature(&self, name: &str, trace: &mut Trace) -> Result<&'a str, Refusal> {
        let Some(value) = self.header(name) else {
            trace.failed("signature", || format!("there is no header `{name}`"));
            return Err(Refusal::MissingSignature);
        };
        trace.passed("signature", || format!("`{name}` is {value}"));
        Ok(value)
    }
}

/// A request that is the provider's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// Which of the source's secrets it was made with, from 0; none where none is used: SES with
    /// certificates that are fetched, and sources that only an address list guards.
    pub key: Option<usize>,
    /// Where the signature does not cover the event, what keeps it from being used for another.
    pub once: Option<Once>,
}

impl Verified {
    /// By the secret with this index, and with nothing more to check.
    pub(crate) const fn by(key: usize) -> Self {
        Self { key: Some(key), once: None }
    }
}

/// Mailgun signs a token and not the event, so a captured signature would be good for any event.
/// The caller remembers this until `expires_at`: the same token with the same content is the
/// provider's retry; with other content it is [`crate::Refusal::Replayed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Once {
    /// A digest of what is signed.
    pub token: [u8; 16],
    /// A digest of what is not: all of the body but the signature.
    pub content: [u8; 16],
    /// The unix second after which the signature is refused for its age.
    pub expires_at: i64,
}
