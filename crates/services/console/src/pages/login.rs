//! The form for a token.

use askama::Template;
use http::StatusCode;

use crate::problem::Problem;
use crate::response::{self, Response};

#[derive(Template)]
#[template(path = "login.html")]
struct Page<'a> {
    problem: Option<&'a Problem>,
}

/// Renders the form, with what was wrong.
///
/// # Errors
/// If the template fails.
pub fn render(problem: Option<&Problem>) -> Result<Response, Problem> {
    let status = problem.map_or(StatusCode::OK, Problem::status);
    response::page(status, &Page { problem })
}
