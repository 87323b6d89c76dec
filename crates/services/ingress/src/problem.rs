//! HTTP responses: receipts of accepted requests, and problem documents (RFC 9457) of rejected ones.

use std::time::Duration;

use bytes::Bytes;
use event::Provider;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use providers::{Rejection, profile};
use serde_json::json;

pub(crate) type HttpResponse = Response<Full<Bytes>>;

/// Why a request was rejected. Each problem has an HTTP status, a stable code and a text that
/// explains the fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The path names no configured source.
    UnknownSource,
    MethodNotAllowed,
    /// The body has a `Content-Encoding` other than gzip.
    UnsupportedEncoding,
    /// The `Content-Encoding` is gzip, and the body is not valid gzip.
    InvalidEncoding,
    /// The body did not arrive in time.
    ReadTimeout(Provider),
    /// The connection broke, or the body was not valid HTTP.
    IncompleteBody,
    /// The body is longer than the provider's limit in bytes.
    TooLarge(Provider, usize),
    /// The request failed verification.
    Unverified(Provider, Rejection),
    /// The client has sent too many rejected requests, and this one was rejected too or could not be
    /// verified in time. It may try again after the duration. Without a provider the path names none.
    TooManyRejections(Option<Provider>, Duration),
    /// An operator has disabled the source.
    SourceDisabled(Provider),
    /// The source has sent more events than its `rate` allows. It may try again after the duration.
    RateLimited(Provider, Duration),
    /// Neither Kafka nor the spool can store the request. The code identifies the cause.
    Unavailable(Provider, &'static str),
}

