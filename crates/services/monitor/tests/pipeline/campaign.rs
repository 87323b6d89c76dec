//! Events with something to see in them.

use event::{
    Automation, AutomationReason, Bounce, BounceClass, BounceSide, Event, EventId, IdBuilder, Kind,
    OccurredAt, Permanence, Provider, ReceivedAt, Text,
};
use serde_json::value::RawValue;

pub const SECOND: i64 = 1_000_000;
pub const MINUTE: i64 = 60 * SECOND;
/// Where a pane, a minute and an hour begin: 2025-10-09 09:00:00 UTC.
pub const T0: i64 = 1_760_000_400 * SECOND;

/// One event, and what dedupe found.
#[derive(Debug, Clone)]
pub struct Happening {
    pub at: i64,
    pub source: &'static str,
    pub mailbox: Option<&'static str>,
    pub campaign: Option<&'static str>,
    pub kind: Kind,
    pub permanence: Permanence,
    pub late_bounce: bool,
    pub machine: bool,
    /// The header's value, on opens and clicks.
    pub first: &'static str,
    pub recipient: String,
}

impl Happening {
    pub fn new(source: &'static str, kind: Kind, recipient: impl Into<String>) -> Self {
        Self {
            at: T0,
            source,
            mailbox: None,
            campaign: None,
            kind,
            permanence: Permanence::Hard,
            late_bounce: false,
            machine: false,
            first: "",
            recipient: recipient.into(),
        }
    }

    pub const PROVIDER: Provider = Provider::SendGrid;

    pub fn id(&self, number: usize) -> EventId {
        IdBuilder::new("test").part(&number.to_le_bytes()).part(self.recipient.as_bytes()).finish()
    }

    /// The value of its record in `mail.events`.
    pub fn json(&self, number: usize) -> Vec<u8> {
        let bounce = Bounce {
            permanence: self.permanence,
            class: BounceClass::Other,
            side: BounceSide::Unknown,
            status: None,
            diagnostic: Some(Text::from("550 \"no\" such\nuser")),
            late: self.late_bounce,
        };
        let automation = Automation { reason: AutomationReason::Proxy, confidence: 0.5 };
        let raw = RawValue::from_string(r#"{"event":"x","nested":[{"campaign":"no"}]}"#.into());
        let event = Event {
            event_id: self.id(number),
            kind: self.kind,
            provider: Self::PROVIDER,
            source: self.source.into(),
            occurred_at: OccurredAt(self.at),
            received_at: ReceivedAt(self.at + SECOND),
            recipient: Some(self.recipient.as_str().into()),
            recipient_domain: Some("example.com".into()),
            mailbox_provider: self.mailbox.map(Text::from),
            message_id: Some("m1".into()),
            campaign: self.campaign.map(Text::from),
            stream: None,
            tenant: None,
            tags: vec!["a".into()],
            bounce: (self.kind == Kind::Bounced).then_some(bounce),
            automation: self.machine.then_some(automation),
            user_agent: None,
            ip: None,
            url: None,
            provider_event: "x".into(),
            provider_event_id: None,
            request_id: "r1".into(),
            client: None,
            geo: None,
            labels: Default::default(),
            raw: &raw.unwrap(),
        };
        serde_json::to_vec(&event).unwrap()
    }
}

/// 45 minutes of four sources, in the order they come in, up to 4 s out of order; `tardy`'s events
/// come up to nine minutes late. `acme` has trouble at one mailbox provider for a while.
pub fn events(count: usize) -> Vec<Happening> {
    let mut dice = Dice(7);
    let mut coming: Vec<(i64, Happening)> = (0..count)
        .map(|number| {
            let mut event = random(&mut dice, number);
            event.at = T0 + dice.up_to(45 * MINUTE);
            if event.source == "acme" && event.mailbox == Some("gmail") {
                let trouble = (20 * MINUTE..25 * MINUTE).contains(&(event.at - T0));
                if trouble && dice.up_to(10) < 7 {
                    event.kind = Kind::Bounced;
                }
            }
            let delay = if event.source == "tardy" { 9 * MINUTE } else { 4 * SECOND };
            (event.at + dice.up_to(delay), event)
        })
        .collect();
    coming.sort_by_key(|&(order, _)| order);
    coming.into_iter().map(|(_, event)| event).collect()
}

fn random(dice: &mut Dice, number: usize) -> Happening {
    let recipient = format!("r{}@example.com", number % 997);
    let source = dice.one_of(&["acme", "bolt", "crew", "tardy"]);
    if source == "tardy" {
        return Happening::new(source, Kind::Delivered, recipient);
    }
    let rarely = if dice.up_to(6) == 0 { Kind::Bounced } else { Kind::Delivered };
    let kind = dice.one_of(&[
        Kind::Accepted,
        Kind::Accepted,
        Kind::Accepted,
        Kind::Delivered,
        Kind::Delivered,
        Kind::Deferred,
        Kind::Opened,
        Kind::Clicked,
        Kind::Complained,
        Kind::Unsubscribed,
        Kind::Dropped,
        Kind::Subscribed,
        rarely,
    ]);
    let machine = kind.is_engagement() && dice.up_to(4) == 0;
    Happening {
        mailbox: dice.one_of(&[None, Some("gmail"), Some("outlook")]),
        campaign: dice.one_of(&[None, Some("spring sale"), Some("welcome")]),
        permanence: dice.one_of(Permanence::ALL),
        late_bounce: dice.up_to(5) == 0,
        machine,
        first: dice.one_of(&["", "kind", "kind,engagement"]),
        ..Happening::new(source, kind, recipient)
    }
}

/// Numbers that look random and are always the same (splitmix64).
struct Dice(u64);

impl Dice {
    fn up_to(&mut self, end: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        i64::try_from((z ^ (z >> 31)) >> 1).unwrap() % end
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.up_to(i64::try_from(choices.len()).unwrap())).unwrap()]
    }
}
