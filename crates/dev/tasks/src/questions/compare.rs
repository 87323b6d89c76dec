//! Asks the questions and compares the answers with the truth.

use std::collections::BTreeMap;

use super::file::Question;
use super::mail::SOURCES;
use super::truth::{self, ANY, Others, Parameters, Row, Truth};
use crate::clickhouse::Database;

/// Which questions are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    /// Those whose answers are the same in any order of arrival. Those about counts are asked for all of the time,
    /// because a message counts when the first of its events arrives.
    IndependentOfOrder,
}

/// The questions of [`Scope::IndependentOfOrder`].
const INDEPENDENT: [u32; 7] = [4, 7, 18, 19, 20, 21, 22];
/// All of the time, for questions about days.
const ALL_DAYS: [(&str, &str); 2] = [("first_day", "2026-09-28"), ("last_day", "2026-11-03")];
/// A period that events of days before and after correct.
const CORRECTED: [(&str, &str); 2] =
    [("from", "2026-10-29 00:00:00"), ("to", "2026-10-30 00:00:00")];
/// Days on which clocks change, and a zone with a half hour in which they do not.
const LOCAL_DAYS: [(&str, &str, &str); 3] = [
    ("Asia/Kolkata", "2026-10-30", "2026-11-02"),
    ("Australia/Adelaide", "2026-10-02", "2026-10-06"),
    ("America/New_York", "2026-10-30", "2026-11-02"),
];
/// How much numbers with decimals may differ: they are rounded to four digits and more.
const TOLERANCE: f64 = 1.1e-4;
/// The rows of a difference that are printed.
const PRINTED: usize = 8;

/// The results of all comparisons.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) answers: usize,
    pub(super) differences: Vec<String>,
}

impl Checks {
    /// Asks every question, with several parameters, and compares the answers.
    pub(super) async fn ask(
        &mut self,
        when: &str,
        database: &Database,
        questions: &[Question],
        truth: &Truth<'_>,
        others: &Others<'_>,
        scope: Scope,
    ) -> anyhow::Result<()> {
        let mut rows = 0;
        for question in questions {
            if scope == Scope::IndependentOfOrder && !INDEPENDENT.contains(&question.number) {
                continue;
            }
            for parameters in variants(question, scope) {
                let answer = ask(database, question, &parameters).await?;
                let expected = truth::answer(question.number, truth, others, &parameters)?;
                self.answers += 1;
                rows += answer.rows.len();
                let named = format!("{}, {when}, {:?}", question.file, parameters.0);
                if answer.rows.is_empty()
                    && scope == Scope::All
                    && is_example(question, &parameters)
                {
                    self.differences
                        .push(format!("{named}: the answer is empty and proves nothing"));
                } else if let Some(difference) = difference(&expected, &answer.rows) {
                    self.differences.push(format!("{named}:\n{difference}"));
                }
            }
        }
        println!("    {when}: {} answers so far, {rows} rows", self.answers);
        Ok(())
    }
}

fn is_example(question: &Question, parameters: &Parameters) -> bool {
    question.example == parameters.0
}

/// Returns the parameters with which a question is asked: the example of its file, and others.
fn variants(question: &Question, scope: Scope) -> Vec<Parameters> {
    let mut all = vec![question.example.clone()];
    let with = |base: &BTreeMap<String, String>, values: &[(&str, &str)]| {
        let mut parameters = base.clone();
        for (name, value) in values {
            if parameters.contains_key(*name) {
                parameters.insert((*name).to_owned(), (*value).to_owned());
            }
        }
        parameters
    };
    if question.number == 8 {
        all.push(with(&question.example, &CORRECTED));
    }
    if question.number == 25 {
        all.push(with(&question.example, &[("prediction", "best_time")]));
    }
    if question.number == 2 {
        all = LOCAL_DAYS
            .iter()
            .map(|(zone, first, last)| {
                let days = [("zone", *zone), ("first_day", *first), ("last_day", *last)];
                with(&question.example, &days)
            })
            .collect();
    }
    let sources = SOURCES
        .iter()
        .map(|source| source.name)
        .filter(|_| question.example.contains_key("source"));
    let mut variants: Vec<_> = sources
        .flat_map(|source| all.iter().map(move |base| with(base, &[("source", source)])))
        .collect();
    if variants.is_empty() {
        variants = all;
    }
    if scope == Scope::IndependentOfOrder {
        variants.iter_mut().for_each(|variant| *variant = with(variant, &ALL_DAYS));
    }
    variants.into_iter().map(Parameters).collect()
}

