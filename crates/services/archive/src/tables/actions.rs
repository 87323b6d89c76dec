use event::{EventId, Text};
use privacy::Eraser;
use serde::Deserialize;

use super::rates::text;
use super::{Coordinates, RowError};
use crate::native::{
    Bools, LowCardinality, Micros, NullableI64, NullableMicros, Strings, U16, U64, columns,
};

columns! {
    /// The rows of the table `actions`.
    Actions {
        action_id: Strings,
        rule: LowCardinality,
        index: LowCardinality,
        r#type: LowCardinality,
        name: LowCardinality,
        add: NullableI64,
        at: Micros,
        decided_at: NullableMicros,
        intent_id: Strings,
        follow_up: Bools,
        event_id: Strings,
        kind: LowCardinality,
        provider: LowCardinality,
        source: LowCardinality,
        tenant: LowCardinality,
        campaign: LowCardinality,
        message_id: Strings,
        recipient: Strings,
        mailbox_provider: LowCardinality,
        kafka_partition: U16,
        kafka_offset: U64,
    }
}

/// The value of `mail.actions`; see `schemas/action.schema.json`. Unlike the record of the library `automation`, it
/// has only what becomes a column, and does not depend on the values of enumerations that a later release may have.
#[derive(Deserialize)]
struct Action<'a> {
    action_id: EventId,
    #[serde(borrow)]
    rule: Text<'a>,
    #[serde(borrow)]
    index: Text<'a>,
    #[serde(borrow, rename = "type")]
    action: Text<'a>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(default)]
    add: Option<i64>,
    at: i64,
    intent_id: EventId,
    #[serde(borrow, flatten)]
    subject: Subject<'a>,
}

/// What started the rule.
#[derive(Deserialize)]
enum Subject<'a> {
    #[serde(borrow, rename = "event")]
    Event(Facts<'a>),
    #[serde(borrow, rename = "incident")]
    Incident(IncidentFacts<'a>),
}

/// The incident that started the rule.
#[derive(Deserialize)]
struct IncidentFacts<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow, default)]
    provider: Option<Text<'a>>,
    #[serde(borrow, default)]
    source: Option<Text<'a>>,
    #[serde(borrow, default)]
    tenant: Option<Text<'a>>,
    #[serde(borrow, default)]
    campaign: Option<Text<'a>>,
    #[serde(borrow, default)]
    mailbox_provider: Option<Text<'a>>,
}

/// The value of the column `kind` if an incident started the rule.
const INCIDENT: &str = "incident";

/// The event that started the rule.
#[derive(Deserialize)]
struct Facts<'a> {
    event_id: EventId,
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    provider: Text<'a>,
    #[serde(borrow)]
    source: Text<'a>,
    #[serde(borrow)]
    recipient: Text<'a>,
    #[serde(borrow, default)]
    tenant: Option<Text<'a>>,
    #[serde(borrow, default)]
    campaign: Option<Text<'a>>,
    #[serde(borrow, default)]
    message_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    mailbox_provider: Option<Text<'a>>,
}

impl Actions {
    /// Adds the value of a record of `mail.actions`. `decided_at` is when `automate-limit` wrote the record, in UTC
    /// microseconds. `None`: not known.
    ///
    /// # Errors
    /// As [`Actions::push_erased`].
    pub fn push(
        &mut self,
        at: Coordinates,
        decided_at: Option<i64>,
        value: &[u8],
    ) -> Result<(), RowError> {
        self.push_erased(at, decided_at, value, &Eraser::default())
    }

    /// Like [`Actions::push`], without what the action says about erased recipients. The columns have nothing else
    /// about a person than the address and texts that may quote it.
    ///
    /// # Errors
    /// Fails if the value does not have the shape of `schemas/action.schema.json`.
    pub fn push_erased(
        &mut self,
        at: Coordinates,
        decided_at: Option<i64>,
        value: &[u8],
        eraser: &Eraser,
    ) -> Result<(), RowError> {
        let value = eraser.erase_body(value);
        let action: Action<'_> = serde_json::from_slice(&value)?;
        self.action_id.push(action.action_id.to_string().as_bytes());
        self.rule.push(&action.rule);
        self.index.push(&action.index);
        self.r#type.push(&action.action);
        self.name.push(text(&action.name));
        self.add.push(action.add);
        self.at.push(action.at);
        self.decided_at.push(decided_at);
        self.intent_id.push(action.intent_id.to_string().as_bytes());
        // The first action in the follow-up at 2 has the index `2.0`.
        self.follow_up.push(action.index.contains('.'));
        match &action.subject {
            Subject::Event(event) => self.push_event(event, eraser),
            Subject::Incident(incident) => self.push_incident(incident),
        }
        self.kafka_partition.push(at.partition);
        self.kafka_offset.push(at.offset);
        self.rows += 1;
        Ok(())
    }

