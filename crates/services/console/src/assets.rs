//! The files that are part of the binary: style, scripts and the charting library.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::problem::Problem;
use crate::response::{Content, Response, response};

const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, content type and content.
const FILES: [(&str, &str, &str); 4] = [
    ("console.css", CSS, include_str!("../assets/console.css")),
    ("console.js", JAVASCRIPT, include_str!("../assets/console.js")),
    ("uplot.css", CSS, include_str!("../assets/uplot/uPlot.min.css")),
    ("uplot.js", JAVASCRIPT, include_str!("../assets/uplot/uPlot.iife.min.js")),
];

/// Returns a file.
///
/// # Errors
/// [`Problem::NotFound`].
pub fn file(name: &str) -> Result<Response, Problem> {
    let file = FILES.iter().find(|(file, ..)| *file == name);
    let (_, content_type, text) = file.ok_or(Problem::NotFound)?;
    let content = Content::Whole(Some(Bytes::from_static(text.as_bytes())));
    let mut response = response(StatusCode::OK, content_type, content);
    // A new release has new files under the same names.
    let cache = HeaderValue::from_static("private, max-age=300");
    response.headers_mut().insert(header::CACHE_CONTROL, cache);
    Ok(response)
}
