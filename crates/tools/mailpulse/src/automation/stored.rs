//! Events as they are stored, in the order of their receipt, and changes of incidents.

use std::collections::BTreeMap;

use alerting::Incident;
use automation::{EngagementDelta, Facts, IncidentFacts, RuleSet};
use clickhouse::Row;
use event::{Kind, OccurredAt, ReceivedAt};
use record::Corrections;
use serde::Deserialize;

use crate::InputError;
use crate::database::{Database, literal, time_literal};

/// The greatest number of events that are read at once.
const MOST_ROWS: usize = 200_000;
/// The greatest number of changes of incidents that are read.
const MOST_CHANGES: usize = 100_000;
/// A step of time that is read at once, in microseconds.
const STEP: i64 = 3_600_000_000;

/// A row of `events`. Texts are empty where the event says nothing.
#[derive(Debug, Row, Deserialize)]
struct StoredEvent {
    event_id: String,
    kind: String,
    provider: String,
    source: String,
    /// UTC microseconds.
    occurred_at: i64,
    received_at: i64,
    recipient: String,
    mailbox_provider: String,
    message_id: String,
    campaign: String,
    stream: String,
    tenant: String,
    sender: String,
    url: String,
    time_zone: String,
    tags: Vec<String>,
    labels: Vec<(String, String)>,
    automation_reason: String,
    authentic: bool,
    counts: Vec<String>,
    corrections: String,
}

const COLUMNS: &str = "event_id, toString(kind) AS kind, toString(provider) AS provider, \
     toString(source) AS source, toUnixTimestamp64Micro(occurred_at) AS occurred_at, \
     toUnixTimestamp64Micro(events.received_at) AS received_at, recipient, \
     toString(mailbox_provider) AS mailbox_provider, message_id, toString(campaign) AS campaign, \
     toString(stream) AS stream, toString(tenant) AS tenant, sender, url, \
     toString(geo_time_zone) AS time_zone, CAST(tags AS Array(String)) AS tags, \
     CAST(labels AS Array(Tuple(String, String))) AS labels, \
     toString(automation_reason) AS automation_reason, authentic, \
     CAST(counts AS Array(String)) AS counts, corrections";

/// Passes every event that was received from `from` up to `to`, in UTC microseconds, and that rules read, to `each`.
///
/// # Errors
/// If ClickHouse cannot be reached, or an hour has too many events, and the errors of `each`.
pub(super) fn for_each(
    database: &Database,
    rules: &RuleSet,
    from: i64,
    to: i64,
    mut each: impl FnMut(&Facts) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let kinds: Vec<String> = Kind::ALL
        .into_iter()
        .filter(|kind| rules.reads(*kind))
        .map(|kind| literal(kind.as_str()))
        .collect();
    if kinds.is_empty() {
        return Ok(());
    }
    let mut begin = from;
    while begin < to {
        let end = begin.saturating_add(STEP).min(to);
        let sql = format!(
            "SELECT {COLUMNS} FROM events WHERE events.received_at >= {} AND events.received_at < {} \
             AND toString(events.kind) IN ({}) AND recipient != '' \
             ORDER BY events.received_at, kafka_partition, kafka_offset LIMIT {}",
            time_literal(begin),
            time_literal(end),
            kinds.join(", "),
            MOST_ROWS + 1
        );
        let rows: Vec<StoredEvent> = database.rows_with(&sql, &[])?;
        if rows.len() > MOST_ROWS {
            let problem =
                format!("an hour has more than {MOST_ROWS} events; choose a rule with fewer kinds");
            return Err(InputError(problem).into());
        }
        for row in rows {
            if let Some(facts) = row.facts() {
                each(&facts)?;
            }
        }
        begin = end;
    }
    Ok(())
}

/// A row of `incidents`.
#[derive(Debug, Row, Deserialize)]
struct StoredIncident {
    /// The JSON of the record.
    record: String,
}

/// Returns the changes of incidents from `from` up to `to`, in UTC microseconds, that can start a rule, in their order.
/// Records of a later release that this one cannot read are left out.
///
/// # Errors
/// If ClickHouse cannot be reached, or there are too many changes.
pub(super) fn incidents(
    database: &Database,
    rules: &RuleSet,
    from: i64,
    to: i64,
) -> anyhow::Result<Vec<IncidentFacts>> {
    if !rules.reads_incidents() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT record FROM incidents WHERE at >= {} AND at < {} \
         AND change IN ('opened', 'escalated', 'reminder', 'resolved') ORDER BY at, id, seq LIMIT {}",
        time_literal(from),
        time_literal(to),
        MOST_CHANGES + 1
    );
    let rows: Vec<StoredIncident> = database.rows_with(&sql, &[])?;
    if rows.len() > MOST_CHANGES {
        let problem = format!(
            "there are more than {MOST_CHANGES} changes of incidents; choose a shorter time"
        );
        return Err(InputError(problem).into());
    }
    let read = |row: StoredIncident| {
        serde_json::from_str::<Incident>(&row.record).ok().and_then(|it| IncidentFacts::of(&it))
    };
    Ok(rows.into_iter().filter_map(read).collect())
}

impl StoredEvent {
    /// Returns `None` if the row has names that this release does not know.
    fn facts(self) -> Option<Facts> {
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let mut counts = EngagementDelta::default();
        self.counts.iter().for_each(|counter| counts.add(counter, 1));
        if let Ok(corrections) = self.corrections.parse::<Corrections>() {
            for change in corrections.changes {
                counts.add(change.counter.as_str(), if change.adds { 1 } else { -1 });
            }
        }
        Some(Facts {
            event_id: self.event_id.parse().ok()?,
            kind: self.kind.parse().ok()?,
            provider: self.provider.parse().ok()?,
            source: self.source,
            occurred_at: OccurredAt(self.occurred_at),
            received_at: ReceivedAt(self.received_at),
            recipient: self.recipient,
            mailbox_provider: text(self.mailbox_provider),
            message_id: text(self.message_id),
            campaign: text(self.campaign),
            stream: text(self.stream),
            tenant: text(self.tenant),
            sender: text(self.sender),
            url: text(self.url),
            interest: None,
            conversion: None,
            time_zone: text(self.time_zone),
            tags: self.tags,
            labels: self.labels.into_iter().collect::<BTreeMap<_, _>>(),
            human: self.automation_reason.is_empty(),
            authentic: self.authentic,
            counts,
        })
    }
}
