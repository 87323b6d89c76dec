use serde::Deserialize;

use super::scope::{Scope, seconds};
use super::{BadRow, Coordinates};
use crate::native::{Bools, LowCardinality, Micros, NullableF64, U16, U32, U64, columns};

columns! {
    /// Rows of `rates`.
    Rates {
        scope: LowCardinality,
        provider: LowCardinality,
        source: LowCardinality,
        mailbox_provider: LowCardinality,
        campaign: LowCardinality,
        width_seconds: U32,
        window_end: Micros,
        revision: U32,
        accepted: U64,
        delivered: U64,
        deferred: U64,
        bounced_hard: U64,
        bounced_soft: U64,
        bounced_undetermined: U64,
        late_bounces: U64,
        dropped: U64,
        opened: U64,
        clicked: U64,
        engaged: U64,
        machine_opened: U64,
        machine_clicked: U64,
        complained: U64,
        unsubscribed: U64,
        sent: U64,
        sent_is_estimated: Bools,
        accepted_by_recipient: U64,
        bounce_rate: NullableF64,
        hard_bounce_rate: NullableF64,
        complaint_rate: NullableF64,
        unsubscribe_rate: NullableF64,
        open_rate: NullableF64,
        click_rate: NullableF64,
        engagement_rate: NullableF64,
        kafka_partition: U16,
        kafka_offset: U64,
    }
}

/// The value of `mail.rates`; see `schemas/rate.schema.json`. The scope's fields lie beside these
/// and are read apart, for `flatten` would copy every string.
#[derive(Deserialize)]
struct Rate {
    #[serde(deserialize_with = "seconds")]
    width: u32,
    end: i64,
    revision: u32,
    counts: Counts,
    rates: Shares,
}

/// Counters that are 0 are left out.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Counts {
    accepted: u64,
    delivered: u64,
    deferred: u64,
    bounced_hard: u64,
    bounced_soft: u64,
    bounced_undetermined: u64,
    late_bounces: u64,
    dropped: u64,
    opened: u64,
    clicked: u64,
    engaged: u64,
    machine_opened: u64,
    machine_clicked: u64,
    complained: u64,
    unsubscribed: u64,
}

/// Shares are null while there is nothing to divide by.
#[derive(Deserialize)]
struct Shares {
    sent: u64,
    #[serde(default)]
    sent_is_estimated: bool,
    accepted_by_recipient: u64,
    bounce: Option<f64>,
    hard_bounce: Option<f64>,
    complaint: Option<f64>,
    unsubscribe: Option<f64>,
    open: Option<f64>,
    click: Option<f64>,
    engagement: Option<f64>,
}

impl Rates {
    /// Adds the value of a record of `mail.rates`.
    ///
    /// # Errors
    /// When it is not of the shape.
    pub fn push(&mut self, at: Coordinates, value: &[u8]) -> Result<(), BadRow> {
        let scope: Scope<'_> = serde_json::from_slice(value)?;
        let rate: Rate = serde_json::from_slice(value)?;
        self.scope.push(scope.scope.as_str());
        self.provider.push(scope.provider.as_str());
        self.source.push(&scope.source);
        self.mailbox_provider.push(scope.mailbox_provider.as_deref().unwrap_or_default());
        self.campaign.push(scope.campaign.as_deref().unwrap_or_default());
        self.width_seconds.push(rate.width);
        self.window_end.push(rate.end);
        self.revision.push(rate.revision);
        self.push_counts(&rate.counts);
        self.push_shares(&rate.rates);
        self.kafka_partition.push(at.partition);
        self.kafka_offset.push(at.offset);
        self.rows += 1;
        Ok(())
    }

    fn push_counts(&mut self, counts: &Counts) {
        self.accepted.push(counts.accepted);
        self.delivered.push(counts.delivered);
        self.deferred.push(counts.deferred);
        self.bounced_hard.push(counts.bounced_hard);
        self.bounced_soft.push(counts.bounced_soft);
        self.bounced_undetermined.push(counts.bounced_undetermined);
        self.late_bounces.push(counts.late_bounces);
        self.dropped.push(counts.dropped);
        self.opened.push(counts.opened);
        self.clicked.push(counts.clicked);
        self.engaged.push(counts.engaged);
        self.machine_opened.push(counts.machine_opened);
        self.machine_clicked.push(counts.machine_clicked);
        self.complained.push(counts.complained);
        self.unsubscribed.push(counts.unsubscribed);
    }

    fn push_shares(&mut self, shares: &Shares) {
        self.sent.push(shares.sent);
        self.sent_is_estimated.push(shares.sent_is_estimated);
        self.accepted_by_recipient.push(shares.accepted_by_recipient);
        self.bounce_rate.push(shares.bounce);
        self.hard_bounce_rate.push(shares.hard_bounce);
        self.complaint_rate.push(shares.complaint);
        self.unsubscribe_rate.push(shares.unsubscribe);
        self.open_rate.push(shares.open);
        self.click_rate.push(shares.click);
        self.engagement_rate.push(shares.engagement);
    }
}
