//! How often healthy mail opens an episode: a sender with a known rate, a virtual clock, and the real rules.
//!
//! Mail is sent for 50 minutes of every hour, so that every hour begins with a rise. A bounce is known at once,
//! a delivery on average 25 seconds later, so the first windows of every hour show too many bounces. Opens,
//! complaints and unsubscribes come hours later. Everything follows from the seed.

mod detection;
mod mail;

pub use detection::Detection;
use event::Provider;
use mail::Mail;
use rand::SeedableRng;
use rand::rngs::StdRng;
use window::{Direction, Scope};

use crate::rule::Test;
use crate::{AlertState, AsOf, Rule, RuleInForce, RuleSet, ScopeEpisodes, Severity, evalue};

/// The panes of an hour, of a day, and of the part of an hour in which mail is sent.
const HOUR: i64 = 360;
const DAY: i64 = 24 * HOUR;
const SENDING: i64 = 300;

/// The share of waiting deliveries that come within a pane: exponentially distributed, with a mean of 20 s.
const DELIVERED: f64 = 0.393;

/// The same of deferred messages (5 minutes), and of opens, complaints and unsubscribes (4 hours).
const SETTLED: f64 = 0.033;
const REACTED: f64 = 0.000_69;

/// The standard deviation of the rates of overdispersed lists, relative to their mean.
const SPREAD: f64 = 0.05;

/// How much greater than binomial the variance of ten seconds of an overdispersed list is: messages to one
/// domain, or from one server, share their fate.
const DESIGN_EFFECT: f64 = 1.5;

/// How the messages of a sender share their fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Every message has the same chance.
    Binomial,
    /// Every hour another list is mailed. The rates of lists follow a beta distribution with a standard
    /// deviation of 5 % of the mean, and messages of the same ten seconds share their fate so far that the
    /// variance of their number is 1.5 times that of a binomial distribution.
    Overdispersed,
}

/// One sender.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The rule that is judged.
    pub rule: RuleInForce,
    /// The mean rate of sending.
    pub mails_per_minute: f64,
    /// The true rate, as a share of the lowest threshold: 0.6 is healthy. For thresholds that a rate must not
    /// fall below, see [`Sender::true_rate`].
    pub share: f64,
    /// How the rate varies.
    pub list: List,
    /// The simulated days.
    pub days: u32,
    /// The seed.
    pub seed: u64,
}

/// What the rule did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Noise {
    /// The episodes that were opened. All are false.
    pub episodes: u32,
    /// Those that reached severity critical or page.
    pub criticals: u32,
    /// Those that reached severity page.
    pub pages: u32,
    /// The share of the time with an open episode.
    pub open: f64,
}

/// A sequence of campaigns that are judged after every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlyStop {
    /// The campaigns.
    pub campaigns: u32,
    /// Those that were stopped.
    pub stopped: u32,
    /// The median number of messages until the stop. Campaigns that were not stopped count as endless.
    pub median: Option<u32>,
}

/// Simulates campaigns with a true rate `rate` that are tested for a rate of at most `p0` after every message.
pub fn early_stop(rate: f64, p0: f64, campaigns: u32, mails: u32, seed: u64) -> EarlyStop {
    let mut random = StdRng::seed_from_u64(seed);
    let mut stops = Vec::new();
    for _ in 0..campaigns {
        let mut bounced = 0;
        for sent in 1..=mails {
            if rand::RngExt::random_bool(&mut random, rate) {
                bounced += 1;
                // The e-value rises with bounces alone.
                if evalue::stops(bounced, sent.into(), p0, 0.001) {
                    stops.push(sent);
                    break;
                }
            }
        }
    }
    stops.sort_unstable();
    let stopped = u32::try_from(stops.len()).unwrap_or(u32::MAX);
    EarlyStop { campaigns, stopped, median: stops.get(campaigns as usize / 2).copied() }
}

/// Returns the default rules about rates: those of bounds and e-values against fixed thresholds.
pub fn rate_rules() -> Vec<RuleInForce> {
    let rules = RuleSet::defaults();
    rules.rules().iter().filter(|rule| no_rate(rule).is_none()).cloned().collect()
}

/// Returns the names of the other default rules, and why they are not simulated.
pub fn rules_without_rate() -> Vec<(String, &'static str)> {
    let rules = RuleSet::defaults();
    let rules = rules.rules().iter();
    rules.filter_map(|rule| Some((rule.name.clone(), no_rate(rule)?))).collect()
}

/// Returns why the false episodes of a rule do not follow from a true rate.
fn no_rate(rule: &Rule) -> Option<&'static str> {
    match rule.test {
        Test::Count => Some("it counts answers that are facts, so healthy mail has none"),
        Test::Burst | Test::Gap | Test::Missing => {
            Some("it compares counts with those of four weeks, not with a rate")
        }
        Test::Bound | Test::EValue => {
            let is_relative = rule.baseline.is_some_and(|baseline| baseline.factor.is_none());
            is_relative.then_some("its threshold is a share of the engagement of four weeks")
        }
    }
}

