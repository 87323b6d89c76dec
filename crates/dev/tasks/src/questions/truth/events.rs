//! What happened to the mail, and what each event counts for.

use std::collections::BTreeMap;

use crate::questions::mail::{HOUR, Mail, SECOND};
use crate::truth::counts::{Counter, Counts};
use crate::truth::message::{By, Counted, Message, What};
use crate::truth::payload;
use crate::truth::sources::Carried;

/// One event. Times are unix seconds.
#[derive(Debug)]
pub(crate) struct Happened<'a> {
    pub(crate) mail: &'a Mail,
    /// The number of the event in its message, by receipt.
    pub(crate) place: usize,
    pub(crate) what: What,
    /// When it counts.
    pub(crate) at: i64,
    pub(crate) received: i64,
    /// What it counts for at its own time.
    pub(crate) counts: Vec<Counter>,
    /// Whether its message already had one of its kind.
    pub(crate) is_repeated: bool,
}

/// One count of a message. Times are unix seconds.
#[derive(Debug)]
pub(crate) struct Count<'a> {
    pub(crate) mail: &'a Mail,
    pub(crate) counter: Counter,
    pub(crate) at: i64,
    /// The hour in which the message was sent, as far as the events tell.
    pub(crate) sent_hour: Option<i64>,
    /// Hours since sending, up to 23, then full days in hours.
    pub(crate) age: i64,
    /// The sending address that the event states.
    pub(crate) sending_ip: &'a str,
}

/// Everything that happened.
pub(crate) struct Truth<'a> {
    pub(crate) mails: &'a [Mail],
    /// In the order of receipt.
    pub(crate) happened: Vec<Happened<'a>>,
    pub(crate) counts: Vec<Count<'a>>,
}

impl Mail {
    /// Returns the events, which are in the order of receipt.
    fn happened(&self) -> impl Iterator<Item = Happened<'_>> {
        let mut kinds = BTreeMap::new();
        self.message.facts.iter().enumerate().map(move |(place, fact)| {
            let kind = payload::kind(self.message.source.provider, fact.what);
            let is_machine =
                matches!(fact.what, What::Opened(By::Machine) | What::Clicked(By::Machine));
            let seen: &mut u32 = kinds.entry((kind.as_str(), is_machine)).or_default();
            *seen += 1;
            Happened {
                mail: self,
                place,
                what: fact.what,
                at: fact.at.counted_at() / SECOND,
                received: self.receipts[place] / SECOND,
                counts: counts_at(&self.message, place),
                is_repeated: *seen > 1,
            }
        })
    }

    fn counts(&self) -> impl Iterator<Item = Count<'_>> {
        self.message.counts().into_iter().map(|counted| {
            let sent = self.message.cohort(counted.due_to);
            let at = counted.at / SECOND;
            let hours = sent.map_or(0, |sent| (at - sent / SECOND).max(0) / HOUR);
            let carried = Carried::by(self.message.source.provider, counted.due_to);
            Count {
                mail: self,
                counter: counted.counter,
                at,
                sent_hour: sent.map(|sent| (sent / SECOND).div_euclid(HOUR) * HOUR),
                age: if hours < 24 { hours } else { 24 * (hours / 24).min(30) },
                sending_ip: if carried.sending_ip { &self.message.sending_ip } else { "" },
            }
        })
    }

    /// Returns the time of the first event that is selected, by the times at which they count.
    pub(crate) fn first(&self, selected: impl Fn(What) -> bool) -> Option<i64> {
        let facts = self.message.facts.iter().filter(|fact| selected(fact.what));
        facts.map(|fact| fact.at.counted_at() / SECOND).min()
    }

    /// The same of the last one.
    pub(crate) fn last(&self, selected: impl Fn(What) -> bool) -> Option<i64> {
        let facts = self.message.facts.iter().filter(|fact| selected(fact.what));
        facts.map(|fact| fact.at.counted_at() / SECOND).max()
    }
}

/// Returns what an event counts for at its own time: what the message counts for with it, and not without it and
/// all later ones.
fn counts_at(message: &Message, place: usize) -> Vec<Counter> {
    let prefix = |facts: usize| {
        Message { facts: message.facts[..facts].to_vec(), ..message.clone() }.counts()
    };
    let at = message.facts[place].at.counted_at();
    let mut before = prefix(place);
    let mut new = |counted: &Counted| {
        let old = before.iter().position(|it| (it.counter, it.at) == (counted.counter, counted.at));
        old.map(|old| before.swap_remove(old)).is_none()
    };
    let after = prefix(place + 1).into_iter().filter(|counted| new(counted));
    let mut counters: Vec<Counter> =
        after.filter(|counted| counted.at == at).map(|counted| counted.counter).collect();
    counters.sort_unstable();
    counters
}

impl<'a> Truth<'a> {
    pub(crate) fn new(mails: &'a [Mail]) -> Self {
        let mut happened: Vec<_> = mails.iter().flat_map(Mail::happened).collect();
        happened.sort_by_key(|it| (it.received, it.mail.message.number, it.place));
        Self { mails, happened, counts: mails.iter().flat_map(Mail::counts).collect() }
    }

    /// Adds up the counts that have a key.
    pub(crate) fn sums<K: Ord>(
        &self,
        key: impl Fn(&Count<'a>) -> Option<K>,
    ) -> BTreeMap<K, Counts> {
        let mut sums: BTreeMap<K, Counts> = BTreeMap::new();
        for count in &self.counts {
            if let Some(key) = key(count) {
                sums.entry(key).or_default()[count.counter] += 1;
            }
        }
        sums
    }

    /// Returns the events of a source that count from one moment until before another.
    pub(crate) fn of_source(
        &self,
        source: &str,
        from: i64,
        to: i64,
    ) -> impl Iterator<Item = &Happened<'a>> {
        let is_selected = move |it: &&Happened<'a>| (from..to).contains(&it.at);
        let source = source.to_owned();
        self.happened
            .iter()
            .filter(move |it| it.mail.message.source.name == source)
            .filter(is_selected)
    }
}
