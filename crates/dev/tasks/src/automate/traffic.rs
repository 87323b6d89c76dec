//! What recipients do in a run, in virtual time. The same seed gives the same events.

use event::{EventId, Kind};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::rules::SLOW_CAMPAIGN;

/// In microseconds.
pub(super) const MINUTE: i64 = 60_000_000;
/// In microseconds.
pub(super) const HOUR: i64 = 60 * MINUTE;
/// 2027-01-15 08:00:00 UTC.
const START: i64 = 1_800_000_000_000_000;

/// The recipients of the mixed traffic.
const RECIPIENTS: u64 = 60;
/// The messages of each of them.
const MESSAGES: u64 = 2;
const CAMPAIGNS: [&str; 3] = ["spring", "summer", "autumn"];
/// The greatest number of events of a minute of mixed traffic.
const PER_MINUTE: u64 = 4;
/// One open or click in this many is that of a machine.
const MACHINE: u64 = 5;
/// One event in this many was not verified.
const UNVERIFIED: u64 = 15;
/// Those who click before automate is away. The mixed traffic has none of them, so that no cooldown holds them.
const WAITING: std::ops::Range<u64> = 1_000..1_018;
/// The first recipient of the slow endpoint, so that one of its deliveries does not wait for another.
const SLOW_RECIPIENTS: u64 = 2_000;

/// An event of a recipient.
#[derive(Debug, Clone)]
pub(super) struct MailEvent {
    pub(super) number: u64,
    pub(super) kind: Kind,
    pub(super) recipient: u64,
    pub(super) message: u64,
    pub(super) campaign: &'static str,
    pub(super) human: bool,
    pub(super) authentic: bool,
    /// When it happened and was received: UTC microseconds.
    pub(super) at: i64,
}

impl MailEvent {
    pub(super) const fn id(&self) -> EventId {
        EventId((self.number as u128).to_be_bytes())
    }

    pub(super) fn address(&self) -> String {
        address_of(self.recipient)
    }
}

fn address_of(recipient: u64) -> String {
    format!("r{recipient}@example.com")
}

/// A moment of virtual time. Everything that was received before it precedes its time record, and its events follow.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    /// UTC microseconds.
    pub(super) at: i64,
    pub(super) events: Vec<MailEvent>,
}

/// Generates events. Time goes on from one call to the next.
pub(super) struct Traffic {
    numbers: StdRng,
    now: i64,
    next: u64,
    slow: u64,
}

impl Traffic {
    pub(super) fn new(seed: u64) -> Self {
        let numbers = StdRng::seed_from_u64(seed);
        Self { numbers, now: START, next: 0, slow: SLOW_RECIPIENTS }
    }

    /// Half of the recipients subscribe, which makes them members of the segment.
    pub(super) fn joins(&mut self) -> Vec<Moment> {
        self.each(Kind::Subscribed, 2)
    }

    /// A third of the recipients unsubscribe. Some of them were members.
    pub(super) fn leaves(&mut self) -> Vec<Moment> {
        self.each(Kind::Unsubscribed, 3)
    }

    /// Returns mixed traffic of a number of minutes. `slow` of its deliveries are about the slow endpoint.
    pub(super) fn mixed(&mut self, minutes: usize, slow: usize) -> Vec<Moment> {
        let mut moments: Vec<Moment> = (0..minutes)
            .map(|_| {
                let count = self.numbers.random_range(0..=PER_MINUTE);
                self.minute(|traffic| (0..count).map(|_| traffic.any_event()).collect())
            })
            .collect();
        for number in 0..slow {
            let event = self.slow_event();
            if let Some(moment) = moments.get_mut(number * minutes / slow.max(1)) {
                moment.events.push(MailEvent { at: moment.at, ..event });
            }
        }
        moments
    }

    /// Clicks whose follow-ups are due while automate is away.
    pub(super) fn clicks(&mut self) -> Vec<Moment> {
        vec![self.minute(|traffic| WAITING.map(|it| traffic.event(Kind::Clicked, it, 0)).collect())]
    }

