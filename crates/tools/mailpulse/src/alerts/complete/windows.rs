//! The windows of one scope, from everything that happened in it.

use std::collections::BTreeMap;

use alerting::{Baseline, Evidence};
use event::Counter;
use window::{Counts, PANE, Width};

use crate::history::{Delta, History};

/// In microseconds.
const HOUR: i64 = 360 * PANE;
const DAY: i64 = 24 * HOUR;

/// The step in which windows of a day slide, in microseconds.
const DAY_STEP: i64 = 30 * PANE;

/// The windows as they are at their end, with the events that were received in time.
pub(super) struct Windows<'h> {
    /// In ascending order of panes.
    by_pane: &'h [Delta],
    /// The places in `by_pane`, in the order in which the events become known.
    by_known: Vec<usize>,
    sums: Vec<Sum>,
    /// By hour of sending, with how many of `by_known` are counted.
    cohorts: BTreeMap<i64, Counts>,
    in_cohorts: usize,
    has_cohorts: bool,
    /// The ends of the panes with deliveries of the scope and of its source.
    delivered: Vec<i64>,
    of_source: Option<Vec<i64>>,
    end: i64,
}

/// The counts of a window of one width.
struct Sum {
    width: Width,
    counts: Counts,
    /// How many of `by_known` and of `by_pane` have entered and left.
    entered: usize,
    left: usize,
}

impl Sum {
    const fn step(&self) -> i64 {
        if matches!(self.width, Width::H24) { DAY_STEP } else { PANE }
    }

    const fn end(&self, now: i64) -> i64 {
        now.div_euclid(self.step()) * self.step()
    }

    /// Returns the last end of a window that contains a pane.
    const fn last(&self, delta: &Delta) -> i64 {
        delta.pane.micros() + self.width.micros()
    }

    fn advance(&mut self, by_pane: &[Delta], by_known: &[usize], now: i64) {
        let end = self.end(now);
        let entering = by_known
            .iter()
            .skip(self.entered)
            .map_while(|index| by_pane.get(*index).filter(|delta| delta.known <= end));
        for delta in entering {
            self.entered += 1;
            // Those that become known after they have left are never counted.
            if delta.known <= self.last(delta) {
                self.counts += &delta.counts;
            }
        }
        for delta in by_pane.iter().skip(self.left) {
            if self.last(delta) >= end {
                break;
            }
            self.left += 1;
            if delta.known <= self.last(delta) {
                self.counts -= &delta.counts;
            }
        }
    }
}

impl<'h> Windows<'h> {
    pub(super) fn new(history: &'h History, has_cohorts: bool) -> Self {
        let by_pane = &history.deltas[..];
        let mut by_known: Vec<usize> = (0..by_pane.len()).collect();
        by_known.sort_by_key(|index| by_pane.get(*index).map(|delta| delta.known));
        let delivers = |delta: &&Delta| delta.counts.get(Counter::Delivered) > 0;
        let sum = |width| Sum { width, counts: Counts::default(), entered: 0, left: 0 };
        Self {
            by_pane,
            by_known,
            sums: Width::JUDGED.into_iter().map(sum).collect(),
            cohorts: BTreeMap::new(),
            in_cohorts: 0,
            has_cohorts,
            delivered: by_pane.iter().filter(delivers).map(|delta| delta.pane.end()).collect(),
            of_source: None,
            end: i64::MIN,
        }
    }

    /// Returns the ends of the panes with deliveries.
    pub(super) fn delivered(&self) -> &[i64] {
        &self.delivered
    }

    /// Takes over the deliveries of the source.
    pub(super) fn of_source(&mut self, delivered: &[i64]) {
        self.of_source = Some(delivered.to_vec());
    }

