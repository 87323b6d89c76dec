//! Found beside expected, line by line; and how events are held against their rows.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

/// So many of what is wrong are named.
const EXAMPLES: usize = 8;

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    pub(crate) part: &'static str,
    pub(crate) what: String,
    pub(crate) found: u64,
    pub(crate) expected: u64,
    /// Some of what is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) examples: Vec<String>,
}

/// All comparisons.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Ledger(pub(crate) Vec<Line>);

impl Ledger {
    pub(crate) fn line(&mut self, part: &'static str, what: &str, found: u64, expected: u64) {
        self.0.push(Line { part, what: what.to_owned(), found, expected, examples: Vec::new() });
    }

    /// A line of what must not be.
    pub(crate) fn none(&mut self, part: &'static str, what: &str, wrong: &Wrong) {
        let examples = wrong.examples.clone();
        let what = what.to_owned();
        self.0.push(Line { part, what, found: wrong.count, expected: 0, examples });
    }

    pub(crate) fn is_balanced(&self) -> bool {
        self.0.iter().all(|line| line.found == line.expected)
    }
}

impl fmt::Display for Ledger {
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

/// What is wrong: how many, and the first few.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) count: u64,
    pub(crate) examples: Vec<String>,
}

impl Wrong {
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

/// Events against rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Matched {
    /// Events that have exactly one row.
    pub(crate) once: u64,
    /// Events without a row.
    pub(crate) lost: Wrong,
    /// Events with several.
    pub(crate) doubled: Wrong,
    /// Rows of no event.
    pub(crate) unknown: Wrong,
}

impl Matched {
    /// Holds each event, by what its row must say, against the rows there are. What belongs to an
    /// event, its identity, is named beside it when something is wrong.
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
                None => matched.lost.add(|| named(id, event)),
                Some(1) => matched.once += 1,
                Some(times) => {
                    matched.doubled.add(|| format!("{times} times {}", named(id, event)))
                }
            }
        }
        for (row, times) in found {
            matched.unknown.add(|| format!("{times} times {row}"));
        }
        matched
    }
}

fn named(id: &impl fmt::Display, event: &str) -> String {
    format!("{id} {event}").trim_start().to_owned()
}

/// How many neighbours of `posted` stand in `found` in the same order, and which do not. Those
/// missing from `found` count as out of order.
pub(crate) fn in_order(posted: &[String], found: &[&str]) -> (u64, Wrong) {
    let places: HashMap<&str, usize> =
        found.iter().enumerate().map(|(place, &name)| (name, place)).collect();
    let (mut right, mut wrong) = (0, Wrong::default());
    for pair in posted.windows(2) {
        let place = |at: usize| pair.get(at).and_then(|name| places.get(name.as_str()));
        match place(0).zip(place(1)) {
            Some((first, second)) if first < second => right += 1,
            _ => wrong.add(|| pair.join(" came after ")),
        }
    }
    (right, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [(&str, &u32); 3] = [("a", &1), ("b", &2), ("c", &3)];

    fn matched(rows: &str) -> Matched {
        Matched::of(EVENTS.into_iter(), rows)
    }

    #[test]
    fn each_once_is_balanced() {
        let all = matched("c\na\nb\n");
        assert_eq!(all, Matched { once: 3, ..Matched::default() });
    }

    #[test]
    fn a_lost_event_is_found() {
        let one_missing = matched("a\nc\n");
        assert_eq!(one_missing.once, 2);
        assert_eq!(one_missing.lost, Wrong { count: 1, examples: vec!["2 b".into()] });
    }

    #[test]
    fn a_doubled_event_is_found_and_does_not_make_up_for_a_lost_one() {
        let doubled = matched("a\na\nc\n");
        assert_eq!(doubled.once, 1);
        assert_eq!(doubled.doubled.examples, ["2 times 1 a"]);
        assert_eq!(doubled.lost.examples, ["2 b"]);
    }

    #[test]
    fn a_row_that_nobody_posted_is_found() {
        let stranger = matched("a\nb\nc\nd\n");
        assert_eq!((stranger.once, stranger.unknown.count), (3, 1));
    }

    #[test]
    fn a_changed_order_is_found() {
        let posted = ["a", "b", "c", "d"].map(str::to_owned);
        assert_eq!(in_order(&posted, &["a", "b", "c", "d"]), (3, Wrong::default()));
        let (right, wrong) = in_order(&posted, &["a", "c", "b", "d"]);
        assert_eq!((right, wrong.examples), (2, vec!["b came after c".to_owned()]));
        assert_eq!(in_order(&posted, &["a", "b", "d"]).1.count, 2, "c is missing");
    }

    #[test]
    fn the_ledger_is_balanced_only_when_every_line_is() {
        let mut ledger = Ledger::default();
        ledger.line("ids", "events", 3, 3);
        ledger.none("ids", "lost", &Wrong::default());
        assert!(ledger.is_balanced());
        let text = ledger.to_string();
        assert!(text.contains("found") && !text.contains("differs"), "{text}");
        ledger.none("ids", "lost", &Wrong { count: 1, examples: vec!["b".into()] });
        assert!(!ledger.is_balanced());
        assert!(ledger.to_string().contains("← differs\n      b"), "{ledger}");
    }
}
