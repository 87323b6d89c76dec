use event::{
    AutomationReason, Bounce, BounceClass, BounceSide, Client, Conversion, Counter, CounterSet,
    Delivery, Device, Event, Geo, OccurredAt, Permanence, Text, TimeFault,
};
use privacy::Eraser;
use record::{FirstSeen, Tally, names, text_header};

use super::{Coordinates, RowError};
use crate::native::{
    Bools, F32, LowCardinality, LowCardinalityArray, Micros, NullableBools, NullableF64,
    NullableMicros, NullableU32, StringMap, Strings, U16, U32, U64, columns,
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
        sender_domain: LowCardinality,
        sending_ip: LowCardinality,
        authentic: Bools,
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
        seen: U32,
        late: Bools,
        sent: NullableMicros,
        counts: LowCardinalityArray,
        corrections: Strings,
        user_agent: Strings,
        ip: Strings,
        url: Strings,
        conversion: LowCardinality,
        conversion_value: NullableF64,
        interest: LowCardinality,
        provider_event: LowCardinality,
        provider_event_id: Strings,
        request_id: Strings,
        client_device: LowCardinality,
        client_os: LowCardinality,
        client_name: LowCardinality,
        sent_at: NullableMicros,
        claimed_at: NullableMicros,
        sender: Strings,
        delivery_server: LowCardinality,
        delivery_response: Strings,
        delivery_tls: NullableBools,
        delivery_millis: NullableU32,
        signals: LowCardinalityArray,
        geo_country: LowCardinality,
        geo_region: LowCardinality,
        geo_city: LowCardinality,
        geo_asn: U32,
        geo_network: LowCardinality,
        geo_time_zone: LowCardinality,
        labels: StringMap,
        raw: Strings,
        kafka_partition: U16,
        kafka_offset: U64,
    }
}

impl Events {
    /// Adds the value of a record of `mail.events`, and the headers with what `dedupe` found out. The
    /// other headers repeat parts of the value.
    ///
    /// # Errors
    /// Fails if the value is not an [`event::Event`] or a header is malformed.
    pub fn push<'a>(
        &mut self,
        at: Coordinates,
        value: &'a [u8],
        header: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<(), RowError> {
        self.push_erased(at, value, header, &Eraser::default())
    }

