//! What becomes of each message of one source, drawn from decks.

use event::{Kind, Permanence, Provider};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::plan::Plan;
use super::says::Says;
use crate::clock::{MINUTE, SECOND};
use crate::deck::Deck;
use crate::{Fact, shape};

/// A fact and when its provider gets round to posting it, in event time (microseconds).
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    pub(crate) fact: Fact,
    pub(crate) at: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Delivered,
    DeferredFirst,
    Soft,
    Hard,
}

/// Mailbox domains in equal shares of five groups: four large providers, and everyone else. No
/// share may be large: a rule must be able to see the burst in the whole source only.
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

/// First names of invented readers; source and number make the rest of the address.
const NAMES: [&str; 8] = ["ada", "grace", "alan", "edsger", "barbara", "leslie", "jim", "radia"];

/// Messages of batching providers leave in groups, so that arrays hold more than one event.
const GROUP: usize = 10;

pub(crate) struct Journeys<'a> {
    plan: &'a Plan,
    provider: Provider,
    says: Says,
    source: &'a str,
    index: usize,
    messages: u128,
    rng: StdRng,
    outcome: Deck<Outcome>,
    burst_outcome: Deck<Outcome>,
    domain: Deck<&'static str>,
    campaign: Deck<&'static str>,
    machine: Deck<bool>,
    opens: Deck<usize>,
    clicks: Deck<bool>,
    unsubscribes: Deck<bool>,
    complains: Deck<bool>,
    reordered: Deck<bool>,
    facts: Vec<Posted>,
}

