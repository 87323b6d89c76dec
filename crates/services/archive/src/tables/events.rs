use event::{
    AutomationReason, Bounce, BounceClass, BounceSide, Client, Device, Event, Geo, Permanence,
    Text, TimeFault,
};
use record::{FirstSeen, names};

use super::{Coordinates, RowError};
use crate::native::{
    Bools, F32, LowCardinality, LowCardinalityArray, Micros, StringMap, Strings, U16, U32, U64,
    columns,
};

columns! {
    /// The rows of the table `events`. The columns have the order of the fields of
    /// [`event::Event`].
    Events {
        event_id: Strings,
        kind: LowCardinality,
        provider: LowCardinality,
        source: LowCardinality,
        occurred_at: Micros,
        received_at: Micros,
        time_fault: LowCardinality,
        recipient: Strings,
        recipient_domain: LowCardinality,
        mailbox_provider: LowCardinality,
        message_id: Strings,
        campaign: LowCardinality,
        stream: LowCardinality,
        tenant: LowCardinality,
        tags: LowCardinalityArray,
        bounce_permanence: LowCardinality,
        bounce_class: LowCardinality,
        bounce_side: LowCardinality,
        bounce_status: LowCardinality,
        bounce_diagnostic: Strings,
        bounce_late: Bools,
        automation_reason: LowCardinality,
        automation_confidence: F32,
        first_of_kind: Bools,
        first_engagement: Bools,
        user_agent: Strings,
        ip: Strings,
        url: Strings,
        provider_event: LowCardinality,
        provider_event_id: Strings,
        request_id: Strings,
        client_device: LowCardinality,
        client_os: LowCardinality,
        client_name: LowCardinality,
        geo_country: LowCardinality,
        geo_region: LowCardinality,
        geo_city: LowCardinality,
        geo_asn: U32,
        geo_network: LowCardinality,
        labels: StringMap,
        raw: Strings,
        kafka_partition: U16,
        kafka_offset: U64,
    }
}

impl Events {
    /// Adds the value and the header `first` of a record of `mail.events`. The other headers repeat
    /// parts of the value.
    ///
    /// # Errors
    /// Fails if the value is not an [`event::Event`] or the header is malformed.
    pub fn push<'a>(
        &mut self,
        at: Coordinates,
        value: &'a [u8],
        header: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<(), RowError> {
        let event: Event<'a> = serde_json::from_slice(value)?;
        let first = match event.kind.is_engagement().then(|| header(names::FIRST)).flatten() {
            Some(first) => FirstSeen::from_header(first)?,
            None => FirstSeen::default(),
        };
        self.push_event(&event, first);
        self.kafka_partition.push(at.partition);
        self.kafka_offset.push(at.offset);
        self.rows += 1;
        Ok(())
    }

    /// See [`super::Rows::received`].
    pub(super) fn received(&self) -> Vec<i64> {
        const MAX_SAMPLES: usize = 64;
        self.received_at.values().step_by(self.rows.div_ceil(MAX_SAMPLES).max(1)).collect()
    }

    fn push_event(&mut self, event: &Event<'_>, first: FirstSeen) {
        let mut id = [0; 32];
        // This fails only for a buffer of another length.
        let _ = hex::encode_to_slice(event.event_id.as_bytes(), &mut id);
        self.event_id.push(&id);
        self.kind.push(event.kind.as_str());
        self.provider.push(event.provider.as_str());
        self.source.push(&event.source);
        self.occurred_at.push(event.occurred_at.micros());
        self.received_at.push(event.received_at.micros());
        self.time_fault.push(event.time_fault.map_or("", TimeFault::as_str));
        self.recipient.push(text(&event.recipient).as_bytes());
        self.recipient_domain.push(text(&event.recipient_domain));
        self.mailbox_provider.push(text(&event.mailbox_provider));
        self.message_id.push(text(&event.message_id).as_bytes());
        self.campaign.push(text(&event.campaign));
        self.stream.push(text(&event.stream));
        self.tenant.push(text(&event.tenant));
        self.tags.push(event.tags.iter().map(Text::as_str));
        self.push_bounce(event.bounce.as_ref());
        let automation = event.automation;
        self.automation_reason
            .push(automation.map_or("", |found| AutomationReason::as_str(found.reason)));
        self.automation_confidence.push(automation.map_or(0.0, |found| found.confidence));
        self.first_of_kind.push(first.of_kind);
        self.first_engagement.push(first.of_engagement);
        self.user_agent.push(text(&event.user_agent).as_bytes());
        self.ip.push(text(&event.ip).as_bytes());
        self.url.push(text(&event.url).as_bytes());
        self.provider_event.push(&event.provider_event);
        self.provider_event_id.push(text(&event.provider_event_id).as_bytes());
        self.request_id.push(event.request_id.as_bytes());
        self.push_client(event.client.as_ref());
        self.push_geo(event.geo.as_ref());
        let labels = event.labels.iter();
        self.labels.push(labels.map(|(name, value)| (name.as_str(), value.as_bytes())));
        self.raw.push(event.raw.get().as_bytes());
    }

