//! What is answered: receipts, and problem documents (RFC 9457).

use std::time::Duration;

use bytes::Bytes;
use event::Provider;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use providers::{Refusal, refusal_status, unavailable_status};
use serde_json::json;

/// A response with its whole body.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Why a request was not taken. Closed: every one has a status, a stable code and a mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// No such provider or source.
    UnknownSource,
    /// Not a POST.
    MethodNotAllowed,
    /// A body with a content coding other than gzip.
    EncodedBody,
    /// A body that is not in the coding it is said to be in.
    BrokenEncoding,
    /// The body did not arrive in time.
    ReadTimeout(Provider),
    /// The connection broke, or the body was not valid HTTP.
    BrokenBody,
    /// Longer than the provider's limit, in bytes.
    TooLarge(Provider, usize),
    /// Not authentic.
    Refused(Provider, Refusal),
    /// The client's requests were refused too often; this one was not looked at. For how long.
    TooManyRefusals(Provider, Duration),
    /// More events than the source's `rate`; for how long.
    TooFast(Provider, Duration),
    /// Kafka cannot take it now; the code says why.
    Unavailable(Provider, &'static str),
}

/// After which a provider that asks may try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl Problem {
    /// The stable code: in the document and as metric label.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::UnknownSource => "unknown_source",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::EncodedBody => "encoded_body",
            Self::BrokenEncoding => "broken_encoding",
            Self::ReadTimeout(_) => "read_timeout",
            Self::BrokenBody => "broken_body",
            Self::TooLarge(..) => "body_too_large",
            Self::Refused(_, refusal) => refusal.code(),
            Self::TooManyRefusals(..) => "too_many_refusals",
            Self::TooFast(..) => "too_fast",
            Self::Unavailable(_, code) => code,
        }
    }

    /// The HTTP status; the provider decides by it whether it tries again.
    pub(crate) fn status(&self) -> StatusCode {
        let of = |status| StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        match self {
            Self::UnknownSource => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::EncodedBody => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ReadTimeout(provider) => of(passing(*provider, 408)),
            Self::BrokenBody | Self::BrokenEncoding => StatusCode::BAD_REQUEST,
            Self::TooLarge(..) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Refused(provider, refusal) => of(refusal_status(*provider, refusal)),
            Self::TooManyRefusals(provider, _) | Self::TooFast(provider, _) => {
                of(passing(*provider, 429))
            }
            Self::Unavailable(provider, _) => of(unavailable_status(*provider)),
        }
    }

    /// After what time it may be tried again, where that makes sense.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRefusals(_, wait) | Self::TooFast(_, wait) => Some(*wait),
            _ if matches!(self.status().as_u16(), 429 | 503) => Some(RETRY_AFTER),
            _ => None,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::UnknownSource => {
                "no source is configured for this path; it is /webhooks/{provider}/{source}".into()
            }
            Self::MethodNotAllowed => "webhooks are posted".into(),
            Self::EncodedBody => "send the body as it is, or in gzip".into(),
            Self::BrokenEncoding => "the body is not the gzip it is said to be".into(),
            Self::ReadTimeout(_) => "the body did not arrive in time".into(),
            Self::BrokenBody => "the body did not arrive whole".into(),
            Self::TooLarge(provider, limit) => {
                format!("a body of {provider} has at most {limit} bytes")
            }
            Self::Refused(_, refusal) => refusal.to_string(),
            Self::TooManyRefusals(..) => {
                "too many requests from this address were refused; this one was not looked at"
                    .into()
            }
            Self::TooFast(..) => "more events than the source may post; send them again".into(),
            Self::Unavailable(..) => "the events cannot be kept now; send them again".into(),
        }
    }

    /// The problem document.
    pub(crate) fn answer(&self, request_id: &str) -> Answer {
        let status = self.status();
        let body = json!({
            "type": format!("urn:mailpulse:problem:{}", self.code()),
            "title": status.canonical_reason().unwrap_or("Problem"),
            "status": status.as_u16(),
            "code": self.code(),
            "detail": self.detail(),
            "request_id": request_id,
        });
        let mut answer = respond(status, "application/problem+json", body.to_string());
        let headers = answer.headers_mut();
        if let Some(wait) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
        }
        match self {
            Self::MethodNotAllowed => {
                headers.insert(header::ALLOW, HeaderValue::from_static("POST, HEAD"));
            }
            Self::Refused(_, Refusal::MissingCredentials | Refusal::WrongCredentials) => {
                let basic = HeaderValue::from_static("Basic realm=\"mailpulse\"");
                headers.insert(header::WWW_AUTHENTICATE, basic);
            }
            // RFC 9110 §15.5.16: which ones would do.
            Self::EncodedBody => {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
            }
            // What is left of the body is not read: the connection cannot be used again.
            Self::TooLarge(..) | Self::ReadTimeout(_) | Self::BrokenBody => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        answer
    }
}

/// The status of a fault that passes, where another than [`unavailable_status`] says it better:
/// but Amazon SNS and Brevo give up for good after most 4xx.
const fn passing(provider: Provider, status: u16) -> u16 {
    match provider {
        Provider::Ses | Provider::Brevo => unavailable_status(provider),
        _ => status,
    }
}

/// Whole seconds, and not too early.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// Every event of the request is durable.
pub(crate) fn receipt(request_id: &str, accepted: usize, dead_lettered: usize) -> Answer {
    let body = format!(
        "{{\"request_id\":\"{request_id}\",\"accepted\":{accepted},\"dead_lettered\":{dead_lettered}}}"
    );
    respond(StatusCode::OK, "application/json", body)
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_told_what_makes_it_do_the_right_thing() {
        let refused = |provider| Problem::Refused(provider, Refusal::WrongSignature).status();
        assert_eq!(refused(Provider::SendGrid), 401);
        assert_eq!(refused(Provider::Mailgun), 406);
        let away = Problem::Unavailable(Provider::Ses, "ack_timeout");
        assert_eq!(away.status(), 503);
        assert_eq!(away.answer("r").headers()[header::RETRY_AFTER], "5");
        let brevo = Problem::Unavailable(Provider::Brevo, "ack_timeout").answer("r");
        assert_eq!(
            (brevo.status().as_u16(), &brevo.headers()[header::RETRY_AFTER]),
            (429, &"5".parse().unwrap())
        );
    }

    #[test]
    fn what_passes_is_never_final() {
        let wait = Duration::from_millis(1500);
        for (provider, late, fast) in
            [(Provider::SendGrid, 408, 429), (Provider::Ses, 503, 503), (Provider::Brevo, 429, 429)]
        {
            assert_eq!(Problem::ReadTimeout(provider).status(), late, "{provider}");
            assert_eq!(Problem::TooManyRefusals(provider, wait).status(), fast, "{provider}");
            let answer = Problem::TooFast(provider, wait).answer("r");
            assert_eq!(answer.status(), fast, "{provider}");
            assert_eq!(answer.headers()[header::RETRY_AFTER], "2", "{provider}");
        }
    }
}
