//! Best time: in which two hours of a recipient's local day a mail is most likely to be opened soon.

use crate::beta::Beta;
use crate::minimum::minimum;
use crate::odds::COVERAGE;
use crate::probability::Probability;
use crate::{Unknown, float};

/// The slots of a day, of two hours each.
pub const SLOTS: usize = 12;

/// A recipient's own slot is reported if it beats the population's with at least this probability.
const CERTAIN: f64 = 0.9;

/// The rate of a slot of the population counts as if this many further deliveries had been opened at the rate of all
/// slots. Otherwise, a slot with three deliveries of which two were opened would be the best of the day.
const PRIOR_DELIVERIES: f64 = 200.0;

/// The level of a recipient counts as if this many further opens had been expected, and had happened. In simulations,
/// values from 1 to 3 make hardly any difference.
const PRIOR_OPENS: f64 = 2.0;

/// The greatest rate to which a recipient's rate is shrunk. Nobody opens everything within two hours.
const GREATEST_RATE: f64 = 0.95;

/// The concentration is fitted to at most about this many recipients. More do not change it, and take long.
const MOST_FITTED: usize = 20_000;

/// Two hours of the local day; slot 0 begins at midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u8);

impl Slot {
    /// In ascending order of time.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SLOTS as u8).map(Self)
    }

    /// Returns the slot of a local hour; `None` if the hour is not from 0 to 23.
    pub fn of_hour(hour: u8) -> Option<Self> {
        (hour < 24).then_some(Self(hour / 2))
    }

    /// From 0 to 11.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The local hour at which the slot begins.
    pub const fn first_hour(self) -> u8 {
        self.0 * 2
    }
}

/// Mails that were delivered to one recipient in one slot, and how many of them the recipient, not a machine, opened
/// within two hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotCount {
    delivered: u32,
    opened: u32,
}

/// Why two numbers are not the counts of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{opened} of {delivered} delivered mails cannot have been opened")]
pub struct ImpossibleCount {
    delivered: u32,
    opened: u32,
}

impl SlotCount {
    /// # Errors
    /// If more mails were opened than delivered.
    pub const fn new(delivered: u32, opened: u32) -> Result<Self, ImpossibleCount> {
        if opened > delivered {
            return Err(ImpossibleCount { delivered, opened });
        }
        Ok(Self { delivered, opened })
    }

    pub const fn delivered(self) -> u32 {
        self.delivered
    }

    pub const fn opened(self) -> u32 {
        self.opened
    }
}

/// The counts of one recipient.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotCounts(pub [SlotCount; SLOTS]);

impl SlotCounts {
    fn of(&self, slot: Slot) -> SlotCount {
        self.0[slot.index()]
    }

    fn opened(&self) -> u64 {
        self.0.iter().map(|count| u64::from(count.opened)).sum()
    }

    /// Returns how much more often the recipient opens than the population does in the same slots; 1 is as often.
    fn level(&self, rates: &[f64; SLOTS]) -> f64 {
        let counts = self.0.iter().zip(rates);
        let expected: f64 = counts.map(|(count, rate)| f64::from(count.delivered) * rate).sum();
        (float(self.opened()) + PRIOR_OPENS) / (expected + PRIOR_OPENS)
    }

    /// Returns the distribution of the recipient's rate in the slot before anything was delivered in it.
    fn prior(&self, slot: Slot, rates: &[f64; SLOTS], concentration: f64) -> Option<Beta> {
        let rate = rates[slot.index()] * self.level(rates);
        Beta::with_mean(rate.min(GREATEST_RATE), concentration)
    }
}

/// When a recipient should get mail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BestSlot {
    pub slot: Slot,
    /// True if this is the recipient's own slot, and it beats the population's with a probability of at least 0.9.
    /// Otherwise `slot` is the population's.
    pub certain: bool,
}

/// How the rates of recipients are distributed in each slot: a beta distribution around the rate of the population at
/// the recipient's level.
///
/// Without the level, one concentration would have to describe how much people differ in how often they open, and how
/// much their slots differ. The first is the greater part, so that chance would pass for a habit.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotModel {
    rates: [f64; SLOTS],
    concentration: f64,
    best: Slot,
}

impl SlotModel {
    /// Fits the concentration by maximum likelihood of the beta-binomial distribution. Recipients without opens have no
    /// known time zone. Those with a single open are left out, too: their zone is that of this very open, so that it
    /// is in a usual slot more often than it should be.
    ///
    /// # Errors
    /// If fewer than [`MIN_RECIPIENTS`](crate::MIN_RECIPIENTS) recipients have opened two mails or more.
    pub fn fit(recipients: &[SlotCounts]) -> Result<Self, Unknown> {
        let fitted: Vec<&SlotCounts> = recipients.iter().filter(|it| it.opened() >= 2).collect();
        Unknown::unless_enough(fitted.len() as u64)?;
        let rates = rates(recipients);
        let step = fitted.len().div_ceil(MOST_FITTED);
        let sample: Vec<&SlotCounts> = fitted.into_iter().step_by(step).collect();
        let cost = |[ln_concentration]: &[f64; 1]| cost(*ln_concentration, &rates, &sample);
        let ([ln_concentration], _) = minimum([10_f64.ln()], cost);
        let rate = |slot: &Slot| rates[slot.index()];
        let best = Slot::all().max_by(|left, right| rate(left).total_cmp(&rate(right)));
        Ok(Self { rates, concentration: ln_concentration.exp(), best: best.unwrap_or(Slot(0)) })
    }

