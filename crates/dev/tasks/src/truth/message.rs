//! A message at one recipient, what its provider reports about it, and what it counts for. The rules are
//! written down again from docs/metrics.md.

use std::collections::BTreeSet;

use event::Provider;

use super::counts::Counter;
use super::sources::{Carried, Source};

/// The time of an event that counts when it is received, which is not known before.
pub(crate) const AT_RECEIPT: i64 = i64::MAX;

/// What a provider reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Accepted,
    Delivered,
    Deferred(Cause),
    Bounced(Bounce),
    /// A bounce that the provider itself marks as late.
    LateBounced,
    AutoReplied,
    Dropped,
    Suppressed,
    Opened(By),
    Clicked(By),
    Complained,
    Unsubscribed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bounce {
    /// The address does not exist.
    Hard,
    /// Permanent, for a reason without a class.
    HardUnclassified,
    /// The mailbox is full.
    Soft,
    /// The sender is on a block list.
    Block,
    /// SPF, DKIM or DMARC failed.
    Unauthenticated,
    /// The provider knows neither permanence nor reason.
    Undetermined,
}

/// Why a server refuses a message for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// Nothing about the sender.
    Technical,
    /// The sender's rate, as Gmail writes it.
    Rate,
    /// Complaints, as Yahoo writes it.
    Complaints,
    /// The sender is on a block list.
    Listed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    Person,
    Machine,
}

/// The time that an event states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// UTC microseconds, a whole second.
    At(i64),
    In1970,
    In2299,
    /// Nearly an hour after it is posted.
    AnHourAhead,
}

impl Moment {
    /// Returns when the event counts.
    pub(crate) fn counted_at(self) -> i64 {
        match self {
            Self::At(micros) => micros,
            Self::In1970 | Self::In2299 | Self::AnHourAhead => AT_RECEIPT,
        }
    }
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) what: What,
    pub(crate) at: Moment,
    /// The wave in which it is posted.
    pub(crate) wave: usize,
    /// The wave in which it is posted again, if it is.
    pub(crate) again: Option<usize>,
    /// Distinguishes several events of one kind.
    pub(crate) n: u32,
}

/// A message at one recipient.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) source: Source,
    /// Distinguishes the messages of all sources.
    pub(crate) number: u32,
    pub(crate) recipient: String,
    pub(crate) mailbox_provider: &'static str,
    pub(crate) campaign: &'static str,
    /// The address and its organizational domain.
    pub(crate) sender: (&'static str, &'static str),
    pub(crate) sending_ip: String,
    pub(crate) stream: &'static str,
    /// From the table of recipients.
    pub(crate) tenant: Option<&'static str>,
    pub(crate) sent_at: i64,
    /// Whether it is posted when its windows of up to an hour are closed for ever.
    pub(crate) is_straggler: bool,
    /// In the order in which they are posted.
    pub(crate) facts: Vec<Fact>,
}

/// One count of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) counter: Counter,
    /// UTC microseconds or [`AT_RECEIPT`].
    pub(crate) at: i64,
    /// The event that it is due to. It belongs to the groups of which that event has the values.
    pub(crate) due_to: What,
}

impl Message {
    /// Whether the recipient's mailbox provider reports complaints to the source.
    pub(crate) fn reports_complaints(&self) -> bool {
        self.source.feedback_loops.contains(&self.mailbox_provider)
    }

    fn times(&self, selected: impl Fn(What) -> bool) -> impl Iterator<Item = (i64, What)> {
        let facts = self.facts.iter().filter(move |fact| selected(fact.what));
        facts.map(|fact| (fact.at.counted_at(), fact.what))
    }

    /// Returns when the message of an event was sent: the provider's time if the first event about its
    /// delivery states it, and otherwise the time of that event. Without such an event, it is the time
    /// that the event itself states, or `None`.
    pub(crate) fn cohort(&self, what: What) -> Option<i64> {
        let is_about_delivery = |what| {
            matches!(
                what,
                What::Delivered
                    | What::Deferred(_)
                    | What::Bounced(_)
                    | What::LateBounced
                    | What::AutoReplied
                    | What::Dropped
                    | What::Suppressed
            )
        };
        let states = |what| Carried::by(self.source.provider, what).sent_at;
        match self.facts.iter().find(|fact| is_about_delivery(fact.what)) {
            Some(first) if !states(first.what) => Some(first.at.counted_at()),
            Some(_) => Some(self.sent_at),
            None => states(what).then_some(self.sent_at),
        }
    }

