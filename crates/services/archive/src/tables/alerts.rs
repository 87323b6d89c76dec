use std::collections::BTreeMap;

use alerting::Span;
use event::{Provider, Text};
use serde::Deserialize;
use window::ScopeFields;

use super::rates::{incomplete_scope, text};
use super::{Coordinates, RowError};
use crate::native::{
    F64, LowCardinality, Micros, NullableF64, NumberMap, StringMap, Strings, U16, U32, U64, columns,
};

columns! {
    /// The rows of the table `alerts`.
    Alerts {
        episode_id: Strings,
        rule: LowCardinality,
        scope: LowCardinality,
        provider: LowCardinality,
        source: LowCardinality,
        mailbox_provider: LowCardinality,
        campaign: LowCardinality,
        sender_domain: LowCardinality,
        sending_ip: LowCardinality,
        tenant: LowCardinality,
        family: LowCardinality,
        basis: LowCardinality,
        seq: U32,
        severity: LowCardinality,
        state: LowCardinality,
        reason: LowCardinality,
        metric: LowCardinality,
        window: LowCardinality,
        width_seconds: U32,
        value: NullableF64,
        threshold: F64,
        bound: NullableF64,
        numerator: U64,
        volume: U64,
        started_at: Micros,
        at: Micros,
        window_from: Micros,
        window_to: Micros,
        as_of: NumberMap,
        runbook: Strings,
        summary: Strings,
        labels: StringMap,
        kafka_partition: U16,
        kafka_offset: U64,
    }
}

/// The fields of the value of `mail.alerts` besides those of the scope; see
/// `schemas/alert.schema.json`. Unlike [`alerting::Alert`], it borrows its texts, does not depend on the
/// values of enumerations that a later release may have, and accepts alerts that were written before the
/// field `numerator` existed.
#[derive(Deserialize)]
pub(super) struct Alert<'a> {
    #[serde(borrow)]
    pub(super) episode_id: Text<'a>,
    #[serde(borrow)]
    pub(super) rule: Text<'a>,
    #[serde(borrow)]
    severity: Text<'a>,
    #[serde(borrow)]
    state: Text<'a>,
    #[serde(borrow)]
    pub(super) metric: Text<'a>,
    #[serde(borrow)]
    pub(super) width: Text<'a>,
    pub(super) value: Option<f64>,
    pub(super) threshold: f64,
    #[serde(default)]
    pub(super) numerator: u64,
    pub(super) volume: u64,
    started_at: i64,
    at: i64,
    #[serde(borrow)]
    pub(super) runbook: Text<'a>,
    #[serde(borrow)]
    pub(super) summary: Text<'a>,
    #[serde(borrow, default)]
    family: Option<Text<'a>>,
    #[serde(borrow, default)]
    basis: Option<Text<'a>>,
    #[serde(default)]
    seq: u32,
    #[serde(borrow, default)]
    reason: Option<Text<'a>>,
    #[serde(default)]
    pub(super) bound: Option<f64>,
    #[serde(default)]
    from: i64,
    #[serde(default)]
    to: i64,
    #[serde(default)]
    as_of: BTreeMap<u16, u64>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Alerts {
    /// Adds the value of a record of `mail.alerts`.
    ///
    /// # Errors
    /// Fails if the value does not have the shape of `schemas/alert.schema.json`.
    pub fn push(&mut self, at: Coordinates, value: &[u8]) -> Result<(), RowError> {
        let scope: ScopeFields<'_> = serde_json::from_slice(value)?;
        let alert: Alert<'_> = serde_json::from_slice(value)?;
        if !scope.is_complete() {
            return Err(incomplete_scope());
        }
        self.episode_id.push(alert.episode_id.as_bytes());
        self.rule.push(&alert.rule);
        self.scope.push(scope.kind.as_str());
        self.provider.push(scope.provider.map_or("", Provider::as_str));
        self.source.push(text(&scope.source));
        self.mailbox_provider.push(text(&scope.mailbox_provider));
        self.campaign.push(text(&scope.campaign));
        self.sender_domain.push(text(&scope.sender_domain));
        self.sending_ip.push(text(&scope.sending_ip));
        self.tenant.push(text(&scope.tenant));
        self.family.push(text(&alert.family));
        self.basis.push(text(&alert.basis));
        self.seq.push(alert.seq);
        self.severity.push(&alert.severity);
        self.state.push(&alert.state);
        self.reason.push(text(&alert.reason));
        self.metric.push(&alert.metric);
        self.window.push(&alert.width);
        self.width_seconds.push(seconds(&alert.width));
        self.value.push(alert.value);
        self.threshold.push(alert.threshold);
        self.bound.push(alert.bound);
        self.numerator.push(alert.numerator);
        self.volume.push(alert.volume);
        self.started_at.push(alert.started_at);
        self.at.push(alert.at);
        self.window_from.push(alert.from);
        self.window_to.push(alert.to);
        self.as_of.push(alert.as_of.into_iter());
        self.runbook.push(alert.runbook.as_bytes());
        self.summary.push(alert.summary.as_bytes());
        let labels = alert.labels.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        self.labels.push(labels);
        self.kafka_partition.push(at.partition);
        self.kafka_offset.push(at.offset);
        self.rows += 1;
        Ok(())
    }
}

/// Returns the length of a window, or 0 if it is no duration, such as `campaign`.
fn seconds(window: &str) -> u32 {
    let micros = window.parse().map_or(0, Span::micros);
    u32::try_from(micros / 1_000_000).unwrap_or_default()
}
