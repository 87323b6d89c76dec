use event::Text;
use serde::Deserialize;
use serde_json::value::RawValue;
use window::Scope;

use super::alerts::Alert;
use super::rates::text;
use super::{Coordinates, RowError};
use crate::native::{
    F64, LowCardinality, Micros, NullableF64, NullableMicros, StringArray, Strings, U16, U32, U64,
    columns,
};

columns! {
    /// The rows of the table `incidents`.
    Incidents {
        id: Strings,
        seq: U32,
        page: U32,
        change: LowCardinality,
        state: LowCardinality,
        reason: LowCardinality,
        severity: LowCardinality,
        family: LowCardinality,
        group: LowCardinality,
        group_of: LowCardinality,
        sources: StringArray,
        source_count: U32,
        opened_at: Micros,
        at: Micros,
        opened_by: Strings,
        lead_episode_id: Strings,
        lead_rule: LowCardinality,
        lead_scope: LowCardinality,
        lead_metric: LowCardinality,
        lead_window: LowCardinality,
        lead_numerator: U64,
        lead_volume: U64,
        lead_value: NullableF64,
        lead_threshold: F64,
        lead_bound: NullableF64,
        summary: Strings,
        runbook: Strings,
        cause_scope: LowCardinality,
        cause_share: NullableF64,
        cause_numerator: U64,
        cause_volume: U64,
        cause_rest_numerator: U64,
        cause_rest_volume: U64,
        episodes: U32,
        open_episodes: U32,
        episode_ids: StringArray,
        acknowledged_by: Strings,
        assigned_to: Strings,
        snoozed_until: NullableMicros,
        judged: LowCardinality,
        closed_by: Strings,
        merged_into: Strings,
        record: Strings,
        kafka_partition: U16,
        kafka_offset: U64,
    }
}

/// The value of `mail.incidents`; see `schemas/incident.schema.json`. Unlike [`alerting::Incident`], it
/// borrows its texts, and does not depend on the values of enumerations that a later release may have.
#[derive(Deserialize)]
struct Incident<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    seq: u32,
    page: u32,
    #[serde(borrow)]
    change: Text<'a>,
    #[serde(borrow)]
    state: Text<'a>,
    #[serde(borrow, default)]
    reason: Option<Text<'a>>,
    #[serde(borrow)]
    severity: Text<'a>,
    #[serde(borrow)]
    family: Text<'a>,
    #[serde(borrow)]
    group: Text<'a>,
    #[serde(borrow, default)]
    of: Option<Text<'a>>,
    opened_at: i64,
    at: i64,
    #[serde(borrow)]
    lead: &'a RawValue,
    #[serde(default)]
    cause: Option<Cause>,
    #[serde(borrow, default)]
    others: Vec<EpisodeLine<'a>>,
    episodes: u32,
    open_episodes: u32,
    #[serde(borrow, default)]
    people: People<'a>,
    #[serde(borrow)]
    opened_by: Text<'a>,
    #[serde(borrow, default)]
    merged_into: Option<Text<'a>>,
    #[serde(borrow, default)]
    sources: Vec<Text<'a>>,
    #[serde(default)]
    source_count: u32,
}

#[derive(Deserialize)]
struct Cause {
    scope: Scope,
    share: f64,
    numerator: u64,
    volume: u64,
    rest_numerator: u64,
    rest_volume: u64,
}

#[derive(Deserialize)]
struct EpisodeLine<'a> {
    #[serde(borrow)]
    alert: EpisodeRef<'a>,
}

#[derive(Deserialize)]
struct EpisodeRef<'a> {
    #[serde(borrow)]
    episode_id: Text<'a>,
}

#[derive(Default, Deserialize)]
struct People<'a> {
    #[serde(borrow, default)]
    acknowledged_by: Option<Text<'a>>,
    #[serde(borrow, default)]
    assigned_to: Option<Text<'a>>,
    #[serde(default)]
    snoozed_until: Option<i64>,
    #[serde(borrow, default)]
    judged: Option<Text<'a>>,
    #[serde(borrow, default)]
    closed_by: Option<Text<'a>>,
}

impl Incidents {
    /// Adds the value of a record of `mail.incidents`.
    ///
    /// # Errors
    /// Fails if the value does not have the shape of `schemas/incident.schema.json`.
    pub fn push(&mut self, at: Coordinates, value: &[u8]) -> Result<(), RowError> {
        let incident: Incident<'_> = serde_json::from_slice(value)?;
        let lead: Alert<'_> = serde_json::from_str(incident.lead.get())?;
        let scope: Scope = serde_json::from_str(incident.lead.get())?;
        self.id.push(incident.id.as_bytes());
        self.seq.push(incident.seq);
        self.page.push(incident.page);
        self.change.push(&incident.change);
        self.state.push(&incident.state);
        self.reason.push(text(&incident.reason));
        self.severity.push(&incident.severity);
        self.family.push(&incident.family);
        self.group.push(&incident.group);
        self.group_of.push(text(&incident.of));
        self.sources.push(incident.sources.iter().map(|source| &**source));
        self.source_count.push(incident.source_count);
        self.opened_at.push(incident.opened_at);
        self.at.push(incident.at);
        self.opened_by.push(incident.opened_by.as_bytes());
        self.push_lead(&lead, &scope);
        self.push_cause(incident.cause.as_ref());
        self.episodes.push(incident.episodes);
        self.open_episodes.push(incident.open_episodes);
        let others = incident.others.iter().map(|line| &*line.alert.episode_id);
        self.episode_ids.push(std::iter::once(&*lead.episode_id).chain(others));
        self.push_people(&incident.people);
        self.merged_into.push(text(&incident.merged_into).as_bytes());
        self.record.push(value);
        self.kafka_partition.push(at.partition);
        self.kafka_offset.push(at.offset);
        self.rows += 1;
        Ok(())
    }

    fn push_lead(&mut self, lead: &Alert<'_>, scope: &Scope) {
        self.lead_episode_id.push(lead.episode_id.as_bytes());
        self.lead_rule.push(&lead.rule);
        self.lead_scope.push(&scope.key());
        self.lead_metric.push(&lead.metric);
        self.lead_window.push(&lead.width);
        self.lead_numerator.push(lead.numerator);
        self.lead_volume.push(lead.volume);
        self.lead_value.push(lead.value);
        self.lead_threshold.push(lead.threshold);
        self.lead_bound.push(lead.bound);
        self.summary.push(lead.summary.as_bytes());
        self.runbook.push(lead.runbook.as_bytes());
    }

    fn push_cause(&mut self, cause: Option<&Cause>) {
        self.cause_scope.push(&cause.map(|cause| cause.scope.key()).unwrap_or_default());
        self.cause_share.push(cause.map(|cause| cause.share));
        let count = |of: fn(&Cause) -> u64| cause.map(of).unwrap_or_default();
        self.cause_numerator.push(count(|cause| cause.numerator));
        self.cause_volume.push(count(|cause| cause.volume));
        self.cause_rest_numerator.push(count(|cause| cause.rest_numerator));
        self.cause_rest_volume.push(count(|cause| cause.rest_volume));
    }

    fn push_people(&mut self, people: &People<'_>) {
        self.acknowledged_by.push(text(&people.acknowledged_by).as_bytes());
        self.assigned_to.push(text(&people.assigned_to).as_bytes());
        self.snoozed_until.push(people.snoozed_until);
        self.judged.push(text(&people.judged));
        self.closed_by.push(text(&people.closed_by).as_bytes());
    }
}