/// The answer to a question.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) columns: Row,
    pub(super) rows: Vec<Row>,
}

/// Asks one question.
pub(super) async fn ask(
    database: &Database,
    question: &Question,
    parameters: &Parameters,
) -> anyhow::Result<Answer> {
    let values: Vec<(String, String)> =
        parameters.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let sql = format!("{}\nFORMAT TabSeparatedWithNames", question.sql);
    let text = database
        .text_with(&sql, &values)
        .await
        .map_err(|error| error.context(question.file.clone()))?;
    let mut lines = text.lines().map(|line| line.split('\t').map(unescape).collect::<Row>());
    Ok(Answer { columns: lines.next().unwrap_or_default(), rows: lines.collect() })
}

/// Undoes what the tab-separated format escapes in arrays of texts.
fn unescape(value: &str) -> String {
    value.replace("\\'", "'")
}

/// Returns how an answer differs from the truth, whatever the order of rows. `None`: not at all.
fn difference(expected: &[Row], found: &[Row]) -> Option<String> {
    let (mut missing, mut surplus) = (Vec::new(), found.to_vec());
    for row in expected {
        match surplus.iter().position(|other| is_equal(row, other)) {
            Some(place) => drop(surplus.remove(place)),
            None => missing.push(row),
        }
    }
    if missing.is_empty() && surplus.is_empty() {
        return None;
    }
    let lines = |title: &str, rows: &mut dyn Iterator<Item = String>| {
        rows.take(PRINTED).map(|row| format!("  {title} {row}")).collect::<Vec<_>>().join("\n")
    };
    let text = |row: &Row| row.join(" | ");
    Some(format!(
        "  {} rows missing, {} surplus\n{}\n{}",
        missing.len(),
        surplus.len(),
        lines("truth:", &mut missing.iter().map(|row| text(row))),
        lines("found:", &mut surplus.iter().map(text))
    ))
}

fn is_equal(expected: &Row, found: &Row) -> bool {
    expected.len() == found.len()
        && expected.iter().zip(found).all(|(one, other)| is_same(one, other))
}

fn is_same(expected: &str, found: &str) -> bool {
    if expected == found || expected == ANY {
        return true;
    }
    let is_decimal = expected.contains('.') || found.contains('.');
    match (expected.parse::<f64>(), found.parse::<f64>()) {
        (Ok(one), Ok(other)) if is_decimal => (one - other).abs() <= TOLERANCE,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<Row> {
        text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
    }

    #[test]
    fn rows_are_compared_in_any_order() {
        assert_eq!(difference(&rows("a 1\nb 2"), &rows("b 2\na 1")), None);
        assert_eq!(difference(&rows("a 0.1234"), &rows("a 0.12341")), None);
        assert_eq!(difference(&rows("a *"), &rows("a anything")), None);
        assert!(difference(&rows("a 1"), &rows("a 2")).is_some());
        assert!(difference(&rows("a 0.12"), &rows("a 0.13")).is_some());
        assert!(difference(&rows("a 1\na 1"), &rows("a 1")).is_some(), "a row is missing");
        assert!(difference(&rows("a 1"), &rows("a 1\na 1")).is_some(), "a row is surplus");
    }
}
