//! `/incidents/{id}`: the page that people got, and its numbers recomputed from the stored events.

use alerting::page::page;
use alerting::{Alert, Incident, IncidentId};
use askama::Template;
use http::StatusCode;
use recount::{PARTITIONS, PartitionRows, StoredEvents, Transition, Verdict, cannot_verify};
use serde::Deserialize;

use super::{Ask, Frame, Pages, Part, RateCell, TimeCell};
use crate::format;
use crate::problem::Problem;
use crate::response::{self, Response};
use crate::store::{Query, StoreError};
use crate::traffic::Rate;

#[derive(Template)]
#[template(path = "incident.html")]
struct Page {
    frame: Frame,
    id: String,
    severity: String,
    state: String,
    title: String,
    lines: Vec<(String, String)>,
    facts: Vec<(&'static str, String)>,
    recount: Part<Recount>,
    transitions: Part<Vec<TransitionRow>>,
}

/// The numbers of the latest alert of the lead episode, and those of the stored events.
struct Recount {
    rule: String,
    scope: String,
    window: String,
    from: TimeCell,
    to: TimeCell,
    of_alert: RateCell,
    threshold: String,
    bound: String,
    of_events: Option<RateCell>,
    /// `equal`, `different` or `unverifiable`.
    verdict: &'static str,
    reason: String,
}

struct TransitionRow {
    at: TimeCell,
    row: Changed,
}

#[derive(Deserialize)]
struct Stored {
    record: String,
}

#[derive(Deserialize)]
struct Changed {
    /// UTC microseconds.
    changed: i64,
    state: String,
    severity: String,
    rule: String,
    summary: String,
}

#[derive(Deserialize)]
struct Counted {
    numerator: u64,
    denominator: u64,
}

/// Renders the page.
///
/// # Errors
/// [`Problem::InvalidParameter`], [`Problem::NothingFound`] or [`Problem::Store`].
pub async fn render(ask: &Ask<'_>, id: &str) -> Result<Response, Problem> {
    let invalid = |_| Problem::InvalidParameter("the id of an incident has 32 digits".to_owned());
    let id = IncidentId::try_from(id.to_owned()).map_err(invalid)?;
    let pages = ask.pages;
    let incident = match pages.live.incident(id) {
        Some(incident) => incident,
        None => stored(pages, id).await?,
    };
    let text = page(&incident, None, &pages.page_settings);
    let (recount, transitions) =
        tokio::join!(recount(pages, &incident.lead), transitions(pages, id));
    let page = Page {
        frame: ask.frame(format!("Incident {}", &id.to_string()[..8]), "incidents"),
        id: id.to_string(),
        severity: name(incident.severity),
        state: name(incident.state),
        title: text.title,
        lines: text.lines,
        facts: facts(&incident),
        recount: recount.into(),
        transitions: transitions.into(),
    };
    response::page(StatusCode::OK, &page)
}

/// Returns an incident that is over.
async fn stored(pages: &Pages, id: IncidentId) -> Result<Incident, Problem> {
    let query = Query::new("incident", include_str!("../sql/incident.sql")).with("id", id);
    let rows: Vec<Stored> = pages.store.rows(&query).await?;
    let Some(Stored { record }) = rows.into_iter().next() else {
        let text =
            format!("no incident has the id {id}; the table incidents may no longer have it");
        return Err(Problem::NothingFound(text));
    };
    serde_json::from_str(&record).map_err(|error| Problem::Internal(error.to_string()))
}

async fn transitions(pages: &Pages, id: IncidentId) -> Result<Vec<TransitionRow>, StoreError> {
    let sql = include_str!("../sql/incident_transitions.sql");
    let rows: Vec<Changed> =
        pages.store.rows(&Query::new("incident_transitions", sql).with("id", id)).await?;
    let rows = rows.into_iter().map(|row| TransitionRow { at: TimeCell::new(row.changed), row });
    Ok(rows.collect())
}

/// Counts the events of an alert again, exactly those before its `as_of`.
async fn recount(pages: &Pages, alert: &Alert) -> Result<Recount, StoreError> {
    let transition = transition(alert);
    let mut recount = Recount::of(alert, &transition);
    let impossible = cannot_verify(&transition, &pages.rules_by_weekday);
    let query = recount::query(&transition);
    let (Some(query), None) = (query, &impossible) else {
        let unknown = || format!("this release does not know the metric `{}`", transition.metric);
        recount.reason = impossible.unwrap_or_else(unknown);
        return Ok(recount);
    };
    let count = Query::built("recount", query.sql, query.parameters);
    let rows = Query::new("stored_events", PARTITIONS);
    let (counted, rows) =
        tokio::join!(pages.store.row::<Counted>(&count), pages.store.rows::<PartitionRows>(&rows));
    let (Counted { numerator, denominator }, rows) = (counted?, rows?);
    let Some(committed) = pages.archived.committed().await else {
        recount.reason = "Kafka does not tell how far archive is; try again later".to_owned();
        return Ok(recount);
    };
    let stored = StoredEvents::new(committed, rows);
    let verdict = match stored.not_yet(&transition) {
        Some(reason) => Verdict::Unverifiable { reason },
        None => recount::verdict(&transition, &stored, (numerator, denominator)),
    };
    recount.verdict = verdict.name();
    if let Verdict::Unverifiable { reason } = verdict {
        recount.reason = reason;
    }
    recount.of_events = Some(RateCell::new(Rate { numerator, denominator }, 0.0));
    Ok(recount)
}

/// Returns the row that archive writes of the alert.
fn transition(alert: &Alert) -> Transition {
    let value = |dimension| alert.scope.value(dimension).unwrap_or_default().to_owned();
    let provider = alert.scope.provider().map_or_else(String::new, |it| it.to_string());
    let entries = alert.as_of.iter().filter_map(|(partition, next)| {
        Some((u16::try_from(*partition).ok()?, u64::try_from(*next).ok()?))
    });
    Transition {
        episode_id: alert.episode_id.to_string(),
        seq: alert.seq,
        state: name(alert.state),
        rule: alert.rule.clone(),
        scope: alert.scope.kind().as_str().to_owned(),
        provider,
        source: alert.scope.source().unwrap_or_default().to_owned(),
        mailbox_provider: value(event::Dimension::MailboxProvider),
        campaign: value(event::Dimension::Campaign),
        sender_domain: value(event::Dimension::SenderDomain),
        sending_ip: value(event::Dimension::SendingIp),
        tenant: value(event::Dimension::Tenant),
        basis: name(alert.basis),
        metric: name(alert.metric),
        window: alert.width.clone(),
        numerator: alert.numerator,
        volume: alert.volume,
        window_from: alert.from,
        window_to: alert.to,
        as_of: entries.collect(),
    }
}

impl Recount {
    fn of(alert: &Alert, transition: &Transition) -> Self {
        let rate = Rate { numerator: alert.numerator, denominator: alert.volume };
        Self {
            rule: alert.rule.clone(),
            scope: transition.scope_text(),
            window: alert.width.clone(),
            from: TimeCell::new(alert.from),
            to: TimeCell::new(alert.to),
            of_alert: RateCell::new(rate, 0.0),
            threshold: format::percent(alert.threshold),
            bound: alert.bound.map_or_else(|| "–".to_owned(), format::percent),
            of_events: None,
            verdict: "unverifiable",
            reason: String::new(),
        }
    }
}

/// What people have done with the incident, and how large it is.
fn facts(incident: &Incident) -> Vec<(&'static str, String)> {
    let people = &incident.people;
    let until = |micros| format!("until {} UTC", format::time(micros));
    let facts = [
        ("Seen by", people.acknowledged_by.clone()),
        ("Assigned to", people.assigned_to.clone()),
        ("Snoozed", people.snoozed_until.map(until)),
        ("Judged", people.judged.clone()),
        ("Closed by", people.closed_by.clone()),
        ("Part of", incident.merged_into.map(|id| id.to_string())),
        ("Notifications", Some(incident.page.to_string())),
        ("Episodes", Some(format!("{} ({} open)", incident.episodes, incident.open_episodes))),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Returns the stable name of a value, as in JSON.
fn name(value: impl serde::Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}
