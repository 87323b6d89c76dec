//! `GET /dashboard/data`: the numbers of the pages as JSON, for other programs. The field names are stable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use window::{Counts, Metric};

use crate::live::LiveIncident;
use crate::pages::Ask;
use crate::pages::overview::sources;
use crate::parameters::{Period, SourceFilter};
use crate::problem::Problem;
use crate::response::{self, Response};
use crate::store::Query;
use crate::traffic::{self, By, Rate, Traffic, filtered};

/// The longest time, in seconds: it reads the rows of events.
const LONGEST: i64 = 7 * 86_400;

/// In periods up to this one, the series has a step of a minute. In seconds.
const BY_MINUTE: i64 = 86_400;

#[derive(Serialize)]
struct Data {
    /// The period, seconds since the Unix epoch; `to` is not part of it.
    from: i64,
    to: i64,
    /// `sendgrid/acme`; empty for all sources.
    source: String,
    /// All events.
    total: u64,
    by_kind: BTreeMap<String, u64>,
    /// By docs/metrics.md, by arrival.
    counters: Counts,
    rates: Rates,
    by_provider: BTreeMap<String, Group>,
    by_mailbox_provider: BTreeMap<String, Group>,
    /// The step of `series`, in seconds.
    step: i64,
    /// Events by step. A step without events is absent.
    series: Vec<Point>,
    sources: Vec<Source>,
    open_incidents: Vec<LiveIncident>,
}

/// A group of messages.
#[derive(Serialize)]
struct Group {
    /// All events.
    events: u64,
    sent: u64,
    rates: Rates,
}

/// The rates by name.
type Rates = BTreeMap<&'static str, Value>;

/// A rate with what it follows from.
#[derive(Serialize)]
struct Value {
    numerator: u64,
    denominator: u64,
    /// From 0 to 1; `null` if the denominator is 0.
    rate: Option<f64>,
}

#[derive(Serialize)]
struct Point {
    /// The start of the step, seconds since the Unix epoch.
    at: i64,
    events: u64,
}

#[derive(Serialize)]
struct Source {
    source: String,
    /// When it was last heard from, seconds since the Unix epoch.
    last_heard: i64,
    /// The events of the last 24 hours.
    events: u64,
}

#[derive(Deserialize)]
struct Kind {
    name: String,
    events: u64,
}

#[derive(Deserialize)]
struct Step {
    at_step: i64,
    events: u64,
}

/// Answers with the numbers of a period, the last day if none is named.
///
/// # Errors
/// [`Problem::InvalidParameter`] or [`Problem::Store`].
pub async fn respond(ask: &Ask<'_>) -> Result<Response, Problem> {
    let source = ask.parameters.source()?;
    let period = ask.parameters.period(24, ask.now)?;
    if period.to - period.from > LONGEST {
        let text = "`from` must be at most 7 days before `to`";
        return Err(Problem::InvalidParameter(text.to_owned()));
    }
    // The counters are those of quarters of an hour.
    let period = Period {
        from: period.from.div_euclid(900) * 900,
        to: (period.to + 899).div_euclid(900) * 900,
    };
    response::json(&data(ask, period, &source).await?)
}

async fn data(ask: &Ask<'_>, period: Period, source: &SourceFilter) -> Result<Data, Problem> {
    let store = &ask.pages.store;
    let step = if period.to - period.from <= BY_MINUTE + 900 { 60 } else { 900 };
    let kinds = Query::new("events_by_kind", include_str!("sql/events_by_kind.sql"));
    let steps = Query::new("events_by_step", include_str!("sql/events_by_step.sql"));
    let (kinds, steps) =
        (filtered(kinds, period, source), filtered(steps, period, source).with("step", step));
    let (all, providers, mailbox_providers, kinds, steps, sources) = tokio::try_join!(
        traffic::ask(store, By::Nothing, 0, period, source),
        traffic::ask(store, By::Provider, 0, period, source),
        traffic::ask(store, By::MailboxProvider, 0, period, source),
        store.rows::<Kind>(&kinds),
        store.rows::<Step>(&steps),
        sources(store, ask.now.as_second()),
    )?;
    let all = all.into_iter().next();
    let counters = all.map_or_else(Counts::default, |all| all.counts);
    let by_kind: BTreeMap<String, u64> =
        kinds.into_iter().map(|Kind { name, events }| (name, events)).collect();
    Ok(Data {
        from: period.from,
        to: period.to,
        source: source.text(),
        total: by_kind.values().sum(),
        by_kind,
        rates: rates(&counters),
        counters,
        by_provider: groups(providers),
        by_mailbox_provider: groups(mailbox_providers),
        step,
        series: steps.into_iter().map(|it| Point { at: it.at_step, events: it.events }).collect(),
        sources: sources
            .into_iter()
            .map(|it| Source { source: it.source, last_heard: it.heard_at, events: it.events })
            .collect(),
        open_incidents: ask.pages.live.open_incidents().iter().map(LiveIncident::of).collect(),
    })
}

fn groups(rows: Vec<Traffic>) -> BTreeMap<String, Group> {
    let groups = rows.into_iter().map(|Traffic { name, events, counts, .. }| {
        (name, Group { events, sent: window::sent(&counts), rates: rates(&counts) })
    });
    groups.collect()
}

/// Returns every rate, except for injection loss, which needs to know whether the source reports all messages.
fn rates(counts: &Counts) -> Rates {
    let metrics = Metric::ALL.iter().filter(|metric| **metric != Metric::InjectionLoss);
    metrics
        .map(|metric| {
            let rate = Rate::of(*metric, counts);
            let Rate { numerator, denominator } = rate;
            (metric.as_str(), Value { numerator, denominator, rate: rate.share() })
        })
        .collect()
}
