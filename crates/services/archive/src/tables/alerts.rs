use event::{Provider, Text};
use serde::Deserialize;
use window::{ScopeFields, Width};

use super::rates::{incomplete_scope, text};
use super::{Coordinates, RowError};
use crate::native::{F64, LowCardinality, Micros, NullableF64, Strings, U16, U32, U64, columns};

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
        severity: LowCardinality,
        state: LowCardinality,
        metric: LowCardinality,
        width_seconds: U32,
        value: NullableF64,
        threshold: F64,
        volume: U64,
        started_at: Micros,
        at: Micros,
        runbook: Strings,
        summary: Strings,
        kafka_partition: U16,
        kafka_offset: U64,
    }
}

/// The fields of the value of `mail.alerts` besides those of the scope; see
/// `schemas/alert.schema.json`. Unlike [`window::Alert`], it borrows its texts and accepts alerts
/// that were written before the field `numerator` existed.
#[derive(Deserialize)]
struct Alert<'a> {
    #[serde(borrow)]
    episode_id: Text<'a>,
    #[serde(borrow)]
    rule: Text<'a>,
    #[serde(borrow)]
    severity: Text<'a>,
    #[serde(borrow)]
    state: Text<'a>,
    #[serde(borrow)]
    metric: Text<'a>,
    width: Width,
    value: Option<f64>,
    threshold: f64,
    volume: u64,
    started_at: i64,
    at: i64,
    #[serde(borrow)]
    runbook: Text<'a>,
    #[serde(borrow)]
    summary: Text<'a>,
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
        self.severity.push(&alert.severity);
        self.state.push(&alert.state);
        self.metric.push(&alert.metric);
        self.width_seconds.push(alert.width.seconds());
        self.value.push(alert.value);
        self.threshold.push(alert.threshold);
        self.volume.push(alert.volume);
        self.started_at.push(alert.started_at);
        self.at.push(alert.at);
        self.runbook.push(alert.runbook.as_bytes());
        self.summary.push(alert.summary.as_bytes());
        self.kafka_partition.push(at.partition);
        self.kafka_offset.push(at.offset);
        self.rows += 1;
        Ok(())
    }
}
