//! `/dead-letters`: records that could not be processed.

use askama::Template;
use http::StatusCode;
use serde::Deserialize;

use super::{Ask, Frame, TimeCell};
use crate::problem::Problem;
use crate::response::{self, Response};
use crate::store::{Query, Store, StoreError};
use crate::{format, mask};

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct Page {
    frame: Frame,
    reason: String,
    days: i64,
    reasons: Vec<ReasonRow>,
    newest: Vec<DeadLetterRow>,
}

/// The dead letters of one reason, stage and source.
pub(super) struct ReasonRow {
    pub(super) reason: String,
    pub(super) stage: String,
    pub(super) source: String,
    pub(super) records: u64,
    pub(super) records_text: String,
    pub(super) latest: TimeCell,
}

struct DeadLetterRow {
    archived: TimeCell,
    row: DeadLetter,
    bytes: String,
}

#[derive(Deserialize)]
struct Reason {
    reason: String,
    stage: String,
    source: String,
    records: u64,
    /// UTC microseconds.
    latest: i64,
}

#[derive(Deserialize)]
struct DeadLetter {
    reason: String,
    stage: String,
    source: String,
    key: String,
    detail: String,
    bytes: u64,
    /// As `mailpulse dead-letters` writes it.
    id: String,
    /// UTC microseconds.
    archived: i64,
}

/// How many days are covered.
const DAYS: i64 = 30;

/// Renders the page.
///
/// # Errors
/// [`Problem::Store`].
pub async fn render(ask: &Ask<'_>) -> Result<Response, Problem> {
    let (store, role) = (&ask.pages.store, ask.role());
    let from = ask.now.as_second() - DAYS * 86_400;
    let reason = ask.parameters.get("reason");
    let newest = Query::new("dead_letters", include_str!("../sql/dead_letters.sql"))
        .with("from", from)
        .with("reason", reason);
    let (reasons, newest) = tokio::join!(by_reason(store, from), store.rows::<DeadLetter>(&newest));
    let newest = newest?;
    ask.pages.audit.log(ask.visitor, "dead-letters", newest.iter().map(|row| row.key.as_str()));
    let newest = newest.into_iter().map(|row| DeadLetterRow {
        archived: TimeCell::new(row.archived),
        bytes: format::count(row.bytes),
        row: DeadLetter {
            key: mask::address(role, &row.key),
            detail: mask::text_about(role, &row.detail, &row.key),
            ..row
        },
    });
    let page = Page {
        frame: ask.frame("Dead letters", "dead-letters"),
        reason: reason.to_owned(),
        days: DAYS,
        reasons: reasons?,
        newest: newest.collect(),
    };
    response::page(StatusCode::OK, &page)
}

/// Returns the dead letters since `from` by reason.
pub(super) async fn by_reason(store: &Store, from: i64) -> Result<Vec<ReasonRow>, StoreError> {
    let sql = include_str!("../sql/dead_letters_by_reason.sql");
    let query = Query::new("dead_letters_by_reason", sql).with("from", from);
    let rows: Vec<Reason> = store.rows(&query).await?;
    let rows =
        rows.into_iter().map(|Reason { reason, stage, source, records, latest }| ReasonRow {
            reason,
            stage,
            source,
            records,
            records_text: format::count(records),
            latest: TimeCell::new(latest),
        });
    Ok(rows.collect())
}
