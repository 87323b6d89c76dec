use std::collections::BTreeMap;

use crate::beta::ln_sum_exp;
use crate::bg_bb::{BgBb, Terms};
use crate::history::{Histories, History};
use crate::probability::Probability;

/// The mails of the interval.
pub const HORIZON: u32 = 10;

/// An interval contains what happens with at least this probability.
pub(crate) const COVERAGE: f64 = 0.8;

/// What is predicted for a recipient with a given history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Odds {
    /// That the recipient engages with the next mail.
    pub next: Probability,
    /// That the recipient will not have quit before the next mail.
    pub alive: Probability,
    /// How many of the next [`HORIZON`] mails the recipient engages with.
    pub next_ten: Interval,
}

/// The numbers from `low` to `high`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    low: u32,
    high: u32,
}

impl Interval {
    pub const fn low(self) -> u32 {
        self.low
    }

    pub const fn high(self) -> u32 {
        self.high
    }

    pub const fn contains(self, number: u32) -> bool {
        self.low <= number && number <= self.high
    }

    /// Returns the shortest interval with a probability of [`COVERAGE`]; of several, the most probable.
    ///
    /// An interval with equal tails would be longer, and would not contain 0 for somebody who engages with none of the
    /// next mails with a probability of 9 %.
    fn shortest(probabilities: &[f64]) -> Self {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        for length in 1..probabilities.len() {
            let mass = |window: &[f64]| window.iter().sum::<f64>();
            let windows = probabilities.windows(length).enumerate();
            let best = windows.max_by(|left, right| mass(left.1).total_cmp(&mass(right.1)));
            if let Some((low, window)) = best
                && mass(window) >= COVERAGE
            {
                return Self { low: count(low), high: count(low + length - 1) };
            }
        }
        Self { low: 0, high: count(probabilities.len().saturating_sub(1)) }
    }
}

impl BgBb {
    pub fn odds(&self, history: History) -> Odds {
        Terms::new(self, history.mails()).odds(history)
    }

    /// Returns the probabilities that a recipient engages with 0 to [`HORIZON`] of the next mails.
    pub fn next_ten(&self, history: History) -> [f64; HORIZON as usize + 1] {
        let terms = Terms::new(self, history.mails());
        terms.next_ten(history, terms.alive(history))
    }

    /// Returns the recipient's own model after the history, if the recipient has not quit.
    fn after(&self, history: History) -> Self {
        let (mails, engaged) = (history.mails(), history.engaged());
        Self::new(
            self.engages().after(engaged, mails - engaged),
            self.quits().map(|quits| quits.after(0, mails)),
        )
    }
}

impl Terms {
    fn odds(&self, history: History) -> Odds {
        let own = self.model.after(history);
        let alive_before = self.alive(history);
        // Alive at the next mail, as in the paper: it includes not quitting before it.
        let alive = alive_before * own.quits().map_or(1.0, |quits| 1.0 - quits.mean());
        Odds {
            next: Probability::rounded(alive * own.engages().mean()),
            alive: Probability::rounded(alive),
            next_ten: Interval::shortest(&self.next_ten(history, alive_before)),
        }
    }

    /// Returns P(the recipient had not quit before the last mail | history).
    fn alive(&self, history: History) -> f64 {
        let ln_likelihood = self.ln_likelihood(history, &mut Vec::new());
        (self.ln_alive(history.mails(), history.engaged()) - ln_likelihood).exp()
    }

    /// The recipient has quit already and engages with none, or still follows the model, with what the
    /// history tells about both probabilities. `alive` is [`Self::alive`].
    fn next_ten(&self, history: History, alive: f64) -> [f64; HORIZON as usize + 1] {
        let mut probabilities = Self::new(&self.model.after(history), HORIZON).of_numbers();
        for probability in &mut probabilities {
            *probability *= alive;
        }
        probabilities[0] += 1.0 - alive;
        probabilities
    }

    /// Returns the probabilities that a new recipient engages with 0 to [`HORIZON`] of the first mails.
    fn of_numbers(&self) -> [f64; HORIZON as usize + 1] {
        let mut engaged = 0;
        std::array::from_fn(|_| {
            let mut terms = vec![ln_choose(HORIZON, engaged) + self.ln_alive(HORIZON, engaged)];
            terms.extend((engaged..HORIZON).map_while(|mails| {
                Some(ln_choose(mails, engaged) + self.ln_quits_after(mails, engaged)?)
            }));
            engaged += 1;
            ln_sum_exp(&terms).exp()
        })
    }
}

fn ln_choose(n: u32, k: u32) -> f64 {
    (0..k).map(|i| (f64::from(n - i) / f64::from(k - i)).ln()).sum()
}

/// The odds of every history that occurs.
#[derive(Debug, Clone, PartialEq)]
pub struct OddsTable(BTreeMap<History, Odds>);

impl OddsTable {
    pub fn new(model: &BgBb, histories: &Histories) -> Self {
        let terms = Terms::new(model, histories.most_mails());
        Self(histories.iter().map(|(history, _)| (history, terms.odds(history))).collect())
    }

    /// Returns `None` for a history that did not occur.
    pub fn get(&self, history: History) -> Option<Odds> {
        self.0.get(&history).copied()
    }

    /// In ascending order of mails, engaged mails and last engaged mail.
    pub fn iter(&self) -> impl Iterator<Item = (History, Odds)> {
        self.0.iter().map(|(history, odds)| (*history, *odds))
    }
}

#[cfg(test)]
mod tests;
