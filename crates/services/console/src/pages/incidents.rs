//! `/incidents`: what is open now, and what was in the last weeks.

use askama::Template;
use http::StatusCode;
use serde::Deserialize;

use super::{Ask, Frame, Part, TimeCell};
use crate::live::LiveIncident;
use crate::problem::Problem;
use crate::response::{self, Response};
use crate::store::Query;

/// How many days of incidents that are over are shown.
const DAYS: i64 = 30;

#[derive(Template)]
#[template(path = "incidents.html")]
struct Page {
    frame: Frame,
    days: i64,
    open: Vec<OpenRow>,
    over: Part<Vec<OverRow>>,
}

pub(super) struct OpenRow {
    incident: LiveIncident,
    opened: TimeCell,
}

struct OverRow {
    row: Over,
    opened: TimeCell,
    ended: TimeCell,
}

#[derive(Deserialize)]
struct Over {
    id: String,
    severity: String,
    family: String,
    summary: String,
    /// UTC microseconds.
    opened: i64,
    /// UTC microseconds.
    changed: i64,
    reason: String,
    judged: String,
}

/// Renders the page. Open incidents come from Kafka, so they are shown without ClickHouse too.
///
/// # Errors
/// If the template fails.
pub async fn render(ask: &Ask<'_>) -> Result<Response, Problem> {
    let query = Query::new("incidents", include_str!("../sql/incidents.sql"))
        .with("from", ask.now.as_second() - DAYS * 86_400);
    let over = ask.pages.store.rows::<Over>(&query).await.map(|rows| {
        let rows = rows.into_iter().map(|row| OverRow {
            opened: TimeCell::new(row.opened),
            ended: TimeCell::new(row.changed),
            row,
        });
        rows.collect()
    });
    let open = ask.pages.live.open_incidents();
    let open = open.iter().map(|incident| OpenRow {
        incident: LiveIncident::of(incident),
        opened: TimeCell::new(incident.opened_at),
    });
    let page = Page {
        frame: ask.frame("Incidents", "incidents"),
        days: DAYS,
        open: open.collect(),
        over: Part::from(over),
    };
    response::page(StatusCode::OK, &page)
}