    /// Like [`Events::push`], without what the event says about erased recipients. An earlier stage may have removed
    /// them already.
    ///
    /// # Errors
    /// As [`Events::push`].
    pub fn push_erased<'a>(
        &mut self,
        at: Coordinates,
        value: &'a [u8],
        header: impl Fn(&str) -> Option<&'a [u8]>,
        eraser: &Eraser,
    ) -> Result<(), RowError> {
        let event: Event<'a> = serde_json::from_slice(value)?;
        let findings = Findings::read(&event, &header)?;
        let is_erased = |fingerprint: [u8; 8]| header(names::ERASED) == Some(&fingerprint[..]);
        if eraser.fingerprint().is_none_or(is_erased) {
            self.push_event(&event, &findings);
        } else {
            eraser.with_erased(&event, |event| self.push_event(event, &findings));
        }
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

    fn push_event(&mut self, event: &Event<'_>, findings: &Findings<'_>) {
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
        self.sender_domain.push(text(&event.sender_domain));
        self.sending_ip.push(text(&event.sending_ip));
        self.authentic.push(event.authentic);
        self.tags.push(event.tags.iter().map(Text::as_str));
        self.push_bounce(event.bounce.as_ref());
        let automation = event.automation;
        self.automation_reason
            .push(automation.map_or("", |found| AutomationReason::as_str(found.reason)));
        self.automation_confidence.push(automation.map_or(0.0, |found| found.confidence));
        self.first_of_kind.push(findings.first.of_kind);
        self.first_engagement.push(findings.first.of_engagement);
        self.seen.push(findings.seen);
        self.late.push(findings.is_late);
        self.sent.push(findings.sent.map(OccurredAt::micros));
        self.counts.push(findings.counts.iter().map(Counter::as_str));
        self.corrections.push(findings.corrections.as_bytes());
        self.user_agent.push(text(&event.user_agent).as_bytes());
        self.ip.push(text(&event.ip).as_bytes());
        self.url.push(text(&event.url).as_bytes());
        self.push_conversion(event.conversion.as_ref());
        self.interest.push(text(&event.interest));
        self.provider_event.push(&event.provider_event);
        self.provider_event_id.push(text(&event.provider_event_id).as_bytes());
        self.request_id.push(event.request_id.as_bytes());
        self.push_client(event.client.as_ref());
        self.sent_at.push(event.sent_at.map(OccurredAt::micros));
        self.claimed_at.push(event.claimed_at.map(OccurredAt::micros));
        self.sender.push(text(&event.sender).as_bytes());
        self.push_delivery(event.delivery.as_ref());
        self.signals.push(event.signals.iter().map(Text::as_str));
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

    fn push_conversion(&mut self, conversion: Option<&Conversion<'_>>) {
        self.conversion.push(conversion.map_or("", |it| it.name.as_str()));
        self.conversion_value.push(conversion.and_then(|it| it.value));
    }

    fn push_geo(&mut self, geo: Option<&Geo<'_>>) {
        self.geo_country.push(geo.map_or("", |geo| text(&geo.country)));
        self.geo_region.push(geo.map_or("", |geo| text(&geo.region)));
        self.geo_city.push(geo.map_or("", |geo| text(&geo.city)));
        self.geo_asn.push(geo.and_then(|geo| geo.asn).unwrap_or(0));
        self.geo_network.push(geo.map_or("", |geo| text(&geo.network)));
        self.geo_time_zone.push(geo.map_or("", |geo| text(&geo.time_zone)));
    }

    fn push_delivery(&mut self, delivery: Option<&Delivery<'_>>) {
        self.delivery_server.push(delivery.map_or("", |it| text(&it.server)));
        self.delivery_response.push(delivery.map_or("", |it| text(&it.response)).as_bytes());
        self.delivery_tls.push(delivery.and_then(|it| it.tls));
        let millis = delivery.and_then(|it| it.millis);
        self.delivery_millis.push(millis.map(|it| u32::try_from(it).unwrap_or(u32::MAX)));
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

/// What the headers say about an event: what `dedupe` knows about its message and recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Findings<'a> {
    first: FirstSeen,
    /// 0 if it is not known.
    seen: u32,
    is_late: bool,
    sent: Option<OccurredAt>,
    counts: CounterSet,
    /// As in the header.
    corrections: &'a str,
}

impl<'a> Findings<'a> {
    fn read(
        event: &Event<'_>,
        header: &impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<Self, RowError> {
        let first = match event.kind.is_engagement().then(|| header(names::FIRST)).flatten() {
            Some(first) => FirstSeen::from_header(first)?,
            None => FirstSeen::default(),
        };
        let is_late = header(names::LATE).is_some();
        let Tally { seen, counts, sent, corrections } = Tally::read(header)?;
        let seen = seen.map_or(0, u32::from);
        let corrections = match corrections {
            Some(_) => text_header(header, names::CORRECTIONS)?,
            None => "",
        };
        Ok(Self { first, seen, is_late, sent, counts: counts.unwrap_or_default(), corrections })
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
        reason_of(value, names::FIRST, first)
    }

    fn reason_of(value: &str, name: &str, bytes: &'static [u8]) -> Reason {
        let mut events = Events::default();
        let header = |other: &str| (other == name).then_some(bytes);
        let error = events.push(AT, value.as_bytes(), header).unwrap_err();
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
        for header in [names::SEEN, names::SENT, names::TALLY] {
            assert_eq!(reason_of(OPENED, header, b"-"), Reason::BadHeaders, "{header}");
        }
    }

    #[test]
    fn the_header_first_is_ignored_except_on_opens_and_clicks() {
        let mut events = Events::default();
        let header =
            |bytes: &'static [u8]| move |name: &str| (name == names::FIRST).then_some(bytes);
        events.push(AT, OPENED.as_bytes(), header(b"kind")).unwrap();
        events.push(AT, OPENED.as_bytes(), |_| None).unwrap();
        let delivered = OPENED.replace("opened", "delivered");
        events.push(AT, delivered.as_bytes(), header(b"yes")).unwrap();
        assert_eq!(events.finish().rows, 3);
    }
}
