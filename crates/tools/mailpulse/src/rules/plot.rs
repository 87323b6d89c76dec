//! Plots of `mailpulse rules test`: rate, bound, thresholds and episodes of one rule in one scope.

mod svg;
mod terminal;

use std::io::{self, Write};
use std::path::Path;

use alerting::rule::RuleWindow;
use alerting::{Alert, AlertState, Look, RuleInForce};
use window::{Direction, Scope};

/// The most plots that are drawn.
const MOST: usize = 8;

/// What one plot shows.
#[derive(Debug)]
pub(super) struct Plot {
    pub(super) rule: RuleInForce,
    pub(super) scope: Scope,
    pub(super) window: RuleWindow,
    /// In ascending order of time.
    pub(super) looks: Vec<Look>,
    /// When episodes were open: from the first alert to the end, in UTC microseconds.
    pub(super) episodes: Vec<(i64, i64)>,
    /// What the plot shows of time, in UTC microseconds.
    pub(super) from: i64,
    pub(super) to: i64,
}

/// The plots that are drawn, and the number of those that are left out.
#[derive(Debug, Default)]
pub(super) struct Plots {
    plots: Vec<Plot>,
    left_out: usize,
}

impl Plots {
    /// Adds what `plot` returns, unless there are enough.
    pub(super) fn add(&mut self, plot: impl FnOnce() -> Plot) {
        if self.plots.len() < MOST { self.plots.push(plot()) } else { self.left_out += 1 }
    }

    /// Draws the plots in the terminal, and into the file.
    ///
    /// # Errors
    /// If the output or the file cannot be written.
    pub(super) fn draw(&self, file: Option<&Path>) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        for plot in &self.plots {
            writeln!(out, "\n{}", plot.title())?;
            write!(out, "{}", terminal::draw(plot))?;
        }
        if let Some(file) = file {
            svg::draw(&self.plots, file)?;
        }
        let mut error = io::stderr().lock();
        if self.plots.is_empty() {
            writeln!(
                error,
                "nothing to plot: no rule fired; name one with --rule or a scope with --scope"
            )?;
        }
        if self.left_out > 0 {
            writeln!(
                error,
                "{} more plots are left out; choose with --rule, --scope or --source",
                self.left_out
            )?;
        }
        Ok(())
    }
}

/// Returns when episodes of a rule were open, from its alerts in ascending order.
pub(super) fn episodes(alerts: &[&Alert], to: i64) -> Vec<(i64, i64)> {
    let mut episodes = Vec::new();
    for alert in alerts {
        match (alert.state, episodes.last_mut()) {
            (AlertState::Firing, _) if alert.seq == 1 => episodes.push((alert.at, to)),
            (AlertState::Resolved, Some((_, end))) => *end = alert.at,
            _ => {}
        }
    }
    episodes
}

impl Plot {
    fn title(&self) -> String {
        let Self { rule, scope, window, .. } = self;
        format!("{} of {}: {} in {window}", rule.name, scope.key(), rule.metric.noun())
    }

    /// Returns what the bound is, for legends.
    fn bound_name(&self) -> &'static str {
        match self.rule.direction {
            Direction::Over => "lower bound",
            Direction::Under => "upper bound",
        }
    }

    /// Returns the thresholds with their names.
    fn thresholds(&self) -> Vec<(&'static str, f64)> {
        let rule = &self.rule;
        let all = [("warning", rule.warning), ("critical", rule.critical), ("page", rule.page)];
        all.into_iter().filter_map(|(name, threshold)| Some((name, threshold?))).collect()
    }

    /// Returns the highest rate of the plot, with room above it. A window of a few messages does not decide the
    /// scale.
    fn top(&self) -> f64 {
        let judged =
            self.looks.iter().filter(|look| look.volume >= self.rule.min_volume_of(&self.window));
        let rates = judged.flat_map(|look| [look.rate(), look.bound]);
        let thresholds = self.thresholds().into_iter().map(|(_, threshold)| threshold);
        let top = rates.chain(thresholds).fold(0.0, f64::max) * 1.1;
        if self.rule.direction == Direction::Under { top.min(1.0) } else { top }.max(1e-6)
    }

    /// Returns the worst look of each of `columns` equal parts of the time: the one whose bound is most on the bad
    /// side.
    fn columns(&self, columns: usize) -> Vec<Option<Look>> {
        let mut worst: Vec<Option<Look>> = vec![None; columns];
        for look in &self.looks {
            let Some(column) = self.column(look.at, columns) else { continue };
            let is_worse = |other: &Look| match self.rule.direction {
                Direction::Over => look.bound > other.bound,
                Direction::Under => look.bound < other.bound,
            };
            if let Some(place) = worst.get_mut(column)
                && place.as_ref().is_none_or(is_worse)
            {
                *place = Some(*look);
            }
        }
        worst
    }

    /// Returns in which of `columns` equal parts of the time a moment is.
    fn column(&self, at: i64, columns: usize) -> Option<usize> {
        let length = i128::from((self.to - self.from).max(1));
        let columns = i128::try_from(columns).ok()?;
        let column = i128::from(at.checked_sub(self.from)?) * columns / length;
        (at >= self.from && at <= self.to).then(|| usize::try_from(column.min(columns - 1)).ok())?
    }
}

/// Returns a rate as text, with enough digits for rates of a thousandth.
fn percent(rate: f64) -> String {
    let percent = rate * 100.0;
    if percent >= 10.0 { format!("{percent:.0} %") } else { format!("{percent:.2} %") }
}

#[cfg(test)]
pub(super) mod tests {
    use alerting::RuleSet;

    use super::*;

    /// The rate rises from 0 to 9.9 % of 1,000 messages in 100 minutes, and an episode is open in the last half.
    pub(in crate::rules::plot) fn plot() -> Plot {
        let rules = RuleSet::defaults();
        let rule = rules.rules().iter().find(|rule| rule.name == "hard_bounces").unwrap().clone();
        let looks = (0..100).map(|minute| {
            let numerator = u64::try_from(minute).unwrap();
            Look {
                at: minute * 60_000_000,
                numerator,
                volume: 1000,
                bound: 0.0005 * 1.5 * f64::from(u32::try_from(minute).unwrap()),
            }
        });
        let window = rule.windows[1];
        Plot {
            rule,
            scope: Scope::parse("source/sendgrid/acme").unwrap(),
            window,
            looks: looks.collect(),
            episodes: vec![(50 * 60_000_000, 100 * 60_000_000)],
            from: 0,
            to: 100 * 60_000_000,
        }
    }

    #[test]
    fn the_worst_look_of_each_column_is_kept() {
        let columns = plot().columns(10);
        let numerators: Vec<u64> = columns.iter().flatten().map(|look| look.numerator).collect();
        assert_eq!(numerators, [9, 19, 29, 39, 49, 59, 69, 79, 89, 99]);
        assert_eq!(plot().column(-1, 10), None);
        assert_eq!(plot().column(100 * 60_000_000, 10), Some(9));
    }
}
