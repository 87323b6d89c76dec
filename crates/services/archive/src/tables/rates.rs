use event::{Counter, Provider, Text};
use record::Reason;
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
        sender_domain: LowCardinality,
        sending_ip: LowCardinality,
        tenant: LowCardinality,
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
        deferred_settled: U64,
        deferrals: U64,
        bounced_block: U64,
        auto_replies: U64,
        suppressed: U64,
        delivered_fbl: U64,
        late_bounces_fbl: U64,
        auth_refused: U64,
        throttled: U64,
        listed: U64,
        unclassified: U64,
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
        soft_bounce_rate: NullableF64,
        block_bounce_rate: NullableF64,
        undetermined_bounce_rate: NullableF64,
        late_bounce_rate: NullableF64,
        deferral_rate: NullableF64,
        delivery_rate: NullableF64,
        plain_complaint_rate: NullableF64,
        open_with_machines_rate: NullableF64,
        injection_loss_rate: NullableF64,
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
        if !scope.is_complete() {
            return Err(incomplete_scope());
        }
        self.scope.push(scope.kind.as_str());
        self.provider.push(scope.provider.map_or("", Provider::as_str));
        self.source.push(text(&scope.source));
        self.mailbox_provider.push(text(&scope.mailbox_provider));
        self.campaign.push(text(&scope.campaign));
        self.sender_domain.push(text(&scope.sender_domain));
        self.sending_ip.push(text(&scope.sending_ip));
        self.tenant.push(text(&scope.tenant));
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
        // The column of injected messages has the name that it had in the first release.
        self.accepted.push(counts.get(Counter::Injected));
        self.delivered.push(counts.get(Counter::Delivered));
        self.deferred.push(counts.get(Counter::Deferred));
        self.bounced_hard.push(counts.get(Counter::BouncedHard));
        self.bounced_soft.push(counts.get(Counter::BouncedSoft));
        self.bounced_undetermined.push(counts.get(Counter::BouncedUndetermined));
        self.late_bounces.push(counts.get(Counter::LateBounces));
        self.dropped.push(counts.get(Counter::Dropped));
        self.opened.push(counts.get(Counter::Opened));
        self.clicked.push(counts.get(Counter::Clicked));
        self.engaged.push(counts.get(Counter::Engaged));
        self.machine_opened.push(counts.get(Counter::MachineOpened));
        self.machine_clicked.push(counts.get(Counter::MachineClicked));
        self.complained.push(counts.get(Counter::Complained));
        self.unsubscribed.push(counts.get(Counter::Unsubscribed));
        self.deferred_settled.push(counts.get(Counter::DeferredSettled));
        self.deferrals.push(counts.get(Counter::Deferrals));
        self.bounced_block.push(counts.get(Counter::BouncedBlock));
        self.auto_replies.push(counts.get(Counter::AutoReplies));
        self.suppressed.push(counts.get(Counter::Suppressed));
        self.delivered_fbl.push(counts.get(Counter::DeliveredFbl));
        self.late_bounces_fbl.push(counts.get(Counter::LateBouncesFbl));
        self.auth_refused.push(counts.get(Counter::AuthRefused));
        self.throttled.push(counts.get(Counter::Throttled));
        self.listed.push(counts.get(Counter::Listed));
        self.unclassified.push(counts.get(Counter::Unclassified));
    }

    fn push_rates(&mut self, rates: &window::Rates) {
        self.sent.push(rates.sent);
        // Earlier releases estimated it for some sources.
        self.sent_is_estimated.push(false);
        self.accepted_by_recipient.push(rates.accepted_by_recipient);
        self.bounce_rate.push(rates.bounce);
        self.hard_bounce_rate.push(rates.hard_bounce);
        self.complaint_rate.push(rates.complaint);
        self.unsubscribe_rate.push(rates.unsubscribe);
        self.open_rate.push(rates.open);
        self.click_rate.push(rates.click);
        self.engagement_rate.push(rates.engagement);
        self.soft_bounce_rate.push(rates.soft_bounce);
        self.block_bounce_rate.push(rates.block_bounce);
        self.undetermined_bounce_rate.push(rates.undetermined_bounce);
        self.late_bounce_rate.push(rates.late_bounce);
        self.deferral_rate.push(rates.deferral);
        self.delivery_rate.push(rates.delivery);
        self.plain_complaint_rate.push(rates.plain_complaint);
        self.open_with_machines_rate.push(rates.open_with_machines);
        self.injection_loss_rate.push(rates.injection_loss);
    }
}

pub(super) fn text<'t>(text: &'t Option<Text<'_>>) -> &'t str {
    text.as_deref().unwrap_or_default()
}

/// Returns the error for a scope that lacks its source, or has one although it is of a tenant.
pub(super) fn incomplete_scope() -> RowError {
    let detail = "the scope needs provider and source, unless it is of a tenant".to_owned();
    RowError { reason: Reason::WrongShape, detail }
}