    /// Returns everything that the message counts for.
    pub(crate) fn counts(&self) -> Vec<Counted> {
        let mut counts = Vec::new();
        self.count_delivery(&mut counts);
        self.count_once(&mut counts);
        counts
    }

    /// Counts deliveries, deferrals and bounces, by the times at which they happened.
    fn count_delivery(&self, counts: &mut Vec<Counted>) {
        use Counter as C;
        let mut count = |counter, (at, due_to)| counts.push(Counted { counter, at, due_to });
        let reports = self.reports_complaints();
        if let Some(injected) = self.times(|what| what == What::Accepted).min() {
            count(C::Injected, injected);
        }
        let delivered = self.times(|what| what == What::Delivered).min();
        if let Some(delivered) = delivered {
            count(C::Delivered, delivered);
            if reports {
                count(C::DeliveredFbl, delivered);
            }
        }
        let is_late = |(at, what): &(i64, What)| {
            *what == What::LateBounced || delivered.is_some_and(|(delivered, _)| *at >= delivered)
        };
        let bounces: Vec<_> =
            self.times(|what| matches!(what, What::Bounced(_) | What::LateBounced)).collect();
        if let Some(late) = bounces.iter().copied().filter(is_late).min() {
            count(C::LateBounces, late);
            if reports {
                count(C::LateBouncesFbl, late);
            }
        }
        let early = bounces.into_iter().filter(|bounce| !is_late(bounce));
        let early: Vec<_> = early.map(|bounce| (rank(bounce.1), bounce)).collect();
        let bounced = early
            .iter()
            .filter(|_| delivered.is_none())
            .max_by_key(|((rank, _), (at, _))| (*rank, -at))
            .copied();
        if let Some(((_, counter), bounce)) = bounced {
            count(counter, bounce);
        }
        for deferral in self.times(|what| matches!(what, What::Deferred(_))) {
            count(C::Deferrals, deferral);
        }
        // A bounce before the delivery was a deferral.
        let turned = early.iter().filter(|_| delivered.is_some()).map(|(_, bounce)| *bounce);
        let deferred = self.times(|what| matches!(what, What::Deferred(_))).chain(turned).min();
        if let Some(deferred) = deferred {
            count(C::Deferred, deferred);
            let settled = delivered.or(bounced.map(|(_, bounce)| bounce));
            if let Some(settled) = settled {
                count(C::DeferredSettled, settled);
            }
        }
    }

    /// Counts what counts at the first event that arrives.
    fn count_once(&self, counts: &mut Vec<Counted>) {
        let mut counted = BTreeSet::new();
        for fact in &self.facts {
            for &counter in counters_once(self.source.provider, fact.what) {
                if counted.insert(counter) {
                    let (at, due_to) = (fact.at.counted_at(), fact.what);
                    counts.push(Counted { counter, at, due_to });
                }
            }
        }
    }
}

/// Returns the rank of a bounce among those of a message, and its counter.
fn rank(what: What) -> (u8, Counter) {
    match what {
        What::Bounced(Bounce::Hard | Bounce::HardUnclassified) => (4, Counter::BouncedHard),
        What::Bounced(Bounce::Block | Bounce::Unauthenticated) => (3, Counter::BouncedBlock),
        What::Bounced(Bounce::Undetermined) => (2, Counter::BouncedUndetermined),
        _ => (1, Counter::BouncedSoft),
    }
}

