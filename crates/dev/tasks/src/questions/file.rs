//! The files in `docs/questions`: a heading with the question and its parameters, and one statement.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};

/// The directory of the files, from the root of the repository.
pub(crate) const DIRECTORY: &str = "docs/questions";

/// A question.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) number: u32,
    /// The name of the file.
    pub(crate) file: String,
    pub(crate) text: String,
    /// What it reads.
    pub(crate) reads: String,
    /// How to read the answer.
    pub(crate) result: String,
    /// The parameters with the values of the example.
    pub(crate) example: BTreeMap<String, String>,
    /// The statement without its semicolon.
    pub(crate) sql: String,
}

/// Reads all questions, in order.
pub(crate) fn read_all(root: &Path) -> anyhow::Result<Vec<Question>> {
    let directory = root.join(DIRECTORY);
    let entries = std::fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
    let mut questions = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let content = std::fs::read_to_string(&path)?;
            questions.push(parse(&file, &content).with_context(|| file)?);
        }
    }
    questions.sort_by_key(|question| question.number);
    ensure!(!questions.is_empty(), "{} has no questions", directory.display());
    Ok(questions)
}

/// Reads one file. The first line is `-- NUMBER. QUESTION`; `Reads:` and `Result:` begin paragraphs; lines with
/// `NAME = VALUE` are parameters.
fn parse(file: &str, content: &str) -> anyhow::Result<Question> {
    let mut lines = content.lines();
    let title = lines.next().and_then(|line| line.strip_prefix("-- ")).context("no heading")?;
    let (number, text) = title.split_once(". ").context("the heading has no number")?;
    let (mut reads, mut result, mut example) = (String::new(), String::new(), BTreeMap::new());
    let mut paragraph: Option<&mut String> = None;
    for line in lines.by_ref().map_while(|line| line.strip_prefix("--")) {
        let words = line.trim();
        if let Some(begin) = words.strip_prefix("Reads: ") {
            reads.push_str(begin);
            paragraph = Some(&mut reads);
        } else if let Some(begin) = words.strip_prefix("Result: ") {
            result.push_str(begin);
            paragraph = Some(&mut result);
        } else if words.is_empty() {
            paragraph = None;
        } else if let Some(text) = paragraph.as_mut() {
            text.push(' ');
            text.push_str(words);
        } else if let Some((name, value)) = words.split_once(" = ") {
            example.insert(name.to_owned(), value.to_owned());
        }
    }
    let head = content.lines().take_while(|line| line.starts_with("--")).count();
    let sql = content.lines().skip(head).collect::<Vec<_>>().join("\n");
    ensure!(!reads.is_empty() && !result.is_empty(), "the heading has no `Reads:` or no `Result:`");
    Ok(Question {
        number: number.parse()?,
        file: file.to_owned(),
        text: text.to_owned(),
        reads,
        result,
        example,
        sql: sql.trim().trim_end_matches(';').to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_heading_and_a_statement() {
        let content = "-- 7. Which?\n--\n-- Reads: `events`;\n--   nothing else.\n-- Result: a row.\n--\n\
                       -- Parameters:\n--   source = shop\nSELECT 1\nFROM t;\n";
        let question = parse("07-which.sql", content).unwrap();
        assert_eq!((question.number, question.text.as_str()), (7, "Which?"));
        assert_eq!(question.reads, "`events`; nothing else.");
        assert_eq!(question.example["source"], "shop");
        assert_eq!(question.sql, "SELECT 1\nFROM t");
        assert!(parse("x.sql", "-- 7. Which?\nSELECT 1").is_err());
    }

    #[test]
    fn all_files_are_read() {
        let questions = read_all(devstack::fetch::workspace()).unwrap();
        let numbers: Vec<u32> = questions.iter().map(|question| question.number).collect();
        let expected: Vec<u32> = (1..=30).collect();
        assert_eq!(numbers, expected);
    }
}