impl<'a> Journeys<'a> {
    /// The `index`th source of the plan, with random numbers of its own: what one source does
    /// does not depend on the others.
    pub(crate) fn new(seed: u64, plan: &'a Plan, index: usize) -> Self {
        let (provider, source) = &plan.sources[index];
        let bounce_share = plan.burst.as_ref().map_or(0.0, |burst| burst.bounce_share);
        let hard = (bounce_share * 20.0).round() as usize;
        let says = Says::of(*provider);
        let machine = if says.machine_opened { plan.machine_open_share } else { 0.0 };
        // One complaint in a thousand is an alert; so few messages must have next to none.
        let complaint_every = if plan.has_burst(index) { 1_500 } else { 450 };
        Self {
            plan,
            provider: *provider,
            says,
            source,
            index,
            messages: 0,
            rng: StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(index as u64)),
            outcome: Deck::new(&[
                (243, Outcome::Delivered),
                (4, Outcome::DeferredFirst),
                (1, Outcome::Soft),
                (2, Outcome::Hard),
            ]),
            burst_outcome: Deck::new(&[(hard, Outcome::Hard), (20 - hard, Outcome::Delivered)]),
            domain: Deck::new(&DOMAINS.map(|domain| (1, domain))),
            campaign: Deck::new(&CAMPAIGNS.map(|campaign| (1, campaign))),
            machine: Deck::share(machine),
            opens: Deck::new(&[(11, 0), (7, 1), (1, 2), (1, 3)]),
            clicks: Deck::share(0.3),
            unsubscribes: Deck::new(&[(1, true), (120, false)]),
            complains: Deck::new(&[(1, true), (complaint_every, false)]),
            reordered: Deck::share(plan.reorder_share),
            facts: Vec::new(),
        }
    }

    /// Every fact of the source, in the order of posting.
    pub(crate) fn run(mut self) -> Vec<Posted> {
        for (sent_at, bad_list) in self.schedule() {
            let outcome = if bad_list {
                self.burst_outcome.draw(&mut self.rng)
            } else {
                self.outcome.draw(&mut self.rng)
            };
            self.message(sent_at, outcome);
        }
        self.facts.sort_by_key(|posted| posted.at);
        self.facts
    }

    /// When each message is sent, in order, and whether it belongs to the bad list.
    fn schedule(&mut self) -> Vec<(i64, bool)> {
        let plan = self.plan;
        // Each source begins at its own moment, so that they take turns.
        let phase = self.index as i64 * 1_370_000;
        let start = plan.start_micros + phase;
        let mut sends = Vec::new();
        let turn = plan.turn(self.index);
        let begin = start + turn.after_micros;
        self.spread(&mut sends, begin, turn.duration_micros, turn.messages, false);
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
        bad_list: bool,
    ) {
        let group = if self.says.in_batches() { GROUP } else { 1 };
        sends.extend((0..count).map(|n| {
            let first_of_group = (n / group * group) as i64;
            (start + duration * first_of_group / count as i64, bad_list)
        }));
    }

    /// One message from its sending to its last click; all of it within five minutes.
    fn message(&mut self, sent_at: i64, outcome: Outcome) {
        let message = self.next_message();
        if self.says.accepted {
            self.post(&message, Kind::Accepted, 0, sent_at);
        }
        let attempt = sent_at + self.seconds(1.0, 3.0);
        match outcome {
            Outcome::Delivered => self.delivered(&message, attempt),
            Outcome::DeferredFirst if self.says.deferred => {
                self.post(&message, Kind::Deferred, 0, attempt);
                let later = attempt + self.seconds(20.0, 40.0);
                self.delivered(&message, later);
            }
            Outcome::Soft if self.says.soft_bounced => {
                self.bounced(&message, attempt, Permanence::Soft);
            }
            // What the provider would not tell did not happen.
            Outcome::DeferredFirst | Outcome::Soft => self.delivered(&message, attempt),
            Outcome::Hard => self.bounced(&message, attempt, Permanence::Hard),
        }
    }

    fn bounced(&mut self, message: &Fact, at: i64, permanence: Permanence) {
        let message = Fact { permanence: Some(permanence), ..message.clone() };
        self.post(&message, Kind::Bounced, 0, at);
    }

    fn delivered(&mut self, message: &Fact, at: i64) {
        let delivery = self.post(message, Kind::Delivered, 0, at);
        let machine = self.machine.draw(&mut self.rng);
        if machine {
            let fetched = at + self.seconds(1.0, 4.0);
            let message = Fact { machine: true, ..message.clone() };
            self.post(&message, Kind::Opened, 0, fetched);
        }
        let opens = self.opens.draw(&mut self.rng);
        if opens > 0 {
            self.opened(message, delivery, opens, u32::from(machine));
        }
        if self.says.complained && self.complains.draw(&mut self.rng) {
            let complained = at + self.seconds(60.0, 100.0);
            self.post(message, Kind::Complained, 0, complained);
        }
    }

    /// `opens` opens by a person, numbered from `first`, and what follows the first of them.
    fn opened(&mut self, message: &Fact, delivery: usize, opens: usize, first: u32) {
        let delivered_at = self.facts[delivery].fact.occurred_at_micros;
        let reordered = self.reordered.draw(&mut self.rng);
        // Not within `immediate` of dedupe: a person must not be taken for a machine.
        let delay = if reordered { 2 * SECOND } else { self.seconds(5.0, 45.0) };
        let opened_at = delivered_at + delay;
        let open = self.post(message, Kind::Opened, first, opened_at);
        if reordered {
            // The delivery's report is the slower one, by so little that nothing is late.
            self.facts[delivery].at = self.facts[open].at + SECOND / 5;
        }
        let mut again = opened_at;
        for repeat in 1..opens {
            again += self.seconds(4.0, 20.0);
            self.post(message, Kind::Opened, first + repeat as u32, again);
        }
        if self.clicks.draw(&mut self.rng) {
            let clicked = opened_at + self.seconds(2.0, 15.0);
            self.post(message, Kind::Clicked, 0, clicked);
        }
        if self.says.unsubscribed && self.unsubscribes.draw(&mut self.rng) {
            let unsubscribed = opened_at + self.seconds(16.0, 30.0);
            self.post(message, Kind::Unsubscribed, 0, unsubscribed);
        }
    }

    /// Records a fact of the message and gives its place. The provider posts it up to half a
    /// second later.
    fn post(&mut self, message: &Fact, kind: Kind, n: u32, at: i64) -> usize {
        let resolution = Fact::resolution_micros(self.provider);
        let occurred_at_micros = at.div_euclid(resolution) * resolution;
        let fact = Fact { kind, n, occurred_at_micros, ..message.clone() };
        let delay = self.seconds(0.0, 0.5);
        self.facts.push(Posted { fact, at: occurred_at_micros + delay });
        self.facts.len() - 1
    }

    fn next_message(&mut self) -> Fact {
        let number = self.messages;
        self.messages += 1;
        let name = NAMES[self.rng.random_range(0..NAMES.len())];
        let domain = self.domain.draw(&mut self.rng);
        Fact {
            provider: self.provider,
            source: self.source.to_owned(),
            kind: Kind::Accepted,
            recipient: format!("{name}-{}-{number:05}@{domain}", self.source),
            // The start makes two runs of the same seed at different times different mail.
            message_id: shape::message_id(
                self.provider,
                (self.plan.start_micros as u128) << 64 | (self.index as u128) << 32 | number,
            ),
            campaign: self.campaign.draw(&mut self.rng).to_owned(),
            occurred_at_micros: 0,
            permanence: None,
            machine: false,
            n: 0,
        }
    }

    fn seconds(&mut self, from: f64, to: f64) -> i64 {
        (self.rng.random_range(from..to) * SECOND as f64) as i64
    }
}
