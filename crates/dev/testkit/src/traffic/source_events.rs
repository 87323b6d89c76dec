//! Generates the events of each message of one source.

use event::{Kind, Permanence, Provider};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::plan::Plan;
use super::reported_kinds::ReportedKinds;
use crate::shuffled::Shuffled;
use crate::time_formats::{MINUTE, SECOND};
use crate::{MailEvent, payloads};

/// An event, and the event time in microseconds at which its provider posts it.
#[derive(Debug, Clone)]
pub(crate) struct ScheduledEvent {
    pub(crate) event: MailEvent,
    pub(crate) at: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Delivered,
    DeferredFirst,
    Soft,
    Hard,
}

/// Four large mailbox providers and the other domains have equal shares. None of them may be large
/// enough for a rule, so that the burst is visible only in the scope of the source.
const DOMAINS: [&str; 10] = [
    "gmail.com",
    "gmail.com",
    "outlook.com",
    "hotmail.com",
    "yahoo.com",
    "yahoo.com",
    "icloud.com",
    "icloud.com",
    "northwind.test",
    "example.org",
];

const CAMPAIGNS: [&str; 6] =
    ["autumn-sale", "weekly-digest", "welcome", "product-update", "back-in-stock", "survey"];

/// The beginning of addresses; source and number follow.
const NAMES: [&str; 8] = ["ada", "grace", "alan", "edsger", "barbara", "leslie", "jim", "radia"];

/// If a provider posts batches, its source sends messages in groups of this size, so that requests
/// contain more than one event.
const GROUP: usize = 10;

pub(crate) struct SourceEvents<'a> {
    plan: &'a Plan,
    provider: Provider,
    reported: ReportedKinds,
    source: &'a str,
    index: usize,
    messages: u128,
    rng: StdRng,
    outcome: Shuffled<Outcome>,
    burst_outcome: Shuffled<Outcome>,
    domain: Shuffled<&'static str>,
    campaign: Shuffled<&'static str>,
    machine: Shuffled<bool>,
    opens: Shuffled<usize>,
    clicks: Shuffled<bool>,
    unsubscribes: Shuffled<bool>,
    complains: Shuffled<bool>,
    reordered: Shuffled<bool>,
    events: Vec<ScheduledEvent>,
}