impl Sender {
    /// Returns the true rate. If the bad side is `under`, the distance to the threshold is the same as for a rule
    /// of the other direction: 60 % of 15 % is 25 %, and 60 % of 97 % is 98.2 %.
    pub fn true_rate(&self) -> f64 {
        let threshold = self.rule.lowest_threshold();
        match self.rule.direction {
            Direction::Over => threshold * self.share,
            Direction::Under if threshold > 0.5 => 1.0 - (1.0 - threshold) * self.share,
            Direction::Under => threshold / self.share,
        }
    }

    /// Runs the simulation.
    pub fn run(&self) -> Noise {
        let scope = scope_of(&self.rule);
        let rules = [self.rule.clone()];
        let mut mail = Mail::new(self);
        let mut episodes = ScopeEpisodes::default();
        let (mut alerts, mut noise, mut open) = (Vec::new(), Noise::default(), 0_i64);
        let mut severity = Severity::Warning;
        let panes = i64::from(self.days) * DAY;
        for pane in 0..panes {
            mail.send(pane);
            let as_of = AsOf([(0, pane)].into());
            episodes.judge(&scope, &rules, &mail, &as_of, &mut alerts);
            for alert in alerts.drain(..).filter(|alert| alert.state == AlertState::Firing) {
                if alert.seq == 1 {
                    (noise.episodes, severity) = (noise.episodes + 1, Severity::Warning);
                }
                // An episode also fires when it is no longer stale, with the severity that it had.
                let rises_to = |to| severity < to && alert.severity >= to;
                noise.criticals += u32::from(rises_to(Severity::Critical));
                noise.pages += u32::from(rises_to(Severity::Page));
                severity = alert.severity;
            }
            open += i64::from(episodes.has_open());
        }
        #[expect(clippy::cast_precision_loss, reason = "panes of days")]
        let share = open as f64 / panes.max(1) as f64;
        Noise { open: share, ..noise }
    }
}

/// Returns a scope that the rule judges.
fn scope_of(rule: &Rule) -> Scope {
    let kind = rule.scopes.first().copied().unwrap_or(window::ScopeKind::Source);
    let scope = Scope::new(kind, Provider::SendGrid, "acme", |_| Some("one"));
    scope.unwrap_or(Scope::Tenant { tenant: "acme".to_owned() })
}

#[cfg(test)]
mod tests {
    use window::{PANE, Width};

    use super::*;
    use crate::Evidence;

    fn sender(rule: &str, mails_per_minute: f64, share: f64, days: u32) -> Sender {
        let rule = rate_rules().into_iter().find(|it| it.name == rule).unwrap();
        Sender { rule, mails_per_minute, share, list: List::Binomial, days, seed: 7 }
    }

    #[test]
    fn healthy_mail_opens_no_episode_and_bad_mail_does() {
        for rule in ["hard_bounces", "bounce_rate", "blocks"] {
            let noise = sender(rule, 200.0, 0.6, 1).run();
            assert_eq!(noise, Noise::default(), "{rule}");
            let noise = sender(rule, 200.0, 1.5, 1).run();
            assert!(noise.episodes >= 1 && noise.open > 0.9, "{rule}: {noise:?}");
        }
    }

    #[test]
    fn the_simulated_rate_is_the_true_rate() {
        for rule in rate_rules() {
            let sender = Sender { rule, ..sender("blocks", 5000.0, 0.8, 3) };
            let mut mail = Mail::new(&sender);
            (0..3 * DAY).for_each(|pane| mail.send(pane));
            let counts = match sender.rule.basis {
                crate::Basis::Cohort => {
                    mail.cohort(mail.end - 48 * HOUR * PANE, mail.end - 24 * HOUR * PANE)
                }
                _ => mail.window(Width::H24).unwrap(),
            };
            let view = if sender.rule.basis == crate::Basis::Cohort {
                window::View::Cohort
            } else {
                window::View::Arrival
            };
            let (k, n) = sender.rule.metric.fraction(&counts, view);
            let (seen, truth) =
                (crate::bounds::float(k) / crate::bounds::float(n), sender.true_rate());
            let name = &sender.rule.name;
            assert!((seen / truth - 1.0).abs() < 0.1, "{name}: {seen} instead of {truth}");
        }
    }

    /// The claims of docs/alerts.md about early stops.
    #[test]
    fn early_stops_are_rarely_false_and_soon_right() {
        let exact = early_stop(0.02, 0.02, 2000, 5000, 1);
        assert!(exact.stopped <= 4, "{exact:?}");
        for (rate, most) in [(0.1, 150), (0.06, 400)] {
            let stop = early_stop(rate, 0.02, 301, 20_000, 2);
            assert!(stop.median.is_some_and(|median| median <= most), "{stop:?}");
        }
    }
}
