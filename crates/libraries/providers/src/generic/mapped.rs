//! Splits and parses the bodies of a source with a mapping.

use std::borrow::Cow;

use event::{Delivery, Event, Kind, Permanence, Provider, Text, recipient_key};
use serde::de::IgnoredAny;

use super::Mapping;
use super::parse::Facts;
use crate::json;
use crate::{Envelope, ParseError, Pointer, SplitBody, SplitError, sending};

const EXPECTED: &str = "an object or an array of objects at `events`";

impl Mapping {
    /// Splits a verified body into its events without changing a byte of them. An event of several
    /// recipients is returned once for each recipient.
    pub(super) fn split<'b>(&self, body: &'b [u8]) -> Result<SplitBody<'b>, SplitError> {
        self.split_at(&self.events, body)
    }

    /// Splits one raw event, or an array of them, without the body around them.
    pub(super) fn split_events<'b>(&self, raw: &'b [u8]) -> Result<SplitBody<'b>, SplitError> {
        self.split_at(&Pointer::whole(), raw)
    }

    fn split_at<'b>(&self, events: &Pointer, body: &'b [u8]) -> Result<SplitBody<'b>, SplitError> {
        let text = json::text(body)?;
        json::check(text)?;
        let found = events.json(text).ok_or(SplitError::WrongShape(EXPECTED))?;
        let found = if found.starts_with('"') { unquoted(&found)? } else { found };
        let events = json::objects::<IgnoredAny>(&found);
        let events = events.map_err(|_| SplitError::WrongShape(EXPECTED))?;
        let mut split = SplitBody::with_capacity(body, events.len());
        for (_, raw) in &events {
            let kind = self.meant(self.fields.event.text(raw).as_deref()).kind;
            let addresses = self.fields.recipient.texts(raw);
            let mut recipients: Vec<_> =
                addresses.iter().map(|address| recipient_key(address)).collect();
            recipients.sort_unstable();
            recipients.dedup();
            if recipients.is_empty() {
                split.push(kind, "", raw.as_bytes());
            }
            for recipient in &recipients {
                split.push(kind, recipient, raw.as_bytes());
            }
        }
        Ok(split)
    }

    /// Converts one raw event to the canonical event.
    pub(super) fn parse<'a>(
        &self,
        raw: &'a [u8],
        envelope: &Envelope<'a>,
    ) -> Result<Event<'a>, ParseError> {
        let (_, raw) = json::event::<IgnoredAny>(raw)?;
        let event = raw.get();
        let fields = &self.fields;
        let name = fields.event.text(event);
        let meant = self.meant(name.as_deref());
        let message_id = fields.message_id.text(event);
        let said = || permanence(fields.permanence.text(event).as_deref());
        let facts = Facts {
            kind: meant.kind,
            event: name,
            timestamp: fields.timestamp.json(event),
            id: fields.id.text(event),
            // Without a message, time and name are not enough: a batch may have several such events.
            key: message_id.is_none().then_some(event),
            message_id,
            campaign: fields.campaign.text(event),
            stream: fields.stream.text(event),
            tags: fields.tags.texts(event),
            url: fields.url.text(event),
            ip: fields.ip.text(event),
            user_agent: fields.user_agent.text(event),
            is_machine: fields.machine.text(event).and_then(|text| flag(&text)).unwrap_or(false),
            permanence: meant.permanence.or_else(said),
            status: fields.status.text(event),
            diagnostic: fields.reason.text(event),
            sender: fields.sender.text(event),
            sent_at: fields.sent_at.json(event),
            sending_ip: fields.sending_ip.text(event),
            delivery: self.delivery(meant.kind, event),
        };
        facts.into_event(Provider::Generic, raw, envelope).map(Event::within_limits)
    }

    /// Reads the attempt that an event reports. Other events are not searched for it.
    fn delivery<'a>(&self, kind: Kind, event: &'a str) -> Delivery<'a> {
        if !kind.is_attempt() {
            return Delivery::default();
        }
        let fields = &self.fields;
        Delivery {
            server: fields.server.text(event),
            response: fields.response.text(event),
            tls: fields.tls.text(event).and_then(|text| flag(&text)),
            millis: fields.millis.text(event).and_then(|text| sending::parsed_millis(&text)),
        }
    }
}

/// Reads a flag. Returns `None` if it is neither true nor false.
fn flag(text: &Text<'_>) -> Option<bool> {
    let is = |words: [&str; 2]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    is(["true", "1"]).then_some(true).or_else(|| is(["false", "0"]).then_some(false))
}

/// Returns the text of a JSON string, in which some senders put their events.
fn unquoted(string: &str) -> Result<Cow<'static, str>, SplitError> {
    let text: Result<String, _> = serde_json::from_str(string);
    text.map(Cow::Owned).map_err(|_| SplitError::WrongShape(EXPECTED))
}

/// Reads the sender's word for hard and soft refusals.
fn permanence(word: Option<&str>) -> Option<Permanence> {
    let word = word?.to_ascii_lowercase();
    let is = |words: &[&str]| words.iter().any(|known| word.starts_with(known));
    if is(&["hard", "perm"]) {
        Some(Permanence::Hard)
    } else if is(&["soft", "temp", "transient"]) {
        Some(Permanence::Soft)
    } else if is(&["undetermined"]) {
        Some(Permanence::Undetermined)
    } else {
        None
    }
}
