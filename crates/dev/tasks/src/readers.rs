//! The predictions of the demo. Its five hours of mail are too short for any, so two months of mail to invented readers
//! are inserted into ClickHouse.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::binaries;
use crate::phase::Phase;
use crate::pipeline::Pipeline;

const MAIL: &str = include_str!("readers.sql");

/// The source of the mail.
const SOURCE: &str = "readers";

/// The readers of `readers.sql`.
const READERS: u64 = 900;

/// Which readers are shown: one who opens much, one who opens little, and one who seems to have stopped.
const EXAMPLES: [&str; 3] =
    ["engaged >= 14", "engaged = 2 AND last_engaged > 12", "engaged >= 6 AND last_engaged <= 9"];

/// What is predicted about a reader.
#[derive(Debug, Deserialize)]
struct Reader {
    recipient: String,
    mails: u32,
    engaged: u32,
    last_engaged: u32,
    probability: f64,
    reads_on: f64,
    low: u8,
    high: u8,
}

/// Inserts the mail, runs `mailpulse predict`, and returns what it has predicted about three readers, as text.
pub(crate) async fn predict(pipeline: &Pipeline) -> anyhow::Result<String> {
    let _phase = Phase::begin("predicting from two months of mail to 900 readers", "5 s");
    let until = jiff::Timestamp::now().as_second().to_string();
    pipeline.database.text_with(MAIL, &[("until".to_owned(), until)]).await?;
    let program = binaries::directory()?.join("mailpulse");
    let output = Command::new(&program)
        .arg("--config")
        .arg(&pipeline.config)
        .args(["predict", "--source", SOURCE])
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "mailpulse predict failed: {errors}");
    let known = "SELECT count() FROM predictions WHERE source = 'readers' AND status = 'known'";
    let known = pipeline.database.count(known).await?;
    ensure!(known == READERS, "{known} of {READERS} readers have a prediction");
    let mut readers: Vec<Reader> = Vec::new();
    for condition in EXAMPLES {
        let sql = format!(
            "SELECT recipient, mails, engaged, last_engaged, assumeNotNull(next) AS probability, \
             assumeNotNull(alive) AS reads_on, assumeNotNull(next_ten_low) AS low, \
             assumeNotNull(next_ten_high) AS high \
             FROM predictions WHERE source = '{SOURCE}' AND {condition} ORDER BY recipient LIMIT 1"
        );
        readers.extend(pipeline.database.rows::<Reader>(&sql).await?);
    }
    ensure!(readers.len() == EXAMPLES.len(), "readers are missing in the view predictions");
    let mut text = format!(
        "predictions: {}",
        String::from_utf8_lossy(&output.stdout).trim().replace('\n', "\n  ")
    );
    for Reader { recipient, mails, engaged, last_engaged, probability, reads_on, low, high } in
        readers
    {
        let _ = write!(
            text,
            "\n  {recipient} has opened {engaged} of {mails} mails, number {last_engaged} as the last one. Probability to \
             open the next one: {:.0} %, to be still reading: {:.0} %. With at least 80 %, opens {low} to {high} of the \
             next ten.",
            100.0 * probability,
            100.0 * reads_on
        );
    }
    Ok(text)
}
