//! Generates messages and what happens to them.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::message::{Bounce, By, Cause, Fact, Message, Moment, What};
use super::sources::{self, Carried, Injections, Reports, Source};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;
const HOURS_PER_DAY: i64 = 24;

/// The traffic of a run. All of its event time is divided into waves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// The beginning of the first wave, a full hour, UTC microseconds.
    pub(super) start: i64,
    /// The event time of a wave, in hours.
    pub(super) hours_per_wave: i64,
    pub(super) waves: usize,
    pub(super) messages_per_source: usize,
}

impl Plan {
    /// Returns the end of the last wave.
    pub(super) fn end(&self) -> i64 {
        self.start + self.waves as i64 * self.wave()
    }

    /// Returns the event time of a wave.
    pub(super) fn wave(&self) -> i64 {
        self.hours_per_wave * HOUR
    }

    /// Returns after how many waves a number of days is over.
    fn days(&self, days: i64) -> usize {
        usize::try_from(days * HOURS_PER_DAY / self.hours_per_wave).unwrap_or(1).max(1)
    }
}

/// What happens to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Delivered,
    /// Opened by a person, maybe again, and maybe with a click.
    Opened,
    /// Opened on the day of the delivery, and again on day 5.
    OpenedOnDay5,
    /// Opened for the first time on day 5.
    OpenedLate,
    /// A privacy proxy fetches it at once, and a person may open it later.
    PrivacyProxy,
    /// A scanner follows the link, and a person clicks later.
    Scanned,
    ClickedOnly,
    Deferred,
    DeferredTwentyTimes,
    DeferredAndBounced,
    /// The deferral arrives after the delivery.
    DeferralArrivesLate,
    Hard,
    HardUnclassified,
    Soft,
    SoftThenDelivered,
    SoftThenHard,
    Block,
    Unauthenticated,
    Undetermined,
    /// Bounces days after the delivery.
    LateBounce,
    /// The provider marks it as late, and the delivery is not known.
    MarkedAsLate,
    /// The bounce arrives before the earlier delivery.
    BounceArrivesFirst,
    Vacation,
    Complained,
    ComplainedTwice,
    Unsubscribed,
    Dropped,
    Suppressed,
    /// The time of the delivery cannot be right.
    WrongTime,
}

/// Each life, and how often it occurs.
const LIVES: [(Life, usize); 29] = [
    (Life::Delivered, 22),
    (Life::Opened, 10),
    (Life::OpenedOnDay5, 3),
    (Life::OpenedLate, 2),
    (Life::PrivacyProxy, 5),
    (Life::Scanned, 2),
    (Life::ClickedOnly, 2),
    (Life::Deferred, 5),
    (Life::DeferredTwentyTimes, 1),
    (Life::DeferredAndBounced, 2),
    (Life::DeferralArrivesLate, 2),
    (Life::Hard, 4),
    (Life::HardUnclassified, 2),
    (Life::Soft, 2),
    (Life::SoftThenDelivered, 3),
    (Life::SoftThenHard, 2),
    (Life::Block, 3),
    (Life::Unauthenticated, 2),
    (Life::Undetermined, 2),
    (Life::LateBounce, 3),
    (Life::MarkedAsLate, 2),
    (Life::BounceArrivesFirst, 3),
    (Life::Vacation, 3),
    (Life::Complained, 3),
    (Life::ComplainedTwice, 3),
    (Life::Unsubscribed, 3),
    (Life::Dropped, 2),
    (Life::Suppressed, 2),
    (Life::WrongTime, 2),
];

impl Life {
    fn is_reported(self, reports: Reports, source: Source) -> bool {
        let same =
            |one, other| Carried::by(source.provider, one) == Carried::by(source.provider, other);
        match self {
            Self::Deferred | Self::DeferredTwentyTimes | Self::DeferredAndBounced => {
                reports.deferred
            }
            // Otherwise it would depend on the order of arrival which address sent the message.
            Self::DeferralArrivesLate => {
                reports.deferred && same(What::Deferred(Cause::Technical), What::Delivered)
            }
            Self::BounceArrivesFirst => same(What::Bounced(Bounce::Hard), What::Delivered),
            Self::Soft | Self::SoftThenHard => reports.soft,
            Self::SoftThenDelivered => {
                reports.soft && same(What::Bounced(Bounce::Soft), What::Delivered)
            }
            Self::HardUnclassified => reports.unclassified,
            Self::Undetermined => reports.undetermined,
            Self::MarkedAsLate => reports.late,
            Self::Vacation => reports.auto_reply,
            Self::Complained | Self::ComplainedTwice => reports.complained,
            Self::Unsubscribed => reports.unsubscribed,
            Self::Dropped => reports.dropped,
            Self::Suppressed => reports.suppressed,
            Self::PrivacyProxy => reports.machine_opened,
            Self::Scanned => reports.machine_clicked,
            _ => true,
        }
    }
}

