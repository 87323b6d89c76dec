//! `cargo xtask predict`: how good the predictions of the crate `predict` are, on simulated recipients of whom
//! everything is known. See docs/prediction.md.
//!
//! The models see only the first part of each recipient's mail and are scored on the rest. Everything follows from
//! the seed, so that a third party gets the same numbers.

mod best_time;
mod engagement;
mod plots;
mod small;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, ensure};

/// The recipients of each simulated source.
const RECIPIENTS: u32 = 100_000;
const RECIPIENTS_SHORT: u32 = 40_000;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The seed of the simulated recipients.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Simulate fewer recipients.
    #[arg(long)]
    short: bool,
    /// Write calibration plots as SVG files into this directory.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

pub(crate) fn predict(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let recipients = if arguments.short { RECIPIENTS_SHORT } else { RECIPIENTS };
    println!("seed {}, {recipients} recipients in each world", arguments.seed);
    let engagement = engagement::results(arguments.seed, recipients)?;
    engagement::print(&engagement);
    let best_time = best_time::results(arguments.seed, recipients)?;
    best_time::print(&best_time);
    let mut failures = small::sources(arguments.seed)?;
    if let Some(directory) = &arguments.plot {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let plots: Vec<_> = engagement.iter().map(engagement::Measured::plot).collect();
        plots::draw(&plots, &directory.join("prediction-engagement.svg"))?;
        let plots: Vec<_> = best_time.iter().map(best_time::Measured::plot).collect();
        plots::draw(&plots, &directory.join("prediction-best-time.svg"))?;
        println!("\nThe plots are in {}.", directory.display());
    }
    println!("\ntook {:.0} s", started.elapsed().as_secs_f64());
    failures.extend(engagement.iter().flat_map(engagement::Measured::failures));
    failures.extend(best_time.iter().flat_map(best_time::Measured::failures));
    ensure!(failures.is_empty(), "{} targets are missed:\n{}", failures.len(), failures.join("\n"));
    println!("All targets are met.");
    Ok(())
}
