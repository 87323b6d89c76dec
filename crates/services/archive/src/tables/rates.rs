use window::{Counts, ScopeFields, WindowResult};

use super::{Coordinates, RowError};
use crate::native::{Bools, LowCardinality, Micros, NullableF64, U16, U32, U64, columns};

columns! {
    /// The rows of the table `rates`.
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

impl Rates {
    /// Adds the value of a record of `mail.rates`, which has the shape of
    /// `schemas/rate.schema.json`.
    ///
    /// # Errors
    /// Fails if the value has another shape.
    pub fn push(&mut self, at: Coordinates, value: &[u8]) -> Result<(), RowError> {
        // The value is parsed twice: with serde's `flatten`, which reads both parts at once, every
        // string would be copied.
        let scope: ScopeFields<'_> = serde_json::from_slice(value)?;
        let window: WindowResult = serde_json::from_slice(value)?;
        self.scope.push(scope.kind.as_str());
        self.provider.push(scope.provider.as_str());
        self.source.push(&scope.source);
        self.mailbox_provider.push(scope.mailbox_provider.as_deref().unwrap_or_default());
        self.campaign.push(scope.campaign.as_deref().unwrap_or_default());
        self.width_seconds.push(window.width.seconds());
        self.window_end.push(window.end);
        self.revision.push(window.revision);
        self.push_counts(&window.counts);
        self.push_rates(&window.rates);
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

    fn push_rates(&mut self, rates: &window::Rates) {
        self.sent.push(rates.sent);
        self.sent_is_estimated.push(rates.sent_is_estimated);
        self.accepted_by_recipient.push(rates.accepted_by_recipient);
        self.bounce_rate.push(rates.bounce);
        self.hard_bounce_rate.push(rates.hard_bounce);
        self.complaint_rate.push(rates.complaint);
        self.unsubscribe_rate.push(rates.unsubscribe);
        self.open_rate.push(rates.open);
        self.click_rate.push(rates.click);
        self.engagement_rate.push(rates.engagement);
    }
}