    fn push_incident(&mut self, incident: &IncidentFacts<'_>) {
        self.event_id.push(incident.id.as_bytes());
        self.kind.push(INCIDENT);
        self.provider.push(text(&incident.provider));
        self.source.push(text(&incident.source));
        self.tenant.push(text(&incident.tenant));
        self.campaign.push(text(&incident.campaign));
        self.message_id.push(b"");
        self.recipient.push(b"");
        self.mailbox_provider.push(text(&incident.mailbox_provider));
    }

    fn push_event(&mut self, event: &Facts<'_>, eraser: &Eraser) {
        // An address of a rare form is not recognised as a part of the whole value.
        let pseudonym = eraser.pseudonym(&event.recipient);
        let recipient = pseudonym.as_deref().unwrap_or(&event.recipient);
        self.event_id.push(event.event_id.to_string().as_bytes());
        self.kind.push(&event.kind);
        self.provider.push(&event.provider);
        self.source.push(&event.source);
        self.tenant.push(text(&event.tenant));
        self.campaign.push(text(&event.campaign));
        self.message_id.push(text(&event.message_id).as_bytes());
        self.recipient.push(recipient.as_bytes());
        self.mailbox_provider.push(text(&event.mailbox_provider));
    }
}

#[cfg(test)]
mod tests {
    use record::Reason;

    use super::*;

    const AT: Coordinates = Coordinates { partition: 1, offset: 5 };
    const POINTS: &str = r#"{"action_id":"000102030405060708090a0b0c0d0e0f","rule":"clicked","index":"0","type":"points","add":5,"at":7,"intent_id":"100102030405060708090a0b0c0d0e0f","event":{"event_id":"200102030405060708090a0b0c0d0e0f","kind":"clicked","provider":"ses","source":"acme","recipient":"ada@example.com"}}"#;

    #[test]
    fn fields_and_names_of_a_later_release_are_accepted() {
        let mut actions = Actions::default();
        actions.push(AT, None, POINTS.as_bytes()).unwrap();
        let later = POINTS.replace("points", "fax").replace(r#""at":7"#, r#""at":7,"priority":3"#);
        let later = later.replace(r#""kind":"clicked""#, r#""kind":"heard","weight":1"#);
        actions.push(AT, Some(8), later.as_bytes()).unwrap();
        assert_eq!(actions.finish().rows, 2);
    }

    #[test]
    fn an_action_about_an_incident_has_no_recipient() {
        let (start, _) = POINTS.split_once(r#""event""#).unwrap();
        let incident =
            r#""incident":{"id":"300102030405060708090a0b0c0d0e0f","seq":1,"severity":"page"}}"#;
        let value = format!("{start}{incident}");
        let mut actions = Actions::default();
        actions.push(AT, None, value.as_bytes()).unwrap();
        let nothing = format!("{}}}", start.trim_end_matches(','));
        assert_eq!(
            actions.push(AT, None, nothing.as_bytes()).unwrap_err().reason,
            Reason::WrongShape
        );
        assert_eq!(actions.finish().rows, 1);
    }

    #[test]
    fn a_malformed_record_is_rejected_with_its_reason_and_adds_no_row() {
        let mut actions = Actions::default();
        let mut reason = |value: &str| actions.push(AT, None, value.as_bytes()).unwrap_err().reason;
        assert_eq!(reason(""), Reason::NotJson, "a tombstone");
        assert_eq!(reason(&POINTS[..40]), Reason::NotJson);
        assert_eq!(reason("{}"), Reason::WrongShape);
        assert_eq!(reason(&POINTS.replace("100102", "x00102")), Reason::WrongShape);
        assert_eq!(reason(&POINTS.replace("recipient", "person")), Reason::WrongShape);
        assert_eq!(actions.finish().rows, 0);
    }
}