    /// Returns the window ends in `(from, to]` at which a window differs from the one before, in ascending order.
    pub(super) fn ends(&self, from: i64, to: i64) -> Vec<i64> {
        let mut ends: Vec<i64> = Vec::new();
        for delta in self.by_pane {
            ends.push(delta.known);
            ends.extend(self.sums.iter().map(|sum| sum.last(delta) + PANE));
        }
        // Windows of a day and cohorts move at these times.
        let last = ends.iter().max().copied().unwrap_or(from).saturating_add(2 * DAY).min(to);
        let first = from.div_euclid(DAY_STEP) * DAY_STEP;
        ends.extend((0..).map(|step| first + step * DAY_STEP).take_while(|end| *end <= last));
        ends.retain(|end| from < *end && *end <= to);
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    /// Moves to a later end.
    pub(super) fn advance(&mut self, end: i64) {
        self.end = end;
        for sum in &mut self.sums {
            sum.advance(self.by_pane, &self.by_known, end);
        }
        if !self.has_cohorts {
            return;
        }
        while let Some(delta) =
            self.by_known.get(self.in_cohorts).and_then(|it| self.by_pane.get(*it))
            && delta.known <= end
        {
            self.in_cohorts += 1;
            if let Some(hour) = delta.cohort {
                *self.cohorts.entry(hour.micros()).or_default() += &delta.counts;
            }
        }
    }

    fn sum(&self, width: Width) -> Option<&Sum> {
        self.sums.iter().find(|sum| sum.width == width)
    }
}

impl Evidence for Windows<'_> {
    fn end(&self) -> i64 {
        self.end
    }

    fn window_end(&self, width: Width) -> i64 {
        self.sum(width).map_or(self.end, |sum| sum.end(self.end))
    }

    fn window(&self, width: Width) -> Option<Counts> {
        self.sum(width).map(|sum| sum.counts)
    }

    fn cohort(&self, from: i64, to: i64) -> Counts {
        self.cohorts.range(from..to).fold(Counts::default(), |sum, (_, counts)| sum + *counts)
    }

    fn campaign(&self) -> Option<(i64, Counts)> {
        None
    }

    fn rates_known(&self) -> bool {
        let delivered = self.of_source.as_ref().unwrap_or(&self.delivered);
        let before = delivered.partition_point(|at| *at <= self.end);
        let latest = before.checked_sub(1).and_then(|index| delivered.get(index));
        latest.is_some_and(|at| self.end - at <= DAY)
    }

    fn aligned(&self) -> bool {
        true
    }

    fn last_event(&self) -> Option<i64> {
        None
    }

    fn baseline(&self) -> Option<&Baseline> {
        None
    }
}

#[cfg(test)]
mod tests {
    use event::OccurredAt;
    use window::PaneStart;

    use super::*;

    const T0: i64 = 1_760_000_400_000_000;

    fn delta(pane: i64, known: i64, bounces: i64) -> Delta {
        Delta {
            pane: PaneStart::of(OccurredAt(T0 + pane * PANE)),
            known: T0 + known * PANE,
            cohort: None,
            counts: Counts::of([(Counter::BouncedHard, bounces)]),
        }
    }

    /// The sums by definition: the panes of the window that are known at its end.
    #[test]
    fn a_window_has_what_was_received_before_its_end_and_the_bound() {
        let numbers: Vec<(i64, i64, i64)> = (0..400)
            .map(|number| {
                let pane = number * 7 % 500;
                // Every fifth is late, some by more than the shorter windows.
                let late = if number % 5 == 0 { number * 13 % 120 } else { 0 };
                (pane, pane + 1 + late, number + 1)
            })
            .collect();
        let deltas = numbers.iter().map(|(pane, known, n)| delta(*pane, *known, *n));
        let mut history = History { deltas: deltas.collect() };
        history.deltas.sort_by_key(|delta| delta.pane.micros());
        let mut windows = Windows::new(&history, false);
        let ends = windows.ends(T0, T0 + 4000 * PANE);
        assert!(ends.len() > 500, "{}", ends.len());
        for end in ends {
            windows.advance(end);
            for width in Width::JUDGED {
                let to = windows.window_end(width);
                let within = |pane: i64| (to - width.micros()..to).contains(&(T0 + pane * PANE));
                let counted = numbers
                    .iter()
                    .filter(|(pane, known, _)| within(*pane) && T0 + known * PANE <= to);
                let expected: i64 = counted.map(|(.., number)| number).sum();
                let found = windows.window(width).unwrap().get(Counter::BouncedHard);
                assert_eq!(
                    i64::try_from(found).unwrap(),
                    expected,
                    "{width:?} {}",
                    (end - T0) / PANE
                );
            }
        }
    }
}