/// Returns the counters that count a message at the first event with them.
fn counters_once(provider: Provider, what: What) -> &'static [Counter] {
    use Counter as C;
    match what {
        // Postal passes on the subject of the message that came back, which tells no reason.
        What::LateBounced if provider == Provider::Postal => &[C::Unclassified],
        What::Deferred(Cause::Rate | Cause::Complaints) => &[C::Throttled],
        What::Deferred(Cause::Listed) | What::Bounced(Bounce::Block) => &[C::Listed],
        What::Bounced(Bounce::Unauthenticated) => &[C::AuthRefused],
        What::Bounced(Bounce::HardUnclassified | Bounce::Undetermined) => &[C::Unclassified],
        What::AutoReplied => &[C::AutoReplies],
        What::Dropped => &[C::Dropped],
        What::Suppressed => &[C::Suppressed],
        What::Opened(By::Person) => &[C::Opened, C::Engaged],
        What::Clicked(By::Person) => &[C::Clicked, C::Engaged],
        What::Opened(By::Machine) => &[C::MachineOpened],
        What::Clicked(By::Machine) => &[C::MachineClicked],
        What::Complained => &[C::Complained],
        What::Unsubscribed => &[C::Unsubscribed],
        What::Accepted
        | What::Delivered
        | What::Deferred(Cause::Technical)
        | What::Bounced(Bounce::Hard | Bounce::Soft)
        | What::LateBounced => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::sources;

    const SECOND: i64 = 1_000_000;

    fn message(facts: &[(What, i64)]) -> Message {
        let source = sources::all()[5];
        let fact = |&(what, second)| Fact {
            what,
            at: Moment::At(second * SECOND),
            wave: 0,
            again: None,
            n: 0,
        };
        Message {
            source,
            number: 0,
            recipient: "ada@yahoo.com".to_owned(),
            mailbox_provider: "yahoo",
            campaign: "welcome",
            sender: ("news@mail.acme.test", "acme.test"),
            sending_ip: "198.51.100.1".to_owned(),
            stream: "events",
            tenant: None,
            sent_at: 0,
            is_straggler: false,
            facts: facts.iter().map(fact).collect(),
        }
    }

    /// Returns the names of the counters and the second at which they count.
    fn counts(facts: &[(What, i64)]) -> String {
        let mut counts: Vec<_> = message(facts)
            .counts()
            .into_iter()
            .map(|it| format!("{:?}@{}", it.counter, it.at / SECOND))
            .collect();
        counts.sort();
        counts.join(" ")
    }

    #[test]
    fn a_bounce_is_late_before_or_after_the_delivery_arrives() {
        let late = "Delivered@1 DeliveredFbl@1 LateBounces@5 LateBouncesFbl@5";
        let (delivered, bounced) = ((What::Delivered, 1), (What::Bounced(Bounce::Hard), 5));
        assert_eq!(counts(&[delivered, bounced]), late);
        assert_eq!(counts(&[bounced, delivered]), late);
    }

    #[test]
    fn a_bounce_before_the_delivery_was_a_deferral() {
        let facts = [(What::Bounced(Bounce::Soft), 1), (What::Delivered, 5)];
        assert_eq!(counts(&facts), "Deferred@1 DeferredSettled@5 Delivered@5 DeliveredFbl@5");
    }

    #[test]
    fn of_several_bounces_the_worst_counts() {
        let facts = [
            (What::Bounced(Bounce::Soft), 1),
            (What::Bounced(Bounce::Hard), 5),
            (What::Bounced(Bounce::Hard), 7),
        ];
        assert_eq!(counts(&facts), "BouncedHard@5");
    }

    #[test]
    fn twenty_deferrals_are_one_deferred_message() {
        let mut facts: Vec<_> =
            (0..20).map(|second| (What::Deferred(Cause::Rate), second)).collect();
        facts.push((What::Bounced(Bounce::Soft), 30));
        let text = counts(&facts);
        assert_eq!(text.matches("Deferrals").count(), 20);
        for once in ["Deferred@0", "DeferredSettled@30", "BouncedSoft@30", "Throttled@"] {
            assert_eq!(text.matches(once).count(), 1, "{once} in {text}");
        }
    }

    #[test]
    fn opens_clicks_and_complaints_count_once() {
        let facts = [
            (What::Opened(By::Machine), 1),
            (What::Clicked(By::Person), 2),
            (What::Opened(By::Person), 3),
            (What::Opened(By::Person), 4),
            (What::Complained, 5),
            (What::Complained, 6),
        ];
        assert_eq!(counts(&facts), "Clicked@2 Complained@5 Engaged@2 MachineOpened@1 Opened@3");
    }
}