impl<'a> SourceEvents<'a> {
    /// Generates the events of the plan's source with this index. Each source has its own random
    /// numbers, so it does not depend on the others.
    pub(crate) fn new(seed: u64, plan: &'a Plan, index: usize) -> Self {
        let (provider, source) = &plan.sources[index];
        let bounce_share = plan.burst.as_ref().map_or(0.0, |burst| burst.bounce_share);
        let hard = (bounce_share * 20.0).round() as usize;
        let reported = ReportedKinds::of(*provider);
        let machine = if reported.machine_opened { plan.machine_open_share } else { 0.0 };
        // One complaint in 1,000 messages is an alert.
        let complaint_every = if plan.has_burst(index) { 1_500 } else { 450 };
        Self {
            plan,
            provider: *provider,
            reported,
            source,
            index,
            messages: 0,
            rng: StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(index as u64)),
            outcome: Shuffled::new(&[
                (243, Outcome::Delivered),
                (4, Outcome::DeferredFirst),
                (1, Outcome::Soft),
                (2, Outcome::Hard),
            ]),
            burst_outcome: Shuffled::new(&[(hard, Outcome::Hard), (20 - hard, Outcome::Delivered)]),
            domain: Shuffled::new(&DOMAINS.map(|domain| (1, domain))),
            campaign: Shuffled::new(&CAMPAIGNS.map(|campaign| (1, campaign))),
            machine: Shuffled::share(machine),
            opens: Shuffled::new(&[(11, 0), (7, 1), (1, 2), (1, 3)]),
            clicks: Shuffled::share(0.3),
            unsubscribes: Shuffled::new(&[(1, true), (120, false)]),
            complains: Shuffled::new(&[(1, true), (complaint_every, false)]),
            reordered: Shuffled::share(plan.reorder_share),
            events: Vec::new(),
        }
    }

    /// Returns every event of the source in the order of posting.
    pub(crate) fn run(mut self) -> Vec<ScheduledEvent> {
        for (sent_at, in_burst) in self.schedule() {
            let outcome = if in_burst {
                self.burst_outcome.next(&mut self.rng)
            } else {
                self.outcome.next(&mut self.rng)
            };
            self.message(sent_at, outcome);
        }
        self.events.sort_by_key(|scheduled| scheduled.at);
        self.events
    }

    /// Returns when each message is sent, in order, and whether it belongs to the burst.
    fn schedule(&mut self) -> Vec<(i64, bool)> {
        let plan = self.plan;
        // The sources start at different times, so that their requests alternate.
        let phase = self.index as i64 * 1_370_000;
        let start = plan.start_micros + phase;
        let mut sends = Vec::new();
        let period = plan.sending_period(self.index);
        let begin = start + period.after_micros;
        self.spread(&mut sends, begin, period.duration_micros, period.messages, false);
        if let Some(burst) = plan.burst.as_ref().filter(|_| plan.has_burst(self.index)) {
            let begin = start + burst.after_micros;
            self.spread(&mut sends, begin, burst.duration_micros, burst.messages, true);
            let recovery = begin + burst.duration_micros + 62 * MINUTE;
            self.spread(&mut sends, recovery, 15 * MINUTE, burst.recovery_messages, false);
        }
        sends.sort();
        sends
    }

    fn spread(
        &self,
        sends: &mut Vec<(i64, bool)>,
        start: i64,
        duration: i64,
        count: usize,
        in_burst: bool,
    ) {
        let group = if self.reported.in_batches() { GROUP } else { 1 };
        sends.extend((0..count).map(|n| {
            let first_of_group = (n / group * group) as i64;
            (start + duration * first_of_group / count as i64, in_burst)
        }));
    }

    /// Adds the events of one message. All of them happen within `LONGEST_LIFE_MICROS`.
    fn message(&mut self, sent_at: i64, outcome: Outcome) {
        let resolution = MailEvent::resolution_micros(self.provider);
        let sent_at_micros = Some(sent_at.div_euclid(resolution) * resolution);
        let message = MailEvent { sent_at_micros, ..self.next_message() };
        if self.reported.accepted {
            self.post(&message, Kind::Accepted, 0, sent_at);
        }
        let attempt = sent_at + self.seconds(1.0, 3.0);
        match outcome {
            Outcome::Delivered => self.delivered(&message, attempt),
            Outcome::DeferredFirst if self.reported.deferred => {
                self.post(&message, Kind::Deferred, 0, attempt);
                let later = attempt + self.seconds(20.0, 40.0);
                self.delivered(&message, later);
            }
            Outcome::Soft if self.reported.soft_bounced => {
                self.bounced(&message, attempt, Permanence::Soft);
            }
            // The provider does not report these.
            Outcome::DeferredFirst | Outcome::Soft => self.delivered(&message, attempt),
            Outcome::Hard => self.bounced(&message, attempt, Permanence::Hard),
        }
    }

    fn bounced(&mut self, message: &MailEvent, at: i64, permanence: Permanence) {
        let message = MailEvent { permanence: Some(permanence), ..message.clone() };
        self.post(&message, Kind::Bounced, 0, at);
    }

    fn delivered(&mut self, message: &MailEvent, at: i64) {
        let delivery = self.post(message, Kind::Delivered, 0, at);
        let machine = self.machine.next(&mut self.rng);
        if machine {
            let fetched = at + self.seconds(1.0, 4.0);
            let message = MailEvent { machine: true, ..message.clone() };
            self.post(&message, Kind::Opened, 0, fetched);
        }
        let opens = self.opens.next(&mut self.rng);
        if opens > 0 {
            self.opened(message, delivery, opens, u32::from(machine));
        }
        if self.reported.complained && self.complains.next(&mut self.rng) {
            let complained = at + self.seconds(60.0, 100.0);
            self.post(message, Kind::Complained, 0, complained);
        }
    }

    /// Adds `opens` opens by a person, numbered from `first`, and the events that follow the first
    /// one.
    fn opened(&mut self, message: &MailEvent, delivery: usize, opens: usize, first: u32) {
        let delivered_at = self.events[delivery].event.occurred_at_micros;
        let reordered = self.reordered.next(&mut self.rng);
        // Later than dedupe's `immediate_within`, so that the open is not classified as automated.
        let delay = if reordered { 2 * SECOND } else { self.seconds(5.0, 45.0) };
        let opened_at = delivered_at + delay;
        let open = self.post(message, Kind::Opened, first, opened_at);
        if reordered {
            // The delivery is posted after the open, but not late enough to be a late event.
            self.events[delivery].at = self.events[open].at + SECOND / 5;
        }
        let mut later = opened_at;
        for repeat in 1..opens {
            later += self.seconds(4.0, 20.0);
            self.post(message, Kind::Opened, first + repeat as u32, later);
        }
        if self.clicks.next(&mut self.rng) {
            let clicked = opened_at + self.seconds(2.0, 15.0);
            self.post(message, Kind::Clicked, 0, clicked);
        }
        if self.reported.unsubscribed && self.unsubscribes.next(&mut self.rng) {
            let unsubscribed = opened_at + self.seconds(16.0, 30.0);
            self.post(message, Kind::Unsubscribed, 0, unsubscribed);
        }
    }

    /// Adds an event of the message and returns its index. The provider posts it up to half a
    /// second later.
    fn post(&mut self, message: &MailEvent, kind: Kind, n: u32, at: i64) -> usize {
        let resolution = MailEvent::resolution_micros(self.provider);
        let occurred_at_micros = at.div_euclid(resolution) * resolution;
        let event = MailEvent { kind, n, occurred_at_micros, ..message.clone() };
        let delay = self.seconds(0.0, 0.5);
        self.events.push(ScheduledEvent { event, at: occurred_at_micros + delay });
        self.events.len() - 1
    }

    fn next_message(&mut self) -> MailEvent {
        let number = self.messages;
        self.messages += 1;
        let name = NAMES[self.rng.random_range(0..NAMES.len())];
        let domain = self.domain.next(&mut self.rng);
        MailEvent {
            provider: self.provider,
            source: self.source.to_owned(),
            kind: Kind::Accepted,
            recipient: format!("{name}-{}-{number:05}@{domain}", self.source),
            // With the start, runs with the same seed at different times have different messages.
            message_id: payloads::message_id(
                self.provider,
                (self.plan.start_micros as u128) << 64 | (self.index as u128) << 32 | number,
            ),
            campaign: self.campaign.next(&mut self.rng).to_owned(),
            occurred_at_micros: 0,
            sent_at_micros: None,
            permanence: None,
            machine: false,
            n: 0,
        }
    }

    fn seconds(&mut self, from: f64, to: f64) -> i64 {
        (self.rng.random_range(from..to) * SECOND as f64) as i64
    }
}