/// The domain of an address, and its mailbox provider.
pub(crate) const DOMAINS: [(&str, &str); 8] = [
    ("gmail.com", "gmail"),
    ("gmail.com", "gmail"),
    ("yahoo.com", "yahoo"),
    ("aol.com", "yahoo"),
    ("outlook.com", "outlook"),
    ("hotmail.com", "outlook"),
    ("northwind.test", "other"),
    ("example.org", "other"),
];

/// The campaign in the operator's table of campaigns, and its tenant.
pub(super) const CAMPAIGN_OF_TENANT: (&str, &str) = ("studio-tour", "studio");
const CAMPAIGNS: [&str; 4] = ["autumn-sale", "weekly-digest", "welcome", CAMPAIGN_OF_TENANT.0];
const STREAMS: [&str; 2] = ["transactional", "broadcast"];
/// The tenants in the operator's table of recipients.
const TENANTS: [Option<&str>; 4] = [Some("north"), Some("south"), None, None];
/// One of this many events is posted twice.
const POSTED_TWICE: u32 = 30;

/// How much older than the clock of monitor stragglers are.
const STRAGGLE: i64 = 6 * HOUR;
/// The second one is so little older that all windows can still be corrected.
const STRAGGLE_LITTLE: i64 = 5 * MINUTE + 35 * SECOND;

/// Returns two messages of each source whose deliveries are posted after the last wave, when monitor has
/// reached the moment `now`. The windows of a day are published at the pane of the second one.
pub(super) fn stragglers(plan: &Plan, now: i64, messages: usize) -> Vec<Message> {
    let with_deliveries = sources::all().into_iter().filter(|source| source.has_deliveries);
    let pair = |(index, source): (usize, Source)| {
        let rng = StdRng::seed_from_u64(plan.seed.wrapping_mul(1_000) + 500 + index as u64);
        let mut generator = Generator { plan, source, rng, facts: Vec::new(), lives: Vec::new() };
        let delivered = |before: i64| {
            let at = Moment::At(now - before);
            vec![Fact { what: What::Delivered, at, wave: plan.waves, again: None, n: 0 }]
        };
        let number = messages + 2 * index;
        let first = generator.of_facts(number, now - STRAGGLE - MINUTE, delivered(STRAGGLE));
        let second = Message {
            number: first.number + 1,
            recipient: first.recipient.replace("reader", "second-reader"),
            sent_at: now - STRAGGLE_LITTLE - MINUTE,
            facts: delivered(STRAGGLE_LITTLE),
            ..first.clone()
        };
        [Message { is_straggler: true, ..first }, second]
    };
    with_deliveries.enumerate().flat_map(pair).collect()
}

/// Generates all messages. The same plan gives the same messages.
pub(super) fn generate(plan: &Plan) -> Vec<Message> {
    let mut messages = Vec::new();
    for (index, source) in sources::all().into_iter().enumerate() {
        let rng = StdRng::seed_from_u64(plan.seed.wrapping_mul(1_000) + index as u64);
        let mut generator = Generator { plan, source, rng, facts: Vec::new(), lives: Vec::new() };
        for _ in 0..plan.messages_per_source {
            messages.push(generator.message(messages.len(), plan));
        }
    }
    messages
}

struct Generator<'a> {
    plan: &'a Plan,
    source: Source,
    rng: StdRng,
    /// The events of the current message.
    facts: Vec<Fact>,
    /// The lives of the next messages, shuffled.
    lives: Vec<Life>,
}