    fn push_client(&mut self, client: Option<&Client<'_>>) {
        let device = client.and_then(|client| client.device);
        self.client_device.push(device.map_or("", Device::as_str));
        self.client_os.push(client.map_or("", |client| text(&client.os)));
        self.client_name.push(client.map_or("", |client| text(&client.name)));
    }

    fn push_geo(&mut self, geo: Option<&Geo<'_>>) {
        self.geo_country.push(geo.map_or("", |geo| text(&geo.country)));
        self.geo_region.push(geo.map_or("", |geo| text(&geo.region)));
        self.geo_city.push(geo.map_or("", |geo| text(&geo.city)));
        self.geo_asn.push(geo.and_then(|geo| geo.asn).unwrap_or(0));
        self.geo_network.push(geo.map_or("", |geo| text(&geo.network)));
    }

    fn push_bounce(&mut self, bounce: Option<&Bounce<'_>>) {
        self.bounce_permanence.push(bounce.map_or("", |b| Permanence::as_str(b.permanence)));
        self.bounce_class.push(bounce.map_or("", |b| BounceClass::as_str(b.class)));
        self.bounce_side.push(bounce.map_or("", |b| BounceSide::as_str(b.side)));
        self.bounce_status.push(bounce.map_or("", |b| text(&b.status)));
        self.bounce_diagnostic.push(bounce.map_or("", |b| text(&b.diagnostic)).as_bytes());
        self.bounce_late.push(bounce.is_some_and(|b| b.late));
    }
}

fn text<'t>(text: &'t Option<Text<'_>>) -> &'t str {
    text.as_ref().map_or("", Text::as_str)
}

#[cfg(test)]
mod tests {
    use record::Reason;

    use super::*;

    const AT: Coordinates = Coordinates { partition: 1, offset: 5 };
    const OPENED: &str = r#"{"event_id":"000102030405060708090a0b0c0d0e0f","kind":"opened","provider":"ses","source":"acme","occurred_at":1,"received_at":2,"provider_event":"Open","request_id":"r","raw":{"a":1}}"#;

    fn reason(value: &str, first: &'static [u8]) -> Reason {
        let mut events = Events::default();
        let error = events.push(AT, value.as_bytes(), |_| Some(first)).unwrap_err();
        assert_eq!(events.finish().rows, 0);
        error.reason
    }

    #[test]
    fn a_malformed_record_is_rejected_with_its_reason_and_adds_no_row() {
        assert_eq!(reason("", b""), Reason::NotJson);
        assert_eq!(reason(&OPENED[..40], b""), Reason::NotJson);
        assert_eq!(reason("{}", b""), Reason::WrongShape);
        assert_eq!(reason(&OPENED.replace("opened", "heard"), b""), Reason::WrongShape);
        assert_eq!(reason(OPENED, b"yes"), Reason::BadHeaders);
    }

    #[test]
    fn the_header_first_is_ignored_except_on_opens_and_clicks() {
        let mut events = Events::default();
        events.push(AT, OPENED.as_bytes(), |_| Some(b"kind")).unwrap();
        events.push(AT, OPENED.as_bytes(), |_| None).unwrap();
        let delivered = OPENED.replace("opened", "delivered");
        events.push(AT, delivered.as_bytes(), |_| Some(b"yes")).unwrap();
        assert_eq!(events.finish().rows, 3);
    }
}