    /// The slot in which the population opens most.
    pub const fn best(&self) -> Slot {
        self.best
    }

    /// How alike the days of recipients are: as if each had this many deliveries in each slot, opened at the rate of
    /// the population at the recipient's level, before the first real one.
    pub const fn concentration(&self) -> f64 {
        self.concentration
    }

    /// Returns P(the recipient opens a mail within two hours | delivered in the slot).
    pub fn rate(&self, counts: &SlotCounts, slot: Slot) -> Probability {
        self.posterior(counts, slot)
            .map_or(Probability::ZERO, |beta| Probability::rounded(beta.mean()))
    }

    /// Returns the ends of the interval that contains the recipient's rate in the slot with a probability of
    /// [`COVERAGE`]; the rate is below and above it with the same probability.
    pub fn interval(&self, counts: &SlotCounts, slot: Slot) -> (Probability, Probability) {
        let tail = (1.0 - COVERAGE) / 2.0;
        self.posterior(counts, slot).map_or((Probability::ZERO, Probability::ONE), |beta| {
            let end = |share| Probability::rounded(beta.quantile(share));
            (end(tail), end(1.0 - tail))
        })
    }

    /// Returns the recipient's own slot if it is better than the population's, else the population's.
    pub fn best_of(&self, counts: &SlotCounts) -> BestSlot {
        let mean = |slot: &Slot| self.rate(counts, *slot).get();
        let own = Slot::all().max_by(|left, right| mean(left).total_cmp(&mean(right)));
        match own {
            Some(own) if own != self.best && self.beats(counts, own, self.best) >= CERTAIN => {
                BestSlot { slot: own, certain: true }
            }
            _ => BestSlot { slot: self.best, certain: false },
        }
    }

    /// Returns P(the recipient's rate in one slot is greater than in another).
    fn beats(&self, counts: &SlotCounts, slot: Slot, other: Slot) -> f64 {
        match (self.posterior(counts, slot), self.posterior(counts, other)) {
            (Some(slot), Some(other)) => slot.beats(other),
            _ => 0.0,
        }
    }

    fn posterior(&self, counts: &SlotCounts, slot: Slot) -> Option<Beta> {
        let count = counts.of(slot);
        let prior = counts.prior(slot, &self.rates, self.concentration)?;
        Some(prior.after(count.opened, count.delivered - count.opened))
    }
}

/// Returns the rates of the population. None is 0 or 1.
fn rates(recipients: &[SlotCounts]) -> [f64; SLOTS] {
    let mut totals = [(0, 0); SLOTS];
    for recipient in recipients {
        for (count, (delivered, opened)) in recipient.0.iter().zip(&mut totals) {
            *delivered += u64::from(count.delivered);
            *opened += u64::from(count.opened);
        }
    }
    let sum = |part: fn(&(u64, u64)) -> u64| float(totals.iter().map(part).sum());
    let rate_of_all = (sum(|it| it.1) + 0.5) / (sum(|it| it.0) + 1.0);
    totals.map(|(delivered, opened)| {
        (float(opened) + PRIOR_DELIVERIES * rate_of_all) / (float(delivered) + PRIOR_DELIVERIES)
    })
}

/// Returns the negative log likelihood of the counts.
fn cost(ln_concentration: f64, rates: &[f64; SLOTS], recipients: &[&SlotCounts]) -> f64 {
    // Beyond, the days of all are alike, or each opens always or never in a slot.
    if !(-5.0..=10.0).contains(&ln_concentration) {
        return f64::INFINITY;
    }
    let concentration = ln_concentration.exp();
    let mut sum = 0.0;
    for recipient in recipients {
        let level = recipient.level(rates);
        for (count, rate) in recipient.0.iter().zip(rates) {
            let rate = (rate * level).min(GREATEST_RATE);
            sum -= ln_probability(*count, rate, concentration);
        }
    }
    sum
}

/// Returns ln P(these opens in a given order) by the beta-binomial distribution: the product of the probabilities of
/// each outcome given those before it. There is no table, because the mean is another for every recipient.
fn ln_probability(count: SlotCount, mean: f64, concentration: f64) -> f64 {
    let (a, b) = (mean * concentration, (1.0 - mean) * concentration);
    let (mut product, mut ln, mut before) = (1.0_f64, 0.0, concentration);
    let mut multiply = |shape: f64, times: u32| {
        for earlier in 0..times {
            product *= (shape + f64::from(earlier)) / before;
            before += 1.0;
            // Products of thousands of probabilities would become 0.
            if product < 1e-200 {
                ln += product.ln();
                product = 1.0;
            }
        }
    };
    multiply(a, count.opened);
    multiply(b, count.delivered - count.opened);
    ln + product.ln()
}

#[cfg(test)]
mod tests;