impl Generator<'_> {
    fn message(&mut self, number: usize, plan: &Plan) -> Message {
        let of_source = number % plan.messages_per_source;
        // The first messages are delivered, one in each wave, so that the source always has deliveries.
        let (life, first) = if of_source < plan.waves {
            (Life::Delivered, of_source)
        } else {
            let life = self.next_life();
            (life, self.rng.random_range(0..self.last_first_wave(life)))
        };
        let sent_at = plan.start
            + first as i64 * plan.wave()
            + self.seconds(600, plan.hours_per_wave * 1_800);
        self.live(life, first, sent_at);
        let mut facts = std::mem::take(&mut self.facts);
        facts.retain(|fact| match fact.what {
            What::Accepted => match self.source.injections {
                Injections::All => true,
                Injections::Some => self.rng.random_range(0..10) < 6,
                Injections::None => false,
            },
            What::Delivered => self.source.has_deliveries,
            _ => true,
        });
        // In the order of posting.
        facts.sort_by_key(|fact| (fact.wave, fact.at.counted_at()));
        for fact in &mut facts {
            let is_last = fact.wave + 1 >= plan.waves;
            if !is_last
                && matches!(fact.at, Moment::At(_))
                && self.rng.random_range(0..POSTED_TWICE) == 0
            {
                fact.again = Some(fact.wave + 1);
            }
        }
        self.of_facts(number, sent_at, facts)
    }

    /// Returns a message with these events and random properties.
    fn of_facts(&mut self, number: usize, sent_at: i64, facts: Vec<Fact>) -> Message {
        let provider = self.source.provider;
        let (domain, mailbox_provider) = DOMAINS[self.rng.random_range(0..DOMAINS.len())];
        let pick = |rng: &mut StdRng, len| rng.random_range(0..len);
        Message {
            source: self.source,
            number: u32::try_from(number).unwrap_or(u32::MAX),
            recipient: format!("reader-{}-{number:06}@{domain}", self.source.name),
            mailbox_provider,
            campaign: CAMPAIGNS[pick(&mut self.rng, CAMPAIGNS.len())],
            sender: self.source.senders[pick(&mut self.rng, self.source.senders.len())],
            sending_ip: format!(
                "198.51.100.{}",
                11 + pick(&mut self.rng, 3) + 10 * (provider as usize % 8)
            ),
            stream: STREAMS[pick(&mut self.rng, STREAMS.len())],
            tenant: TENANTS[pick(&mut self.rng, TENANTS.len())],
            sent_at,
            is_straggler: false,
            facts,
        }
    }

    /// Returns the wave before which a life must begin, so that it ends within the run.
    fn last_first_wave(&self, life: Life) -> usize {
        let length = match life {
            Life::OpenedOnDay5 | Life::OpenedLate => self.plan.days(5) + 3,
            Life::LateBounce => self.plan.days(2) + 2,
            Life::Opened
            | Life::Scanned
            | Life::PrivacyProxy
            | Life::Complained
            | Life::ComplainedTwice => self.plan.days(2) + 2,
            _ => 4,
        };
        self.plan.waves.saturating_sub(length).max(1)
    }

    fn next_life(&mut self) -> Life {
        if self.lives.is_empty() {
            let reports = Reports::of(self.source.provider);
            for (life, count) in LIVES {
                if life.is_reported(reports, self.source) {
                    self.lives.extend(std::iter::repeat_n(life, count));
                }
            }
            self.lives.shuffle(&mut self.rng);
        }
        self.lives.pop().unwrap_or(Life::Delivered)
    }

    /// Adds the events of a life that begins in wave `first`.
    ///
    /// Events of one message that are of different kinds and depend on each other's order are in
    /// different waves, because different kinds travel through different topics.
    fn live(&mut self, life: Life, first: usize, sent_at: i64) {
        use What as W;
        self.add(W::Accepted, sent_at);
        match life {
            Life::Delivered => self.deliver(sent_at),
            Life::Opened => {
                self.deliver(sent_at);
                let wave = first + self.waves_later(1);
                self.add_in(W::Opened(By::Person), wave);
                if self.rng.random() {
                    self.add_in(W::Opened(By::Person), wave);
                }
                if self.rng.random() {
                    self.add_in(W::Clicked(By::Person), wave + 1);
                    self.add_in(W::Opened(By::Person), wave + 1);
                }
            }
            Life::OpenedOnDay5 => {
                self.deliver(sent_at);
                self.add_in(W::Opened(By::Person), first + 1);
                self.add_in(W::Opened(By::Person), first + self.plan.days(5));
                self.add_in(W::Clicked(By::Person), first + self.plan.days(5) + 1);
            }
            Life::OpenedLate => {
                self.deliver(sent_at);
                self.add_in(W::Opened(By::Person), first + self.plan.days(5));
            }
            Life::PrivacyProxy => {
                self.deliver(sent_at);
                self.add_in(W::Opened(By::Machine), first + 1);
                self.add_in(W::Opened(By::Machine), first + 1);
                if self.rng.random() {
                    let wave = first + 1 + self.waves_later(1);
                    self.add_in(W::Opened(By::Person), wave);
                }
            }
            Life::Scanned => {
                self.deliver(sent_at);
                self.add_in(W::Clicked(By::Machine), first + 1);
                if self.rng.random() {
                    self.add_in(W::Clicked(By::Person), first + 2);
                }
            }
            Life::ClickedOnly => {
                self.deliver(sent_at);
                self.add_in(W::Clicked(By::Person), first + 1);
            }
            Life::Deferred => {
                self.defer(sent_at);
                self.add_in(W::Delivered, first + 1);
            }
            Life::DeferredTwentyTimes => {
                let cause = self.cause();
                for wave in [first, first + 1] {
                    for _ in 0..10 {
                        self.add_in(W::Deferred(cause), wave);
                    }
                }
                self.add_in(W::Delivered, first + 2);
            }
            Life::DeferredAndBounced => {
                self.defer(sent_at);
                self.add_in(W::Bounced(Bounce::Hard), first + 1);
            }
            Life::DeferralArrivesLate => {
                let [deferred, delivered] = self.two_after(sent_at);
                self.add_at(W::Delivered, delivered, first);
                self.add_at(W::Deferred(Cause::Technical), deferred, first + 1);
            }
            Life::Hard => self.bounce(Bounce::Hard, sent_at),
            Life::HardUnclassified => self.bounce(Bounce::HardUnclassified, sent_at),
            Life::Soft => self.bounce(Bounce::Soft, sent_at),
            Life::SoftThenDelivered => {
                self.bounce(Bounce::Soft, sent_at);
                self.add_in(W::Delivered, first + 1);
            }
            Life::SoftThenHard => {
                self.bounce(Bounce::Soft, sent_at);
                self.add_in(W::Bounced(Bounce::Hard), first + 1);
            }
            Life::Block => self.bounce(Bounce::Block, sent_at),
            Life::Unauthenticated => self.bounce(Bounce::Unauthenticated, sent_at),
            Life::Undetermined => self.bounce(Bounce::Undetermined, sent_at),
            Life::LateBounce => {
                self.deliver(sent_at);
                let wave = first + self.waves_later(2);
                self.add_in(W::Bounced(Bounce::Hard), wave);
            }
            Life::MarkedAsLate => {
                let at = sent_at + self.seconds(10, 90);
                self.add(W::LateBounced, at);
            }
            Life::BounceArrivesFirst => {
                let [delivered, bounced] = self.two_after(sent_at);
                self.add_at(W::Bounced(Bounce::Hard), bounced, first);
                self.add_at(W::Delivered, delivered, first + 1);
            }
            Life::Vacation => {
                self.deliver(sent_at);
                self.add_in(W::AutoReplied, first + 1);
            }
            Life::Complained => {
                self.deliver(sent_at);
                let wave = first + self.waves_later(2);
                self.add_in(W::Complained, wave);
            }
            Life::ComplainedTwice => {
                self.deliver(sent_at);
                let wave = first + self.waves_later(2);
                self.add_in(W::Complained, wave);
                self.add_in(W::Complained, wave + 1);
            }
            Life::Unsubscribed => {
                self.deliver(sent_at);
                self.add_in(W::Unsubscribed, first + 1);
                self.add_in(W::Unsubscribed, first + 2);
            }
            // Amazon SES gives a rejected message only the time of sending.
            Life::Dropped => self.add(W::Dropped, sent_at),
            Life::Suppressed => {
                let at = sent_at + self.seconds(1, 5);
                self.add(W::Suppressed, at);
            }
            Life::WrongTime => {
                let moments = [Moment::In1970, Moment::In2299, Moment::AnHourAhead];
                let at = moments[self.rng.random_range(0..moments.len())];
                let what = if self.rng.random() { W::Delivered } else { W::Bounced(Bounce::Hard) };
                self.facts.push(Fact { what, at, wave: first, again: None, n: 0 });
            }
        }
    }

    fn deliver(&mut self, sent_at: i64) {
        let at = sent_at + self.seconds(2, 90);
        self.add(What::Delivered, at);
    }

    fn defer(&mut self, sent_at: i64) {
        let (cause, at) = (self.cause(), sent_at + self.seconds(2, 90));
        self.add(What::Deferred(cause), at);
    }

    fn bounce(&mut self, bounce: Bounce, sent_at: i64) {
        let at = sent_at + self.seconds(2, 90);
        self.add(What::Bounced(bounce), at);
    }

    fn cause(&mut self) -> Cause {
        let causes = [Cause::Technical, Cause::Rate, Cause::Complaints, Cause::Listed];
        if Reports::of(self.source.provider).answers {
            causes[self.rng.random_range(0..causes.len())]
        } else {
            Cause::Technical
        }
    }

    /// Returns two moments of the same wave, after the message was sent.
    fn two_after(&mut self, sent_at: i64) -> [i64; 2] {
        let first = sent_at + self.seconds(2, 90);
        [first, first + self.seconds(20, 1_500)]
    }

    /// Returns how many waves something happens after the next one, within a number of days.
    fn waves_later(&mut self, days: i64) -> usize {
        1 + self.rng.random_range(0..self.plan.days(days))
    }

    fn seconds(&mut self, from: i64, to: i64) -> i64 {
        self.rng.random_range(from..to) * SECOND
    }

    /// Adds an event at any moment of a wave.
    fn add_in(&mut self, what: What, wave: usize) {
        let begin = self.plan.start + wave as i64 * self.plan.wave();
        let at = begin + self.seconds(60, self.plan.hours_per_wave * 3_600 - 60);
        self.add(what, at);
    }

    /// Adds an event that is posted in the wave in which it happens.
    fn add(&mut self, what: What, at: i64) {
        let wave = (at - self.plan.start).div_euclid(self.plan.wave());
        self.add_at(what, at, usize::try_from(wave).unwrap_or(0));
    }

    /// Adds an event that is posted in this wave.
    fn add_at(&mut self, what: What, at: i64, wave: usize) {
        let n = self.facts.len() as u32;
        self.facts.push(Fact { what, at: Moment::At(at), wave, again: None, n });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use testkit::PROVIDERS;

    use super::*;
    use crate::truth::payload;

    fn plan() -> Plan {
        Plan {
            seed: 1,
            start: 1_795_255_200 * SECOND,
            hours_per_wave: 6,
            waves: 26,
            messages_per_source: 150,
        }
    }

    #[test]
    fn every_event_has_a_wave_of_the_run_and_a_body_of_its_provider() {
        let messages = generate(&plan());
        let numbers: BTreeSet<u32> = messages.iter().map(|message| message.number).collect();
        assert_eq!(numbers.len(), messages.len());
        let mut seen = BTreeSet::new();
        for message in &messages {
            for fact in &message.facts {
                assert!(fact.wave < plan().waves, "{fact:?}");
                if let Moment::At(at) = fact.at {
                    assert!((plan().start..plan().end()).contains(&at), "{fact:?}");
                }
                let json = payload::json(message, fact, 1, plan().end());
                assert!(json.is_some(), "{} {fact:?}", message.source.provider);
                seen.insert((message.source.provider, format!("{:?}", fact.what)));
            }
        }
        for provider in PROVIDERS {
            assert!(seen.contains(&(provider, "Delivered".to_owned())), "{provider}");
        }
        assert!(seen.len() > 200, "{} combinations", seen.len());
    }

    #[test]
    fn half_of_the_sources_send_all_accepted_events_and_a_quarter_loses_some() {
        let count = |injections| {
            sources::all().into_iter().filter(|source| source.injections == injections).count()
        };
        let all = [Injections::All, Injections::Some, Injections::None].map(count);
        assert_eq!(all, [7, 4, 4]);
    }
}
