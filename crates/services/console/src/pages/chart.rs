//! The data of a chart, as `assets/console.js` reads it from an attribute.

use serde::Serialize;

/// A chart of lines over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chart {
    /// `percent` or `count`.
    pub unit: &'static str,
    /// The times, seconds since the Unix epoch, ascending.
    pub at: Vec<i64>,
    /// One line each.
    pub lines: Vec<Line>,
}

/// A line of a chart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    pub label: String,
    /// A value for each time; `None` where it is not known. Shares are from 0 to 1.
    pub values: Vec<Option<f64>>,
}

impl Chart {
    /// Returns every time in steps from `from` up to and without `to`.
    pub fn steps(from: i64, to: i64, step: i64) -> Vec<i64> {
        let step = step.max(1);
        let first = from.div_euclid(step) * step;
        (0..).map(|index| first + index * step).take_while(|at| *at < to).take(20_000).collect()
    }

    /// Returns the JSON text.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_begin_at_a_full_step_and_have_no_gap() {
        assert_eq!(Chart::steps(1_000, 3_600, 900), [900, 1_800, 2_700]);
        assert_eq!(Chart::steps(900, 900, 900), Vec::<i64>::new());
    }
}