/// The `Retry-After` of responses for which no other time is known.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl Problem {
    /// Returns the stable code, which is part of the problem document and a metric label.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::UnknownSource => "unknown_source",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnsupportedEncoding => "encoded_body",
            Self::InvalidEncoding => "broken_encoding",
            Self::ReadTimeout(_) => "read_timeout",
            Self::IncompleteBody => "broken_body",
            Self::TooLarge(..) => "body_too_large",
            Self::Unverified(_, rejection) => rejection.code(),
            Self::TooManyRejections(..) => "too_many_refusals",
            Self::SourceDisabled(_) => "source_disabled",
            Self::RateLimited(..) => "too_fast",
            Self::Unavailable(_, code) => code,
        }
    }

    /// Returns the HTTP status. It decides whether the provider tries again.
    pub(crate) fn status(&self) -> StatusCode {
        let of = |code| StatusCode::from_u16(code).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        match self {
            Self::UnknownSource => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnsupportedEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ReadTimeout(provider) => of(profile(*provider).temporary_status(408)),
            Self::IncompleteBody | Self::InvalidEncoding => StatusCode::BAD_REQUEST,
            Self::TooLarge(..) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unverified(provider, rejection) => {
                of(profile(*provider).rejection_status(rejection))
            }
            Self::TooManyRejections(None, _) => StatusCode::TOO_MANY_REQUESTS,
            Self::TooManyRejections(Some(provider), _) | Self::RateLimited(provider, _) => {
                of(profile(*provider).temporary_status(429))
            }
            Self::SourceDisabled(provider) | Self::Unavailable(provider, _) => {
                of(profile(*provider).unavailable_status)
            }
        }
    }

    /// Returns whether the client could have avoided the problem. Such requests count as rejected
    /// ones of their client.
    pub(crate) const fn is_fault_of_client(&self) -> bool {
        matches!(
            self,
            Self::UnsupportedEncoding
                | Self::InvalidEncoding
                | Self::ReadTimeout(_)
                | Self::IncompleteBody
                | Self::TooLarge(..)
        )
    }

    /// Returns when the provider may try again, or `None` if a retry cannot succeed.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRejections(_, wait) | Self::RateLimited(_, wait) => Some(*wait),
            _ if matches!(self.status().as_u16(), 429 | 503) => Some(RETRY_AFTER),
            _ => None,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::UnknownSource => "this path names no configured source; the path of a source is \
                 /webhooks/{provider}/{source}"
                .into(),
            Self::MethodNotAllowed => "send webhooks with POST".into(),
            Self::UnsupportedEncoding => "send the body without an encoding, or with gzip".into(),
            Self::InvalidEncoding => "the body is not valid gzip".into(),
            Self::ReadTimeout(_) => "the body did not arrive in time".into(),
            Self::IncompleteBody => "the body did not arrive completely".into(),
            Self::TooLarge(provider, limit) => {
                format!("the body is longer than {limit} bytes, the limit of {provider}")
            }
            Self::Unverified(_, rejection) => rejection.to_string(),
            Self::TooManyRejections(..) => {
                "too many requests from this address were rejected, and this one is not authentic \
                 or could not be checked; try again later"
                    .into()
            }
            Self::SourceDisabled(_) => {
                "the operator has disabled this source; send the events again later".into()
            }
            Self::RateLimited(..) => {
                "the source has sent more events than its rate limit allows; send them again later"
                    .into()
            }
            Self::Unavailable(..) => {
                "the events cannot be stored at the moment; send them again later".into()
            }
        }
    }

    /// Returns the response with the problem document.
    pub(crate) fn response(&self, request_id: &str) -> HttpResponse {
        let status = self.status();
        let body = json!({
            "type": format!("urn:mailpulse:problem:{}", self.code()),
            "title": status.canonical_reason().unwrap_or("Problem"),
            "status": status.as_u16(),
            "code": self.code(),
            "detail": self.detail(),
            "request_id": request_id,
        });
        let mut response = respond(status, "application/problem+json", body.to_string());
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        match self {
            Self::MethodNotAllowed => {
                headers.insert(header::ALLOW, HeaderValue::from_static("POST, HEAD"));
            }
            Self::Unverified(_, Rejection::MissingCredentials | Rejection::WrongCredentials) => {
                let basic = HeaderValue::from_static("Basic realm=\"mailpulse\"");
                headers.insert(header::WWW_AUTHENTICATE, basic);
            }
            // RFC 9110 §15.5.16: name the supported encodings.
            Self::UnsupportedEncoding => {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
            }
            // We do not read the rest of the body, so the connection cannot be used again.
            // A suspect client must not send many requests at once.
            Self::TooManyRejections(..)
            | Self::TooLarge(..)
            | Self::ReadTimeout(_)
            | Self::IncompleteBody => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

/// Rounds up, so that no retry comes too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// Returns the response to a request whose events are all durable.
pub(crate) fn receipt(request_id: &str, accepted: usize, dead_lettered: usize) -> HttpResponse {
    let body = format!(
        "{{\"request_id\":\"{request_id}\",\"accepted\":{accepted},\"dead_lettered\":{dead_lettered}}}"
    );
    respond(StatusCode::OK, "application/json", body)
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> HttpResponse {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_follows_the_retry_rules_of_the_provider() {
        let status = |provider| Problem::Unverified(provider, Rejection::WrongSignature).status();
        assert_eq!(status(Provider::SendGrid), 401);
        assert_eq!(status(Provider::Mailgun), 406);
        let unavailable = Problem::Unavailable(Provider::Ses, "ack_timeout");
        assert_eq!(unavailable.status(), 503);
        assert_eq!(unavailable.response("r").headers()[header::RETRY_AFTER], "5");
        let brevo = Problem::Unavailable(Provider::Brevo, "ack_timeout").response("r");
        let disabled = Problem::SourceDisabled(Provider::Ses);
        assert_eq!((disabled.status().as_u16(), disabled.code()), (503, "source_disabled"));
        assert_eq!(
            (brevo.status().as_u16(), &brevo.headers()[header::RETRY_AFTER]),
            (429, &"5".parse().unwrap())
        );
    }

    #[test]
    fn every_provider_retries_after_a_temporary_problem() {
        let wait = Duration::from_millis(1500);
        for (provider, late, fast) in
            [(Provider::SendGrid, 408, 429), (Provider::Ses, 503, 503), (Provider::Brevo, 429, 429)]
        {
            assert_eq!(Problem::ReadTimeout(provider).status(), late, "{provider}");
            assert_eq!(
                Problem::TooManyRejections(Some(provider), wait).status(),
                fast,
                "{provider}"
            );
            let response = Problem::RateLimited(provider, wait).response("r");
            assert_eq!(response.status(), fast, "{provider}");
            assert_eq!(response.headers()[header::RETRY_AFTER], "2", "{provider}");
        }
    }
}
