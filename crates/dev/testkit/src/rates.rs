//! Computes sliding windows by two binary searches in sorted times. Slow, but it shares no code
//! with the pipeline, whose rates are compared with these.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use event::{Kind, Provider, domain_of};

use crate::MailEvent;
use crate::time_formats::{MINUTE, SECOND};

/// The step by which windows slide.
pub const STEP_MICROS: i64 = 10 * SECOND;
/// The demo's wide window.
pub const HOUR_MICROS: i64 = 60 * MINUTE;
/// The demo's narrow window.
pub const QUARTER_MICROS: i64 = 15 * MINUTE;

/// What a rate is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Source(Provider, String),
    /// The mail of a source to one mailbox provider; `other` contains every private domain.
    Mailbox(Provider, String, &'static str),
    /// One campaign of a source, if the provider reports campaigns.
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

/// Counts of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub accepted: usize,
    pub delivered: usize,
    pub hard: usize,
    pub soft: usize,
    pub complained: usize,
    /// Messages that a person opened for the first time.
    pub opened: usize,
    /// Messages that a person opened or clicked for the first time.
    pub engaged: usize,
}

impl Counts {
    /// Returns the delivered and bounced messages.
    pub const fn sent(&self) -> usize {
        self.delivered + self.hard + self.soft
    }

    /// Returns the hard bounces per sent message, or 0 if nothing was sent.
    pub fn hard_rate(&self) -> f64 {
        if self.sent() == 0 { 0.0 } else { self.hard as f64 / self.sent() as f64 }
    }
}

impl Timeline {
    /// Counts the window that ends at `end`. Its first microsecond belongs to it, `end` does not.
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

    /// Returns the ends of all windows of this width that can contain an event.
    pub fn ends(&self, width_micros: i64) -> impl Iterator<Item = i64> {
        let times = || [&self.accepted, &self.delivered, &self.hard, &self.soft, &self.engaged];
        let first = times().iter().filter_map(|t| t.first().copied()).min().unwrap_or(0);
        let last = times().iter().filter_map(|t| t.last().copied()).max().unwrap_or(0);
        let aligned = first.div_euclid(STEP_MICROS) * STEP_MICROS;
        (1..)
            .map(move |step| aligned + step * STEP_MICROS)
            .take_while(move |end| *end <= last + width_micros)
    }

    /// Returns the ranges of window ends at which at least `min_sent` messages were sent and more
    /// than the share `threshold` of them bounced hard.
    pub fn bounce_breaches(
        &self,
        width_micros: i64,
        min_sent: usize,
        threshold: f64,
    ) -> Vec<RangeInclusive<i64>> {
        let mut breaches: Vec<RangeInclusive<i64>> = Vec::new();
        for end in self.ends(width_micros) {
            let counts = self.window(end, width_micros);
            if counts.sent() < min_sent || counts.hard_rate() <= threshold {
                continue;
            }
            match breaches.last_mut() {
                Some(last) if *last.end() + STEP_MICROS == end => *last = *last.start()..=end,
                _ => breaches.push(end..=end),
            }
        }
        breaches
    }

    fn add(&mut self, event: &MailEvent, first_open: bool, first_engagement: bool) {
        let at = event.occurred_at_micros;
        match event.kind {
            Kind::Accepted => self.accepted.push(at),
            Kind::Delivered => self.delivered.push(at),
            Kind::Bounced if event.is_hard_bounce() => self.hard.push(at),
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

/// Returns the timeline of every scope. The events must be distinct; their order does not matter.
pub fn timelines<'a>(events: impl IntoIterator<Item = &'a MailEvent>) -> BTreeMap<Scope, Timeline> {
    let mut events: Vec<&MailEvent> = events.into_iter().collect();
    events.sort_by_key(|event| event.occurred_at_micros);
    let mut opened = BTreeSet::new();
    let mut engaged = BTreeSet::new();
    let mut timelines: BTreeMap<Scope, Timeline> = BTreeMap::new();
    for event in events {
        let message = (event.provider, &event.source, &event.message_id, &event.recipient);
        let human = event.is_human_engagement();
        let first_open = human && event.kind == Kind::Opened && opened.insert(message);
        let first_engagement = human && engaged.insert(message);
        for scope in scopes(event) {
            timelines.entry(scope).or_default().add(event, first_open, first_engagement);
        }
    }
    timelines
}

fn scopes(event: &MailEvent) -> impl Iterator<Item = Scope> {
    let (provider, source) = (event.provider, || event.source.clone());
    let campaign = event.reported_campaign();
    let mailbox = mailbox(domain_of(&event.recipient));
    [Scope::Source(provider, source()), Scope::Mailbox(provider, source(), mailbox)]
        .into_iter()
        .chain(campaign.map(|campaign| Scope::Campaign(provider, source(), campaign.to_owned())))
}

/// Returns the mailbox provider of a domain.
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
        assert_eq!(line.window(21, 21).hard, 1);
        assert_eq!(line.window(19, 10).accepted, 1);
    }

    #[test]
    fn sent_is_what_was_delivered_or_bounced() {
        let counts = Counts { delivered: 8, hard: 1, soft: 1, ..Counts::default() };
        assert_eq!(counts.sent(), 10);
        assert_eq!(Counts { accepted: 12, ..counts }.sent(), 10);
        assert_eq!(counts.hard_rate(), 0.1);
    }

    #[test]
    fn breaches_are_ranges_of_window_ends() {
        let at = |second: i64| second * SECOND;
        let line = Timeline {
            delivered: (0..100).map(|n| at(n * 10 + 5)).collect(),
            hard: vec![at(205), at(206), at(705), at(706)],
            ..Timeline::default()
        };
        let breaches = line.bounce_breaches(at(100), 5, 0.15);
        assert_eq!(breaches, [at(210)..=at(300), at(710)..=at(800)]);
    }
}