    /// What happens while automate is away: after an hour, a third of the mails are opened by people, and a third by
    /// machines. Then time passes until after all follow-ups are due.
    pub(super) fn while_away(&mut self) -> Vec<Moment> {
        self.now += HOUR;
        let opens = self.minute(|traffic| {
            let opened = WAITING.filter(|it| it % 3 > 0);
            let open = |it: u64| {
                let event = traffic.event(Kind::Opened, it, 0);
                MailEvent { human: it % 3 == 1, ..event }
            };
            opened.map(open).collect()
        });
        self.now += HOUR;
        let later = (0..3).map(|_| {
            self.now += HOUR / 2;
            Moment { at: self.now, events: Vec::new() }
        });
        std::iter::once(opens).chain(later).collect()
    }

    /// The numbers of follow-ups that are due while automate is away, and of those that an open has answered.
    pub(super) fn due_while_away() -> (u64, u64) {
        let answered = WAITING.filter(|it| it % 3 == 1).count() as u64;
        (WAITING.count() as u64 - answered, answered)
    }

    /// Returns whether a recipient is one of those who click before automate is away.
    pub(super) fn clicked_before_away(address: &str) -> bool {
        WAITING.map(address_of).any(|it| it == address)
    }

    /// Deliveries for the slow endpoint.
    pub(super) fn slow(&mut self, count: usize) -> Vec<Moment> {
        vec![self.minute(|traffic| (0..count).map(|_| traffic.slow_event()).collect())]
    }

    /// Deliveries for the quick endpoint, also to the recipients of the newest `slow` deliveries of the slow endpoint.
    pub(super) fn quick(&mut self, slow: u64) -> Vec<Moment> {
        let slow = self.slow - slow..self.slow;
        vec![self.minute(|traffic| {
            let recipients = slow.chain(0..RECIPIENTS);
            recipients.map(|it| traffic.event(Kind::Delivered, it, 1)).collect()
        })]
    }

    /// Lets time pass until no follow-up waits.
    pub(super) fn rest(&mut self) -> Vec<Moment> {
        self.now += 12 * HOUR;
        vec![Moment { at: self.now, events: Vec::new() }]
    }

    /// One event of every `divisor`th recipient.
    fn each(&mut self, kind: Kind, divisor: usize) -> Vec<Moment> {
        vec![self.minute(|traffic| {
            let recipients = (0..RECIPIENTS).step_by(divisor);
            recipients.map(|it| traffic.event(kind, it, 0)).collect()
        })]
    }

    /// Lets a minute pass.
    fn minute(&mut self, events: impl FnOnce(&mut Self) -> Vec<MailEvent>) -> Moment {
        self.now += MINUTE;
        Moment { at: self.now, events: events(self) }
    }

    fn any_event(&mut self) -> MailEvent {
        let kind = match self.numbers.random_range(0..100) {
            0..40 => Kind::Clicked,
            40..78 => Kind::Opened,
            78..96 => Kind::Delivered,
            _ => Kind::Complained,
        };
        let recipient = self.numbers.random_range(0..RECIPIENTS);
        let message = self.numbers.random_range(0..MESSAGES);
        let is_machine = kind.is_engagement() && self.numbers.random_range(0..MACHINE) == 0;
        let authentic = self.numbers.random_range(0..UNVERIFIED) > 0;
        MailEvent { human: !is_machine, authentic, ..self.event(kind, recipient, message) }
    }

    fn slow_event(&mut self) -> MailEvent {
        self.slow += 1;
        let event = self.event(Kind::Delivered, self.slow - 1, 0);
        MailEvent { campaign: SLOW_CAMPAIGN, ..event }
    }

    /// An event of a person, of the present.
    fn event(&mut self, kind: Kind, recipient: u64, message: u64) -> MailEvent {
        let number = self.next;
        self.next += 1;
        let campaign = CAMPAIGNS[(recipient + message) as usize % CAMPAIGNS.len()];
        let (human, authentic, at) = (true, true, self.now);
        MailEvent { number, kind, recipient, message, campaign, human, authentic, at }
    }
}
