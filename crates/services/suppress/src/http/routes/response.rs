//! Bodies of requests, and responses.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::json;

use crate::http::problem::Problem;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of a response.
pub type Body = Full<Bytes>;

/// Reads a body of at most `limit` bytes.
pub(super) async fn read_body(request: Request<Incoming>, limit: usize) -> Result<Bytes, Problem> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|it| it.to_str().ok()).and_then(|it| it.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(Problem::TooLarge);
    }
    let body = Limited::new(request.into_body(), limit).collect();
    let body = tokio::time::timeout(BODY_TIMEOUT, body).await.map_err(|_| Problem::TooSlow)?;
    Ok(body.map_err(|_| Problem::TooLarge)?.to_bytes())
}

/// Returns a value as JSON.
pub(super) fn json_response(value: &impl Serialize) -> Result<Response<Body>, Problem> {
    let text = serde_json::to_vec(value).map_err(|error| Problem::Internal(error.to_string()))?;
    Ok(response(StatusCode::OK, "application/json", text))
}

/// Returns a problem as JSON: `{"code":…,"detail":…}`.
pub(super) fn of_problem(problem: &Problem) -> Response<Body> {
    let text = json!({ "code": problem.code(), "detail": problem.to_string() }).to_string();
    let mut response = response(problem.status(), "application/problem+json", text.into_bytes());
    let headers = response.headers_mut();
    match problem.status() {
        StatusCode::UNAUTHORIZED => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    response
}

fn response(status: StatusCode, content_type: &'static str, text: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // Answers are about people.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
