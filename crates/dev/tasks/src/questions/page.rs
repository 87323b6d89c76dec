//! Writes the answers to the examples into docs/analysts.md, and checks that they are there.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;

use super::compare::{Answer, ask};
use super::file::{DIRECTORY, Question};
use super::truth::Parameters;
use crate::clickhouse::Database;

const PAGE: &str = "docs/analysts.md";
const BEGIN: &str = "<!-- Written by cargo xtask questions --write. Do not edit. -->\n";
const END: &str = "<!-- End of the written part. -->\n";
/// The rows of each answer that are shown.
const ROWS: usize = 8;
/// Wider answers are shown with a line per column.
const COLUMNS: usize = 9;
/// The rows of such an answer.
const ROWS_ACROSS: usize = 4;
/// The longest text of a cell, in characters.
const CELL: usize = 46;

/// Asks the examples. Writes the answers into the page, or returns that it has others.
pub(super) async fn check(
    write: bool,
    root: &Path,
    questions: &[Question],
    database: &Database,
) -> anyhow::Result<Option<String>> {
    let mut written = String::new();
    for question in questions {
        let answer = ask(database, question, &Parameters(question.example.clone())).await?;
        section(&mut written, question, &answer);
    }
    let path = root.join(PAGE);
    let page = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (head, rest) =
        page.split_once(BEGIN).with_context(|| format!("{PAGE} has no line {BEGIN}"))?;
    let (old, tail) = rest.split_once(END).with_context(|| format!("{PAGE} has no line {END}"))?;
    if write {
        std::fs::write(&path, format!("{head}{BEGIN}{written}{END}{tail}"))?;
        println!("    wrote the answers into {PAGE}");
    }
    let problem = "the page does not have these answers; run `cargo xtask questions --write`";
    Ok((!write && old != written).then(|| format!("{PAGE}: {problem}")))
}

fn section(page: &mut String, question: &Question, answer: &Answer) {
    let Question { number, file, text, reads, result, example, .. } = question;
    let link = format!("../{DIRECTORY}/{file}").replace("../docs/", "");
    let values: Vec<String> =
        example.iter().map(|(name, value)| format!("`{name} = {value}`")).collect();
    let _ = write!(
        page,
        "\n### {number}. {text}\n\n[{file}]({link}) reads {reads}\n\nThe answer has {result}\n\n\
         Example: {}.\n\n```text\n{}```\n",
        values.join(", "),
        table(answer)
    );
}

/// Returns the first rows of an answer, with aligned columns.
fn table(answer: &Answer) -> String {
    let across = answer.columns.len() > COLUMNS;
    let shown = if across { ROWS_ACROSS } else { ROWS };
    let rows = answer.rows.iter().take(shown);
    let mut lines: Vec<Vec<String>> = std::iter::once(&answer.columns)
        .chain(rows)
        .map(|row| row.iter().map(|cell| clip(cell)).collect())
        .collect();
    if across {
        let columns = answer.columns.len();
        lines = (0..columns)
            .map(|column| lines.iter().map(|line| line[column].clone()).collect())
            .collect();
    }
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let is_number = |column: usize| {
        let cells = lines.iter().skip(usize::from(!across));
        column > 0
            && cells
                .map(|line| &line[column])
                .all(|cell| cell.is_empty() || cell.parse::<f64>().is_ok())
    };
    let numbers: Vec<bool> = (0..widths.len()).map(|column| !across && is_number(column)).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).zip(&numbers).map(|((cell, width), number)| {
            if *number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    if answer.rows.len() > shown {
        let _ = writeln!(text, "… {} more rows", answer.rows.len() - shown);
    }
    text
}

fn clip(cell: &str) -> String {
    match cell {
        "\\N" => String::new(),
        _ if cell.chars().count() > CELL => {
            format!("{}…", cell.chars().take(CELL - 1).collect::<String>())
        }
        _ => cell.strip_suffix(".000000").unwrap_or(cell).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(columns: usize, rows: usize) -> Answer {
        let row =
            |row: usize| (0..columns).map(|column| format!("{}", row * 10 + column)).collect();
        Answer {
            columns: (0..columns).map(|column| format!("column {column}")).collect(),
            rows: (0..rows).map(row).collect(),
        }
    }

    #[test]
    fn a_wide_answer_has_a_line_per_column() {
        assert_eq!(table(&answer(2, 1)), "column 0  column 1\n0                1\n");
        assert_eq!(table(&answer(10, 1)).lines().count(), 10);
        assert!(table(&answer(2, 20)).ends_with("… 12 more rows\n"));
    }
}
