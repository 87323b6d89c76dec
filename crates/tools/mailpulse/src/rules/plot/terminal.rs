//! A plot of characters, for terminals.

use std::fmt::Write as _;

use super::{Plot, percent};

/// The characters of the plot, without the scale. A line has 100 characters.
const COLUMNS: usize = 88;
const ROWS: usize = 14;

/// Returns the lines of a plot: thresholds, the bound over them, the rate over both, and below when episodes were
/// open.
pub(super) fn draw(plot: &Plot) -> String {
    let top = plot.top();
    let mut canvas = vec![[' '; COLUMNS]; ROWS];
    for (name, threshold) in plot.thresholds() {
        if let Some(line) = row(threshold, top).and_then(|row| canvas.get_mut(row)) {
            line.fill('-');
            line.iter_mut().zip(name.chars()).for_each(|(place, letter)| *place = letter);
        }
    }
    for (column, look) in plot.columns(COLUMNS).iter().enumerate() {
        let Some(look) = look else { continue };
        for (value, symbol) in [(look.bound, '#'), (look.rate(), '*')] {
            let line = row(value, top).and_then(|row| canvas.get_mut(row));
            if let Some(place) = line.and_then(|line| line.get_mut(column)) {
                *place = symbol;
            }
        }
    }
    let mut text = String::new();
    for (number, line) in canvas.iter().enumerate() {
        let line: String = line.iter().collect();
        let label = if number % 3 == 0 { percent(value(number, top)) } else { String::new() };
        let _ = writeln!(text, "{label:>9} |{}", line.trim_end());
    }
    let _ = writeln!(text, "{:>9} |{}", "open", open(plot));
    let (from, to) = (crate::alerts::utc(plot.from), crate::alerts::utc(plot.to));
    let _ = writeln!(text, "{:>11}{from:<44}{to:>44}", "");
    let _ = writeln!(text, "{:>11}* rate, # {}, = episode", "", plot.bound_name());
    text
}

/// Returns the line in which episodes are marked.
fn open(plot: &Plot) -> String {
    let mut marks = [' '; COLUMNS];
    for (from, to) in &plot.episodes {
        let first = plot.column((*from).max(plot.from), COLUMNS);
        let last = plot.column((*to).min(plot.to), COLUMNS);
        if let (Some(first), Some(last)) = (first, last)
            && let Some(part) = marks.get_mut(first..=last)
        {
            part.fill('=');
        }
    }
    marks.iter().collect::<String>().trim_end().to_owned()
}

/// Returns the row of a value, the highest first. Greater values than the top are in the first row.
fn row(value: f64, top: f64) -> Option<usize> {
    (0..ROWS).rev().find(|row| *row == 0 || self::value(row - 1, top) > value)
}

/// Returns the lowest value of a row.
fn value(row: usize, top: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "fourteen rows")]
    let share = (ROWS - 1 - row.min(ROWS - 1)) as f64 / (ROWS - 1) as f64;
    top * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plot_has_the_rate_the_bound_the_thresholds_and_the_episode() {
        let text = draw(&super::super::tests::plot());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), ROWS + 3, "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{text}");
        // The rate rises from the lower left to the upper right.
        let column = |row: usize| lines[row].find('*');
        assert!(column(4) > column(8) && column(8) > column(12), "{text}");
        for name in ["warning-", "critical-", "page-"] {
            assert_eq!(text.matches(name).count(), 1, "{name}: {text}");
        }
        let open = lines[ROWS].split('|').nth(1).unwrap();
        assert_eq!(open.matches('=').count(), COLUMNS / 2, "{text}");
        assert!(open.starts_with(&" ".repeat(COLUMNS / 2)), "{text}");
    }
}
