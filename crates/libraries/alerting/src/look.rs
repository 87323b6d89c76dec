//! What a rule sees in its windows at one moment, for tools.

use window::Direction;

use crate::Severity;
use crate::bounds::{float, lower_bound, upper_bound};
use crate::evidence::{AsOf, Evidence};
use crate::rule::{Rule, RuleWindow};
use crate::verdict::{Level, Windows, judge};

/// The rate of one window, and the bound that the rule compares with its thresholds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// The end of the window, in UTC microseconds.
    pub at: i64,
    /// The numerator of the rate.
    pub numerator: u64,
    /// The denominator of the rate.
    pub volume: u64,
    /// The bound of the counts on which the verdict is based. They can differ from those of the rate: see
    /// [`settle`](Rule::settle).
    pub bound: f64,
}

impl Look {
    /// Looks at a window of a rule about a rate. Returns `None` if it has no mail, or if the evidence does not have
    /// the window.
    pub fn at(rule: &Rule, window: &RuleWindow, evidence: &dyn Evidence) -> Option<Self> {
        let as_of = AsOf::default();
        let ((numerator, volume), (k, n)) = Windows::new(evidence, &as_of).counted(rule, window)?;
        let bound = match rule.direction {
            Direction::Over => lower_bound(k, n, rule.confidence),
            Direction::Under => upper_bound(k, n, rule.confidence),
        };
        (volume > 0).then_some(Self { at: evidence.end(), numerator, volume, bound })
    }

    /// Returns the rate.
    pub fn rate(&self) -> f64 {
        float(self.numerator) / float(self.volume)
    }
}

/// Returns the severity with which the evidence breaks a rule, whatever happened before. Rules that compare with a
/// baseline are broken only if the evidence has one.
pub fn breach(rule: &Rule, evidence: &dyn Evidence) -> Option<Severity> {
    let as_of = AsOf::default();
    match judge(rule, &Windows::new(evidence, &as_of), None, i64::MIN).level {
        Level::Breach(severity) => Some(severity),
        _ => None,
    }
}
