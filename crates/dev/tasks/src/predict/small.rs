//! Sources with few recipients, for which nothing is predicted.

use predict::Unknown;

use super::{best_time, engagement};

/// The recipients of the sources, and whether that is enough.
const SIZES: [(u32, bool); 4] = [(1, false), (100, false), (499, false), (500, true)];

/// Prints what is predicted for small sources. Returns the targets that are missed.
pub(super) fn sources(seed: u64) -> anyhow::Result<Vec<String>> {
    println!("\nSmall sources");
    println!("| recipients | next engagement | best time |");
    println!("|---|---|---|");
    let mut failures = Vec::new();
    for (recipients, is_enough) in SIZES {
        let results =
            [engagement::of_small(seed, recipients)?, best_time::of_small(seed, recipients)?];
        println!("| {recipients} | {} | {} |", text(&results[0]), text(&results[1]));
        if results.iter().any(|result| result.is_ok() != is_enough) {
            failures.push(format!("a source with {recipients} recipients: {results:?}"));
        }
    }
    Ok(failures)
}

fn text(result: &Result<(), Unknown>) -> &'static str {
    match result {
        Ok(()) => "known",
        Err(Unknown::TooFewRecipients { .. }) => "unknown",
    }
}
