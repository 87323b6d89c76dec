//! Events for the tests: single ones, and 45 minutes of four sources.

use event::{
    Automation, AutomationReason, Bounce, BounceClass, BounceSide, Event, EventId, IdBuilder, Kind,
    OccurredAt, Permanence, Provider, ReceivedAt, Text,
};
use record::names;
use serde_json::value::RawValue;

use crate::offline::counters;

pub const SECOND: i64 = 1_000_000;
pub const MINUTE: i64 = 60 * SECOND;
/// The start of a pane, a minute and an hour: 2025-10-09 09:00:00 UTC.
pub const T0: i64 = 1_760_000_400 * SECOND;

/// An event, and what dedupe found out about it.
#[derive(Debug, Clone)]
pub struct TestEvent {
    pub at: i64,
    pub source: &'static str,
    pub mailbox: Option<&'static str>,
    pub campaign: Option<&'static str>,
    pub kind: Kind,
    pub permanence: Permanence,
    pub late_bounce: bool,
    pub machine: bool,
    /// The value of the header `first`, on opens and clicks.
    pub first: &'static str,
    /// Whether this release of dedupe passed the event on. Otherwise monitor has to find out itself
    /// what it counts for.
    pub is_judged: bool,
    /// When the message was sent, if it is judged.
    pub sent: Option<i64>,
    /// The time of a soft bounce of the same message that has become a deferral. Its campaign is another.
    pub corrects: Option<i64>,
    pub recipient: String,
}

impl TestEvent {
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
            is_judged: true,
            sent: None,
            corrects: None,
            recipient: recipient.into(),
        }
    }

    pub const PROVIDER: Provider = Provider::SendGrid;

    pub fn id(&self, number: usize) -> EventId {
        IdBuilder::new("test").part(&number.to_le_bytes()).part(self.recipient.as_bytes()).finish()
    }

    /// Returns the headers that this release of dedupe adds.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        if !self.is_judged {
            return Vec::new();
        }
        let corrections = self.corrects.map(|at| {
            let changes = format!("mailbox_provider,tenant:-bounced_soft@{at},+deferred@{at}");
            (names::CORRECTIONS, changes)
        });
        let sent = self.sent.map_or(String::new(), |sent| sent.to_string());
        let tally = (names::TALLY, format!("1;{sent};{}", counters(self).join(",")));
        [tally].into_iter().chain(corrections).collect()
    }

    /// Returns the value of its record in `mail.events`.
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
            time_fault: None,
            recipient: Some(self.recipient.as_str().into()),
            recipient_domain: Some("example.com".into()),
            mailbox_provider: self.mailbox.map(Text::from),
            message_id: Some("m1".into()),
            campaign: self.campaign.map(Text::from),
            stream: None,
            tenant: self.campaign.map(|_| "tenant".into()),
            sender_domain: None,
            sending_ip: None,
            authentic: true,
            tags: vec!["a".into()],
            bounce: (self.kind == Kind::Bounced).then_some(bounce),
            automation: self.machine.then_some(automation),
            user_agent: None,
            ip: None,
            url: None,
            conversion: None,
            interest: None,
            provider_event: "x".into(),
            provider_event_id: None,
            request_id: "r1".into(),
            client: None,
            sent_at: None,
            claimed_at: None,
            sender: None,
            delivery: None,
            signals: Vec::new(),
            geo: None,
            labels: Default::default(),
            raw: &raw.unwrap(),
        };
        serde_json::to_vec(&event).unwrap()
    }
}

/// Returns 45 minutes of four sources in the order of arrival. Events arrive up to 4 s out of order;
/// those of `tardy` up to four minutes late. For five minutes, most messages of `acme` to one mailbox
/// provider bounce. Some soft bounces become deferrals half a minute later.
pub fn events(count: usize) -> Vec<TestEvent> {
    let mut random = Random(7);
    let mut arriving: Vec<(i64, TestEvent)> = (0..count)
        .map(|number| {
            let mut event = random_event(&mut random, number);
            event.at = T0 + random.up_to(45 * MINUTE);
            if event.source == "acme" && event.mailbox == Some("gmail") {
                let bounces = (20 * MINUTE..25 * MINUTE).contains(&(event.at - T0));
                if bounces && random.up_to(10) < 7 {
                    event.kind = Kind::Bounced;
                }
            }
            let delay = if event.source == "tardy" { 4 * MINUTE } else { 4 * SECOND };
            (event.at + random.up_to(delay), event)
        })
        .collect();
    for number in 0..count / 50 {
        let at = T0 + random.up_to(45 * MINUTE);
        let bounced = TestEvent {
            at,
            mailbox: Some("gmail"),
            campaign: Some("welcome"),
            permanence: Permanence::Soft,
            sent: Some(at - random.up_to(90 * MINUTE)),
            ..TestEvent::new("bolt", Kind::Bounced, format!("r{}@example.com", number % 997))
        };
        let delivered = TestEvent {
            at: at + 30 * SECOND,
            kind: Kind::Delivered,
            campaign: Some("spring sale"),
            corrects: Some(at),
            ..bounced.clone()
        };
        arriving.push((at, bounced));
        arriving.push((at + 31 * SECOND, delivered));
    }
    arriving.sort_by_key(|&(order, _)| order);
    arriving.into_iter().map(|(_, event)| event).collect()
}

fn random_event(random: &mut Random, number: usize) -> TestEvent {
    let recipient = format!("r{}@example.com", number % 997);
    let source = random.one_of(&["acme", "bolt", "crew", "tardy"]);
    if source == "tardy" {
        return TestEvent::new(source, Kind::Delivered, recipient);
    }
    let rarely = if random.up_to(6) == 0 { Kind::Bounced } else { Kind::Delivered };
    let kind = random.one_of(&[
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
    let machine = kind.is_engagement() && random.up_to(4) == 0;
    TestEvent {
        mailbox: random.one_of(&[None, Some("gmail"), Some("outlook")]),
        campaign: random.one_of(&[None, Some("spring sale"), Some("welcome")]),
        permanence: random.one_of(Permanence::ALL),
        late_bounce: random.up_to(5) == 0,
        machine,
        first: random.one_of(&["", "kind", "kind,engagement"]),
        is_judged: !number.is_multiple_of(3),
        sent: (number % 3 > 1).then(|| T0 - random.up_to(90 * MINUTE)),
        ..TestEvent::new(source, kind, recipient)
    }
}

/// The same random numbers in every run (splitmix64).
struct Random(u64);

impl Random {
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
