//! What pages and browsers get of the live state.

use std::collections::BTreeMap;

use alerting::Incident;
use alerting::page::{PageSettings, page};
use event::Counter;
use serde::Serialize;
use window::{BOUNCES, Counts};

use super::{KEPT, MINUTE, State};

/// How many sources and incidents a browser gets.
const SHOWN: usize = 50;

/// For how long sources are added up, in microseconds.
const HOUR: i64 = 60 * MINUTE;

/// What is happening now. The field names are those that `assets/console.js` reads.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Snapshot {
    /// All sources together by the minute, without gaps, the oldest first.
    pub minutes: Vec<Minute>,
    /// The last hour of all sources.
    pub hour: Totals,
    /// The sources with the most mail in the last hour.
    pub sources: Vec<LiveSource>,
    /// The open incidents, the most severe ones first.
    pub incidents: Vec<LiveIncident>,
    /// The number of all open incidents.
    pub open_incidents: usize,
    /// Why there are no new numbers. Empty: there are.
    pub notice: String,
}

/// The messages of a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub sent: u64,
    pub delivered: u64,
    pub bounced: u64,
    pub complained: u64,
    pub opened: u64,
    pub clicked: u64,
}

/// The messages of a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Minute {
    /// The start of the minute, seconds since the Unix epoch.
    pub at: i64,
    #[serde(flatten)]
    pub totals: Totals,
}

/// The last hour of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LiveSource {
    /// Provider and source, such as `sendgrid/acme`.
    pub source: String,
    /// The end of its newest minute with events, seconds since the Unix epoch.
    pub last: i64,
    #[serde(flatten)]
    pub totals: Totals,
}

/// An open incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LiveIncident {
    pub id: String,
    pub severity: &'static str,
    /// `open` or `stale`.
    pub state: &'static str,
    /// What has happened, as one line.
    pub title: String,
    /// Seconds since the Unix epoch.
    pub opened_at: i64,
    /// The person who acknowledged it. Empty: nobody.
    pub acknowledged_by: String,
}

impl Snapshot {
    /// Returns the state as browsers get it.
    pub(super) fn of(state: &State) -> Self {
        let mut by_minute: BTreeMap<i64, Counts> = BTreeMap::new();
        let mut hour = Counts::default();
        let mut sources = Vec::new();
        for (name, source) in &state.sources {
            let mut of_source = Counts::default();
            for (end, minute) in &source.minutes {
                *by_minute.entry(*end).or_default() += &minute.counts;
                if *end > state.newest - HOUR {
                    of_source += &minute.counts;
                }
            }
            hour += &of_source;
            let last = source.minutes.keys().next_back().copied().unwrap_or(0) / 1_000_000;
            sources.push(LiveSource { source: name.clone(), last, totals: Totals::of(&of_source) });
        }
        sources.sort_by(|a, b| {
            b.totals.sent.cmp(&a.totals.sent).then_with(|| a.source.cmp(&b.source))
        });
        sources.truncate(SHOWN);
        let open = state.open_incidents();
        Self {
            minutes: minutes(&by_minute, state.newest),
            hour: Totals::of(&hour),
            sources,
            open_incidents: open.len(),
            incidents: open.into_iter().take(SHOWN).map(LiveIncident::of).collect(),
            notice: state.away.values().next().map_or_else(String::new, |reason| {
                format!("Kafka does not answer, so these numbers may be old: {reason}")
            }),
        }
    }

    /// Returns the JSON text.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

/// Returns every minute from the first one with events to the newest one.
fn minutes(by_minute: &BTreeMap<i64, Counts>, newest: i64) -> Vec<Minute> {
    let Some(first) = by_minute.keys().next().copied() else { return Vec::new() };
    let first = first.max(newest - KEPT + MINUTE);
    let ends = (0..).map(|step| first + step * MINUTE).take_while(|end| *end <= newest);
    ends.map(|end| Minute {
        at: (end - MINUTE) / 1_000_000,
        totals: by_minute.get(&end).map(Totals::of).unwrap_or_default(),
    })
    .collect()
}

impl Totals {
    fn of(counts: &Counts) -> Self {
        Self {
            sent: window::sent(counts),
            delivered: counts.get(Counter::Delivered),
            bounced: counts.sum(&BOUNCES),
            complained: counts.get(Counter::Complained),
            opened: counts.get(Counter::Opened),
            clicked: counts.get(Counter::Clicked),
        }
    }
}

impl LiveIncident {
    /// Returns what a list shows of an incident.
    pub fn of(incident: &Incident) -> Self {
        Self {
            id: incident.id.to_string(),
            severity: severity(incident),
            state: match incident.state {
                alerting::IncidentState::Open => "open",
                alerting::IncidentState::Stale => "stale",
                alerting::IncidentState::Resolved => "resolved",
            },
            title: title(incident),
            opened_at: incident.opened_at / 1_000_000,
            acknowledged_by: incident.people.acknowledged_by.clone().unwrap_or_default(),
        }
    }
}

/// Returns the title of the page without the severity at its start, such as `[PAGE]`.
fn title(incident: &Incident) -> String {
    let title = page(incident, None, &PageSettings::default()).title;
    title.split_once("] ").map_or(title.as_str(), |(_, rest)| rest).to_owned()
}

/// Returns the name of the severity.
fn severity(incident: &Incident) -> &'static str {
    match incident.severity {
        alerting::Severity::Warning => "warning",
        alerting::Severity::Critical => "critical",
        alerting::Severity::Page => "page",
    }
}
