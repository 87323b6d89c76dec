//! Compares found and expected numbers, and events with their rows.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

/// The number of examples of each kind of error.
const EXAMPLES: usize = 8;

/// A comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    pub(crate) part: &'static str,
    pub(crate) what: String,
    pub(crate) found: u64,
    pub(crate) expected: u64,
    /// The first errors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) examples: Vec<String>,
}

/// All comparisons.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Balance(pub(crate) Vec<Line>);

impl Balance {
    pub(crate) fn line(&mut self, part: &'static str, what: &str, found: u64, expected: u64) {
        self.0.push(Line { part, what: what.to_owned(), found, expected, examples: Vec::new() });
    }

    /// Adds a line of errors, of which none are expected.
    pub(crate) fn none(&mut self, part: &'static str, what: &str, errors: &Errors) {
        let examples = errors.examples.clone();
        let what = what.to_owned();
        self.0.push(Line { part, what, found: errors.count, expected: 0, examples });
    }

    pub(crate) fn is_balanced(&self) -> bool {
        self.0.iter().all(|line| line.found == line.expected)
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut part = "";
        for line in &self.0 {
            if line.part != part {
                part = line.part;
                writeln!(f, "\n{part:<54}{:>10}{:>10}", "found", "expected")?;
            }
            let mark = if line.found == line.expected { "" } else { "  ← differs" };
            writeln!(f, "  {:<52}{:>10}{:>10}{mark}", line.what, line.found, line.expected)?;
            for example in &line.examples {
                writeln!(f, "      {example}")?;
            }
        }
        Ok(())
    }
}

/// The number of errors, and the first ones.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Errors {
    pub(crate) count: u64,
    pub(crate) examples: Vec<String>,
}

impl Errors {
    pub(crate) fn add(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example());
        }
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        self.count += other.count;
        self.examples.extend_from_slice(&other.examples);
        self.examples.truncate(EXAMPLES);
    }
}

/// The result of comparing events with rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Matched {
    /// Events with exactly one row.
    pub(crate) once: u64,
    /// Events without a row.
    pub(crate) lost: Errors,
    /// Events with several rows.
    pub(crate) doubled: Errors,
    /// Rows without an event.
    pub(crate) unknown: Errors,
}

impl Matched {
    /// Compares events with rows. Each event is the expected text of its row and an id, which is part
    /// of the examples.
    pub(crate) fn of<'e, I: fmt::Display + 'e>(
        events: impl Iterator<Item = (&'e str, &'e I)>,
        rows: &str,
    ) -> Self {
        let mut matched = Self::default();
        let mut found: HashMap<&str, u64> = HashMap::new();
        for row in rows.lines() {
            *found.entry(row).or_default() += 1;
        }
        for (event, id) in events {
            match found.remove(event) {
                None => matched.lost.add(|| with_id(id, event)),
                Some(1) => matched.once += 1,
                Some(times) => {
                    matched.doubled.add(|| format!("{times} times {}", with_id(id, event)))
                }
            }
        }
        for (row, times) in found {
            matched.unknown.add(|| format!("{times} times {row}"));
        }
        matched
    }
}

fn with_id(id: &impl fmt::Display, event: &str) -> String {
    format!("{id} {event}").trim_start().to_owned()
}

/// Returns how many neighbours of `posted` are in `found` in the same order, and which are not. A
/// missing one counts as out of order.
pub(crate) fn in_order(posted: &[String], found: &[&str]) -> (u64, Errors) {
    let positions: HashMap<&str, usize> =
        found.iter().enumerate().map(|(position, &name)| (name, position)).collect();
    let (mut right, mut errors) = (0, Errors::default());
    for pair in posted.windows(2) {
        let position = |at: usize| pair.get(at).and_then(|name| positions.get(name.as_str()));
        match position(0).zip(position(1)) {
            Some((first, second)) if first < second => right += 1,
            _ => errors.add(|| pair.join(" came after ")),
        }
    }
    (right, errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [(&str, &u32); 3] = [("a", &1), ("b", &2), ("c", &3)];

    fn matched(rows: &str) -> Matched {
        Matched::of(EVENTS.into_iter(), rows)
    }

    #[test]
    fn every_event_with_one_row_is_right() {
        let all = matched("c\na\nb\n");
        assert_eq!(all, Matched { once: 3, ..Matched::default() });
    }

    #[test]
    fn a_lost_event_is_detected() {
        let one_missing = matched("a\nc\n");
        assert_eq!(one_missing.once, 2);
        assert_eq!(one_missing.lost, Errors { count: 1, examples: vec!["2 b".into()] });
    }

    #[test]
    fn a_doubled_event_is_detected_and_does_not_hide_a_lost_one() {
        let doubled = matched("a\na\nc\n");
        assert_eq!(doubled.once, 1);
        assert_eq!(doubled.doubled.examples, ["2 times 1 a"]);
        assert_eq!(doubled.lost.examples, ["2 b"]);
    }

    #[test]
    fn a_row_without_an_event_is_detected() {
        let unknown = matched("a\nb\nc\nd\n");
        assert_eq!((unknown.once, unknown.unknown.count), (3, 1));
    }

    #[test]
    fn a_changed_order_is_detected() {
        let posted = ["a", "b", "c", "d"].map(str::to_owned);
        assert_eq!(in_order(&posted, &["a", "b", "c", "d"]), (3, Errors::default()));
        let (right, errors) = in_order(&posted, &["a", "c", "b", "d"]);
        assert_eq!((right, errors.examples), (2, vec!["b came after c".to_owned()]));
        assert_eq!(in_order(&posted, &["a", "b", "d"]).1.count, 2, "c is missing");
    }

    #[test]
    fn the_balance_needs_every_line_to_be_equal() {
        let mut balance = Balance::default();
        balance.line("ids", "events", 3, 3);
        balance.none("ids", "lost", &Errors::default());
        assert!(balance.is_balanced());
        let text = balance.to_string();
        assert!(text.contains("found") && !text.contains("differs"), "{text}");
        balance.none("ids", "lost", &Errors { count: 1, examples: vec!["b".into()] });
        assert!(!balance.is_balanced());
        assert!(balance.to_string().contains("← differs\n      b"), "{balance}");
    }
}
