//! `cargo xtask noise`: how often healthy mail opens an episode, and how soon bad mail does. See docs/alerts.md.
//!
//! The rules, bounds and episodes are those of the crate `alerting`; the clock is virtual. Every row names its
//! seed, so a third party gets the same numbers.

mod jobs;

use std::collections::BTreeMap;
use std::time::Instant;

use alerting::rule::RuleWindow;
use alerting::simulation::{
    Detection, EarlyStop, List, Noise, Sender, early_stop, rate_rules, rules_without_rate,
};
use anyhow::ensure;
use jobs::run_all;

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

/// The true rates after a jump, as multiples of the threshold: 8 % and 12 % for a limit of 5 %.
const JUMPS: [f64; 2] = [1.6, 2.4];

/// Mails a minute of the senders whose rate jumps, and how often it does.
const JUMP_VOLUMES: [f64; 3] = [20.0, 200.0, 2000.0];
const JUMPS_EACH: u32 = 11;

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
    /// Do not measure how soon a jump of the rate is detected.
    #[arg(long)]
    no_jumps: bool,
}

pub(crate) fn noise(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let senders = senders(arguments);
    ensure!(
        !senders.is_empty(),
        "no rule about rates has this name; run without --rule to see all"
    );
    let mut failures = false_episodes(arguments.days, &senders);
    if !arguments.no_jumps {
        jumps(arguments);
    }
    failures.extend(early_stops(arguments.seed));
    println!("\nNot simulated:");
    for (name, why) in rules_without_rate() {
        println!("{name}: {why}");
    }
    println!("\ntook {:.0} s", started.elapsed().as_secs_f64());
    ensure!(failures.is_empty(), "{} targets are missed:\n{}", failures.len(), failures.join("\n"));
    println!("All targets are met.");
    Ok(())
}

/// Prints what healthy senders open. Returns the targets that are missed.
fn false_episodes(days: u32, senders: &[Sender]) -> Vec<String> {
    println!("False episodes: {} senders, {days} days each", senders.len());
    println!(
        "| rule | mails/min | list | true rate | of limit | seed | episodes/day | critical/day | page/day | open |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let results = run_all("healthy senders", senders, Sender::run);
    let mut failures = Vec::new();
    for (sender, result) in senders.iter().zip(&results) {
        let row = row(sender, result);
        println!("{row}");
        if let Some(failure) = failure(sender, result) {
            failures.push(format!("{failure}: {row}"));
        }
    }
    let pages = a_week(senders, &results, |noise| noise.pages);
    let criticals = a_week(senders, &results, |noise| noise.criticals);
    println!(
        "\nAn installation of {SOURCES} sources at 60 % of the limits gets {pages:.2} false pages a week, and \
         {criticals:.2} false alerts of severity critical or page."
    );
    if pages > 1.0 {
        failures.push(format!("{pages:.2} instead of at most 1 false page a week"));
    }
    failures
}

/// Returns how many false alerts a week an installation gets whose sources are healthy and each judged by all rules:
/// the mean of the senders of a rule, added up over the rules.
fn a_week(senders: &[Sender], results: &[Noise], number: impl Fn(&Noise) -> u32) -> f64 {
    let mut by_rule: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for (sender, noise) in senders.iter().zip(results).filter(|(sender, _)| sender.share < 0.7) {
        let (alerts, days) = by_rule.entry(&sender.rule.name).or_default();
        (*alerts, *days) = (*alerts + number(noise), *days + sender.days);
    }
    let a_day = by_rule.values().map(|(alerts, days)| f64::from(*alerts) / f64::from(*days));
    a_day.sum::<f64>() * 7.0 * SOURCES
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

fn row(sender: &Sender, noise: &Noise) -> String {
    let Sender { rule, mails_per_minute, list, share, seed, days, .. } = sender;
    let list = match list {
        List::Binomial => "binomial",
        List::Overdispersed => "overdispersed",
    };
    let a_day = |number: u32| f64::from(number) / f64::from(*days);
    format!(
        "| {} | {mails_per_minute} | {list} | {:.3} % | {:.0} % | {seed} | {:.3} | {:.3} | {:.3} | {:.2} % |",
        rule.name,
        sender.true_rate() * 100.0,
        share * 100.0,
        a_day(noise.episodes),
        a_day(noise.criticals),
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

/// Prints how soon the rules notice that a healthy sender has become a bad one. There is no target.
fn jumps(arguments: &Arguments) {
    let name = arguments.rule.as_deref().unwrap_or("");
    let mut senders = Vec::new();
    // Rules about mail that was sent a day ago cannot notice it within a day.
    let is_of_old_mail = |it: &RuleWindow| matches!(it, RuleWindow::Cohort { youngest: 24.., .. });
    let rules = rate_rules().into_iter().filter(|rule| rule.name.contains(name));
    for rule in rules.filter(|rule| !rule.windows.iter().any(is_of_old_mail)) {
        for mails_per_minute in JUMP_VOLUMES {
            for share in JUMPS {
                let (rule, seed) = (rule.clone(), arguments.seed);
                let list = List::Overdispersed;
                senders.push(Sender { rule, mails_per_minute, share, list, days: 0, seed });
            }
        }
    }
    println!(
        "\nDetection: seconds from a jump of the rate from 40 % of the limit to the first alert, median of {JUMPS_EACH} \
         seeds from {} on; overdispersed lists; `-`: not within a day",
        arguments.seed
    );
    println!("| rule | mails/min | 1.6 × the limit | 2.4 × the limit |");
    println!("|---|---|---|---|");
    let results = run_all("jumps", &senders, |sender| sender.detect(JUMPS_EACH));
    for (senders, results) in senders.chunks(JUMPS.len()).zip(results.chunks(JUMPS.len())) {
        let [Sender { rule, mails_per_minute, .. }, ..] = senders else { continue };
        let text = |Detection { median, .. }: &Detection| {
            median.map_or_else(|| "-".to_owned(), |seconds| seconds.to_string())
        };
        let times: Vec<String> = results.iter().map(text).collect();
        println!("| {} | {mails_per_minute} | {} |", rule.name, times.join(" | "));
    }
}

/// Tests campaigns after every message, as if each were decided on at once. Returns the targets that are missed.
fn early_stops(seed: u64) -> Vec<String> {
    let mut failures = Vec::new();
    println!("\nEarly stop at {EARLY_LIMIT}");
    println!("| true rate | seed | campaigns | stopped | median mails |");
    println!("|---|---|---|---|---|");
    for (rate, campaigns, mails) in
        [(0.02, 20_000, 5000), (0.06, 2001, 20_000), (0.1, 2001, 20_000)]
    {
        let result = early_stop(rate, EARLY_LIMIT, campaigns, mails, seed);
        let EarlyStop { stopped, median, .. } = result;
        let share = f64::from(stopped) / f64::from(campaigns);
        let text = median.map_or_else(|| "-".to_owned(), |median| median.to_string());
        println!("| {rate} | {seed} | {campaigns} | {:.2} % | {text} |", share * 100.0);
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
