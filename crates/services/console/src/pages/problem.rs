//! The page that says why another one is not shown.

use askama::Template;

use super::{Frame, Pages};
use crate::access::Visitor;
use crate::problem::Problem;
use crate::response::{self, Response};

#[derive(Template)]
#[template(path = "problem.html")]
struct Page<'a> {
    frame: Frame,
    problem: &'a Problem,
}

/// Renders a problem for somebody, or for a stranger.
///
/// # Errors
/// If the template fails.
pub fn render(
    pages: &Pages,
    visitor: Option<&Visitor>,
    problem: &Problem,
) -> Result<Response, Problem> {
    let frame = Frame::new(pages, visitor, problem.title().to_owned(), "");
    response::page(problem.status(), &Page { frame, problem })
}
