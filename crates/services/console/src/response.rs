//! Responses and their headers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use askama::Template;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::problem::Problem;

/// A response of the console.
pub type Response = http::Response<Content>;

/// The body of a response.
#[derive(Debug)]
pub enum Content {
    /// A complete body.
    Whole(Option<Bytes>),
    /// A stream that ends when its sender is dropped.
    Stream(mpsc::Receiver<Bytes>),
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(receiver) => {
                receiver.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(0))
            }
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// No script, style or request of another origin, no inline script, and no frame. The data of charts are in
/// attributes.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                                       img-src 'self' data:; connect-src 'self'; form-action 'self'; \
                                       base-uri 'none'; frame-ancestors 'none'";

/// The headers of every response. Addresses of pages can name recipients, so they are neither stored nor told to
/// other sites.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Returns a response with the headers of every response, which nobody stores.
pub fn response(status: StatusCode, content_type: &'static str, content: Content) -> Response {
    let mut response = http::Response::new(content);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns a page.
///
/// # Errors
/// [`Problem::Internal`] if the template fails.
pub fn page(status: StatusCode, template: &impl Template) -> Result<Response, Problem> {
    let html = template.render().map_err(|error| Problem::Internal(error.to_string()))?;
    Ok(response(status, "text/html; charset=utf-8", Content::Whole(Some(Bytes::from(html)))))
}

/// Returns a value as JSON.
///
/// # Errors
/// [`Problem::Internal`] if the value has no JSON form.
pub fn json(value: &impl Serialize) -> Result<Response, Problem> {
    let text = serde_json::to_vec(value).map_err(|error| Problem::Internal(error.to_string()))?;
    Ok(response(StatusCode::OK, "application/json", Content::Whole(Some(Bytes::from(text)))))
}

/// Returns a problem as JSON: `{"code":…,"detail":…}`.
pub fn problem(problem: &Problem) -> Response {
    let body =
        serde_json::json!({ "code": problem.code(), "detail": problem.to_string() }).to_string();
    let content = Content::Whole(Some(Bytes::from(body)));
    response(problem.status(), "application/problem+json", content)
}

/// Returns a response that leads to another page.
pub fn see_other(location: &'static str) -> Response {
    let mut response =
        response(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", Content::Whole(None));
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(location));
    response
}
