//! Sliding windows the slow way: sorted times and two binary searches. What the pipeline's rates
//! are held against, so it shares nothing with them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use event::{Kind, Provider, domain_of};

use crate::Fact;
use crate::clock::{MINUTE, SECOND};

/// The step by which windows slide, in microseconds.
pub const STEP_MICROS: i64 = 10 * SECOND;
/// The demo's wide window, in microseconds.
pub const HOUR_MICROS: i64 = 60 * MINUTE;
/// The demo's narrow window, in microseconds.
pub const QUARTER_MICROS: i64 = 15 * MINUTE;

/// What a rate is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All of a source.
    Source(Provider, String),
    /// A source's mail to one group of mailbox domains; `other` holds every private domain.
    Mailbox(Provider, String, &'static str),
    /// One campaign of a source, where the provider tells campaigns.
    Campaign(Provider, String, String),
}

/// The event times of one scope, sorted, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    accepted: Vec<i64>,
    delivered: Vec<i64>,
    hard: Vec<i64>,
    soft: Vec<i64>,
    complained: Vec<i64>,
    /// The first human open of each message and recipient.
    opened: Vec<i64>,
    /// The first human open or click of each message and recipient.
    engaged: Vec<i64>,
}

/// What happened in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages the provider took for sending.
    pub accepted: usize,
    /// Messages delivered.
    pub delivered: usize,
    /// Final refusals.
    pub hard: usize,
    /// Refusals that are not final.
    pub soft: usize,
    /// Complaints.
    pub complained: usize,
    /// Messages a person opened for the first time.
    pub opened: usize,
    /// Messages a person opened or clicked in for the first time.
    pub engaged: usize,
}

impl Counts {
    /// Messages sent: those accepted, or, where the provider does not report these, those
    /// delivered or bounced.
    pub const fn sent(&self) -> usize {
        if self.accepted > 0 { self.accepted } else { self.delivered + self.hard + self.soft }
    }

    /// Hard bounces in one message sent; 0 where nothing was.
    pub fn hard_rate(&self) -> f64 {
        if self.sent() == 0 { 0.0 } else { self.hard as f64 / self.sent() as f64 }
    }
}

impl Timeline {
    /// What happened in the window that ends at `end`: its first moment is in it, `end` is not.
    pub fn window(&self, end: i64, width_micros: i64) -> Counts {
        let count = |times: &[i64]| {
            times.partition_point(|&t| t < end) - times.partition_point(|&t| t < end - width_micros)
        };
        Counts {
            accepted: count(&self.accepted),
            delivered: count(&self.delivered),
            hard: count(&self.hard),
            soft: count(&self.soft),
            complained: count(&self.complained),
            opened: count(&self.opened),
            engaged: count(&self.engaged),
        }
    }

    /// The ends of all windows of a width that can hold anything, step by step.
    pub fn ends(&self, width_micros: i64) -> impl Iterator<Item = i64> {
        let times = || [&self.accepted, &self.delivered, &self.hard, &self.soft, &self.engaged];
        let first = times().iter().filter_map(|t| t.first().copied()).min().unwrap_or(0);
        let last = times().iter().filter_map(|t| t.last().copied()).max().unwrap_or(0);
        let aligned = first.div_euclid(STEP_MICROS) * STEP_MICROS;
        (1..)
            .map(move |step| aligned + step * STEP_MICROS)
            .take_while(move |end| *end <= last + width_micros)
    }

    /// The stretches of window ends at which at least `min_sent` were sent and more than
    /// `threshold` of them bounced hard.
    pub fn bounce_breaches(
        &self,
        width_micros: i64,
        min_sent: usize,
        threshold: f64,
    ) -> Vec<RangeInclusive<i64>> {
        let mut stretches: Vec<RangeInclusive<i64>> = Vec::new();
        for end in self.ends(width_micros) {
            let counts = self.window(end, width_micros);
            if counts.sent() < min_sent || counts.hard_rate() <= threshold {
                continue;
            }
            match stretches.last_mut() {
                Some(last) if *last.end() + STEP_MICROS == end => *last = *last.start()..=end,
                _ => stretches.push(end..=end),
            }
        }
        stretches
    }

    fn add(&mut self, fact: &Fact, first_open: bool, first_engagement: bool) {
        let at = fact.occurred_at_micros;
        match fact.kind {
            Kind::Accepted => self.accepted.push(at),
            Kind::Delivered => self.delivered.push(at),
            Kind::Bounced if fact.is_hard_bounce() => self.hard.push(at),
            Kind::Bounced => self.soft.push(at),
            Kind::Complained => self.complained.push(at),
            _ => {}
        }
        if first_open {
            self.opened.push(at);
        }
        if first_engagement {
            self.engaged.push(at);
        }
    }
}

/// The timelines of every scope of some facts, each fact given once, in any order.
pub fn timelines<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> BTreeMap<Scope, Timeline> {
    let mut facts: Vec<&Fact> = facts.into_iter().collect();
    facts.sort_by_key(|fact| fact.occurred_at_micros);
    let mut opened = BTreeSet::new();
    let mut engaged = BTreeSet::new();
    let mut timelines: BTreeMap<Scope, Timeline> = BTreeMap::new();
    for fact in facts {
        let message = (fact.provider, &fact.source, &fact.message_id, &fact.recipient);
        let human = fact.is_human_engagement();
        let first_open = human && fact.kind == Kind::Opened && opened.insert(message);
        let first_engagement = human && engaged.insert(message);
        for scope in scopes(fact) {
            timelines.entry(scope).or_default().add(fact, first_open, first_engagement);
        }
    }
    timelines
}

fn scopes(fact: &Fact) -> impl Iterator<Item = Scope> {
    let (provider, source) = (fact.provider, || fact.source.clone());
    let campaign = fact.told_campaign();
    let mailbox = mailbox(domain_of(&fact.recipient));
    [Scope::Source(provider, source()), Scope::Mailbox(provider, source(), mailbox)]
        .into_iter()
        .chain(campaign.map(|campaign| Scope::Campaign(provider, source(), campaign.to_owned())))
}

/// Who runs the mailboxes of a domain.
fn mailbox(domain: &str) -> &'static str {
    match domain {
        "gmail.com" => "gmail",
        "outlook.com" | "hotmail.com" => "outlook",
        "yahoo.com" => "yahoo",
        "icloud.com" => "icloud",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_includes_its_beginning_and_not_its_end() {
        let line = Timeline { accepted: vec![0, 10, 20], hard: vec![10], ..Timeline::default() };
        assert_eq!(line.window(20, 10).accepted, 1);
        assert_eq!(line.window(21, 21).accepted, 3);
        assert_eq!(line.window(21, 21).hard_rate(), 1.0 / 3.0);
        assert_eq!(line.window(19, 10).accepted, 1);
    }

    #[test]
    fn sent_falls_back_to_delivered_and_bounced() {
        let counts = Counts { delivered: 8, hard: 1, soft: 1, ..Counts::default() };
        assert_eq!(counts.sent(), 10);
        assert_eq!(Counts { accepted: 12, ..counts }.sent(), 12);
    }

    #[test]
    fn breaches_are_stretches() {
        let at = |second: i64| second * SECOND;
        let line = Timeline {
            accepted: (0..100).map(|n| at(n * 10 + 5)).collect(),
            hard: vec![at(205), at(206), at(705), at(706)],
            ..Timeline::default()
        };
        let breaches = line.bounce_breaches(at(100), 5, 0.15);
        assert_eq!(breaches, [at(210)..=at(300), at(710)..=at(800)]);
    }
}
