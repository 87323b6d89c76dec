use std::net::IpAddr;

use http::HeaderMap;

use crate::Rejection;
use crate::trace::Trace;

/// One HTTP request as it was received.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedRequest<'a> {
    pub headers: &'a HeaderMap,
    /// The bytes that the provider signed: with `Content-Encoding` decoded, and otherwise unchanged.
    pub body: &'a [u8],
    /// The client's address behind trusted proxies. If it is unknown (`None`), no `allow_ips`
    /// admits the request.
    pub remote_ip: Option<IpAddr>,
    /// The time of receipt in unix seconds.
    pub now: i64,
}

impl<'a> ReceivedRequest<'a> {
    /// Returns the value of a header if it is visible ASCII.
    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the value of a header that the signature needs.
    pub(crate) fn signature(&self, name: &str, trace: &mut Trace) -> Result<&'a str, Rejection> {
        let Some(value) = self.header(name) else {
            trace.failed("signature", || format!("there is no header `{name}`"));
            return Err(Rejection::MissingSignature);
        };
        trace.passed("signature", || format!("`{name}` is {value}"));
        Ok(value)
    }
}

/// The proof that a request comes from the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// The index of the secret that verified the request. `None` if no secret was used: SES with
    /// fetched certificates, and sources with only an address list.
    pub key: Option<usize>,
    /// Present if the signature does not cover the event.
    pub single_use: Option<SingleUseToken>,
}

impl Verified {
    /// The secret with this index verified the request, and nothing remains to be checked.
    pub(crate) const fn by(key: usize) -> Self {
        Self { key: Some(key), single_use: None }
    }
}

/// A token that may be used for one event only. Mailgun signs a token and not the event, so a
/// captured signature would be good for any event.
///
/// The caller remembers it until `expires_at`: the same token with the same content is a retry of
/// the provider; with other content it is [`crate::Rejection::Replayed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SingleUseToken {
    /// A digest of the signed bytes.
    pub token: [u8; 16],
    /// A digest of the bytes that are not signed: the body without the signature.
    pub content: [u8; 16],
    /// The last unix second at which the signature is accepted.
    pub expires_at: i64,
}
