//! `cargo xtask noise`: how often healthy mail opens an episode. See docs/alerts.md.
//!
//! The rules, bounds and episodes are those of the crate `alerting`; the clock is virtual. Every row names its
//! seed, so a third party gets the same numbers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use alerting::simulation::{EarlyStop, List, Noise, Sender, early_stop, rate_rules};
use anyhow::ensure;

/// Mails a minute.
const VOLUMES: [f64; 4] = [2.0, 20.0, 200.0, 2000.0];

/// The true rates, as shares of the threshold, with the greatest number of false episodes a day.
const SHARES: [(f64, f64); 2] = [(0.6, 0.05), (0.8, 1.0)];

/// The greatest share of the time with an open episode.
const MOST_OPEN: f64 = 0.03;

/// An installation of this many sources gets at most one false page a week.
const SOURCES: f64 = 200.0;

/// The limit of the early stop.
const EARLY_LIMIT: f64 = 0.02;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The simulated days of each sender.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// The seed of the first sender. Each further one has the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only the rules whose name contains this text.
    #[arg(long, value_name = "TEXT")]
    rule: Option<String>,
}

pub(crate) fn noise(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let senders = senders(arguments);
    ensure!(
        !senders.is_empty(),
        "no rule about rates has this name; run without --rule to see all"
    );
    println!("{} senders, {} days each; targets in the last line", senders.len(), arguments.days);
    println!(
        "rule | mails/min | list | true rate | of limit | seed | episodes/day | pages/day | open"
    );
    println!("--- | --- | --- | --- | --- | --- | --- | --- | ---");
    let results = run_all(&senders);
    let mut failures = Vec::new();
    let (mut pages, mut days) = (0.0, 0.0);
    for (sender, result) in senders.iter().zip(&results) {
        let row = row(sender, result);
        println!("{row}");
        if let Some(failure) = failure(sender, result) {
            failures.push(format!("{failure}: {row}"));
        }
        pages += f64::from(result.pages);
        days += f64::from(sender.days);
    }
    let pages_a_week = pages / days * 7.0 * SOURCES;
    println!("false pages a week in an installation of {SOURCES} sources: {pages_a_week:.2}");
    if pages_a_week > 1.0 {
        failures.push("more than one false page a week".to_owned());
    }
    failures.extend(early_stops(arguments.seed));
    println!("took {:.0} s", started.elapsed().as_secs_f64());
    ensure!(failures.is_empty(), "{} targets are missed:\n{}", failures.len(), failures.join("\n"));
    println!("all targets are met");
    Ok(())
}

fn senders(arguments: &Arguments) -> Vec<Sender> {
    let name = arguments.rule.as_deref().unwrap_or("");
    let mut senders = Vec::new();
    for rule in rate_rules().into_iter().filter(|rule| rule.name.contains(name)) {
        for mails_per_minute in VOLUMES {
            for list in [List::Binomial, List::Overdispersed] {
                for (share, _) in SHARES {
                    let seed = arguments.seed.wrapping_add(senders.len() as u64);
                    let (rule, days) = (rule.clone(), arguments.days);
                    senders.push(Sender { rule, mails_per_minute, share, list, days, seed });
                }
            }
        }
    }
    senders
}

/// Runs the senders on all cores. The results have the order of the senders.
fn run_all(senders: &[Sender]) -> Vec<Noise> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let results = Mutex::new(vec![Noise::default(); senders.len()]);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, sender)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    senders.get(index).map(|sender| (index, sender))
                } {
                    let noise = sender.run();
                    let mut results =
                        results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    results[index] = noise;
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn row(sender: &Sender, noise: &Noise) -> String {
    let Sender { rule, mails_per_minute, list, share, seed, days, .. } = sender;
    let list = match list {
        List::Binomial => "binomial",
        List::Overdispersed => "overdispersed",
    };
    let a_day = |number: u32| f64::from(number) / f64::from(*days);
    format!(
        "{} | {mails_per_minute} | {list} | {:.4} | {:.0} % | {seed} | {:.3} | {:.3} | {:.2} %",
        rule.name,
        sender.true_rate(),
        share * 100.0,
        a_day(noise.episodes),
        a_day(noise.pages),
        noise.open * 100.0,
    )
}

fn failure(sender: &Sender, noise: &Noise) -> Option<&'static str> {
    let most = SHARES.iter().find(|(share, _)| *share == sender.share).map(|(_, most)| most)?;
    if f64::from(noise.episodes) > most * f64::from(sender.days) {
        Some("too many false episodes")
    } else if noise.open > MOST_OPEN {
        Some("open for too long")
    } else {
        None
    }
}

/// Tests campaigns after every message, as if each were decided on at once. Returns the targets that are missed.
fn early_stops(seed: u64) -> Vec<String> {
    let mut failures = Vec::new();
    println!("early stop at {EARLY_LIMIT}: true rate | seed | campaigns | stopped | median mails");
    for (rate, campaigns, mails) in
        [(0.02, 20_000, 5000), (0.06, 2001, 20_000), (0.1, 2001, 20_000)]
    {
        let result = early_stop(rate, EARLY_LIMIT, campaigns, mails, seed);
        let EarlyStop { stopped, median, .. } = result;
        let share = f64::from(stopped) / f64::from(campaigns);
        let text = median.map_or_else(|| "-".to_owned(), |median| median.to_string());
        println!("{rate} | {seed} | {campaigns} | {:.2} % | {text}", share * 100.0);
        let is_met = match rate {
            0.02 => share <= 0.002,
            0.06 => median.is_some_and(|median| median <= 400),
            _ => median.is_some_and(|median| median <= 150),
        };
        if !is_met {
            failures.push(format!("early stop at a true rate of {rate}: {result:?}"));
        }
    }
    failures
}
