//! Next engagement: BG/BB, compared with simpler models and with an oracle that knows every recipient.

use anyhow::Context;
use predict::{
    BgBb, Bin, Forecast, HORIZON, Histories, History, OddsTable, Probability, Scores, Unknown,
    coverage,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Beta, Distribution};

use super::plots::Plot;

/// A source of which everything is known.
#[derive(Debug, Clone, Copy)]
struct World {
    name: &'static str,
    /// The share of the recipients who have stopped to engage, at a random time before the prediction.
    silent: f64,
    /// The greatest expected calibration error of BG/BB.
    greatest_ece: f64,
}

const WORLDS: [World; 3] = [
    World { name: "nobody quits", silent: 0.0, greatest_ece: 0.01 },
    World { name: "30 % silent", silent: 0.3, greatest_ece: 0.025 },
    World { name: "60 % silent", silent: 0.6, greatest_ece: 0.04 },
];

/// How often the interval must contain what happens. It covers more than the 80 % it is made for, because numbers of
/// mails are whole.
const COVERAGE: std::ops::RangeInclusive<f64> = 0.80..=0.93;

/// Where nobody quits, the log loss of BG/BB must not be greater than this multiple of the oracle's.
const OF_ORACLE: f64 = 1.15;

/// The mails that a recipient has got before the prediction.
const MAILS: std::ops::RangeInclusive<u32> = 5..=40;

/// The shapes of the probability to engage with a mail, while a recipient is not silent: 30 % on average.
const ENGAGES: (f64, f64) = (0.9, 2.1);

struct Recipient {
    /// To engage with the next mail; 0 if silent.
    probability: f64,
    history: History,
    /// The mails after the prediction.
    next: Vec<bool>,
}

/// What was measured in one world.
pub(super) struct Measured {
    world: World,
    raw_rate: Scores,
    beta_binomial: Scores,
    bg_bb: Scores,
    oracle: Scores,
    coverage: f64,
    /// The mean number of values in an interval.
    width: f64,
    histories: usize,
    model: BgBb,
    bins: Vec<Bin>,
}

pub(super) fn results(seed: u64, recipients: u32) -> anyhow::Result<Vec<Measured>> {
    let worlds = WORLDS.iter().zip(0..);
    worlds.map(|(world, index)| result(*world, seed.wrapping_add(index), recipients)).collect()
}

fn result(world: World, seed: u64, recipients: u32) -> anyhow::Result<Measured> {
    let recipients = simulate(world.silent, seed, recipients)?;
    let histories: Histories = recipients.iter().map(|recipient| recipient.history).collect();
    let model = BgBb::fit(&histories)?;
    let table = OddsTable::new(&model, &histories);
    let simpler = OddsTable::new(&BgBb::fit_without_quits(&histories)?, &histories);

    let mut forecasts: [Vec<Forecast>; 4] = Default::default();
    let mut intervals = Vec::new();
    for recipient in &recipients {
        let odds = table.get(recipient.history).context("a history without odds")?;
        let simpler = simpler.get(recipient.history).context("a history without odds")?;
        let history = recipient.history;
        let raw_rate = f64::from(history.engaged()) / f64::from(history.mails());
        let probabilities = [
            Probability::new(raw_rate)?,
            simpler.next,
            odds.next,
            Probability::new(recipient.probability)?,
        ];
        let happened = recipient.next.first().copied().unwrap_or_default();
        for (forecasts, probability) in forecasts.iter_mut().zip(probabilities) {
            forecasts.push(Forecast { probability, happened });
        }
        let engaged = recipient.next.iter().map(|engaged| u32::from(*engaged)).sum();
        intervals.push((odds.next_ten, engaged));
    }
    let [raw_rate, beta_binomial, bg_bb, oracle] =
        forecasts.each_ref().map(|forecasts| Scores::of(forecasts));
    let none = "no recipients";
    let values = intervals.iter().map(|(it, _)| f64::from(it.high() - it.low() + 1));
    Ok(Measured {
        world,
        raw_rate: raw_rate.context(none)?,
        beta_binomial: beta_binomial.context(none)?,
        bg_bb: bg_bb.context(none)?,
        oracle: oracle.context(none)?,
        coverage: coverage(&intervals).context(none)?,
        width: values.sum::<f64>() / intervals.len() as f64,
        histories: table.iter().count(),
        model,
        bins: Bin::of(&forecasts[2]),
    })
}

fn simulate(silent: f64, seed: u64, recipients: u32) -> anyhow::Result<Vec<Recipient>> {
    let mut random = StdRng::seed_from_u64(seed);
    let engages = Beta::new(ENGAGES.0, ENGAGES.1)?;
    let mut all = Vec::new();
    for _ in 0..recipients {
        let rate = engages.sample(&mut random);
        let mails = random.random_range(MAILS);
        let engaging =
            if random.random_bool(silent) { random.random_range(0..mails) } else { u32::MAX };
        let engages = (0..mails + HORIZON).map(|mail| mail < engaging && random.random_bool(rate));
        let mut before: Vec<bool> = engages.collect();
        let next = before.split_off(mails as usize);
        let probability = if engaging == u32::MAX { rate } else { 0.0 };
        all.push(Recipient { probability, history: History::of(&before)?, next });
    }
    Ok(all)
}

impl Measured {
    pub(super) fn plot(&self) -> Plot<'_> {
        Plot::new(self.world.name, &self.bg_bb, &self.bins)
    }

    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut check = |is_met: bool, failure: String| {
            if !is_met {
                failures.push(format!("{}: {failure}", self.world.name));
            }
        };
        let (log_loss, simpler) = (self.bg_bb.log_loss, self.beta_binomial.log_loss);
        check(
            log_loss <= simpler,
            format!(
                "the log loss of BG/BB is {log_loss:.6}, that of the beta-binomial {simpler:.6}"
            ),
        );
        let most = OF_ORACLE * self.oracle.log_loss;
        check(
            self.world.silent > 0.0 || log_loss <= most,
            format!("the log loss of BG/BB is {log_loss:.4} instead of at most {most:.4}"),
        );
        let (ece, most) = (self.bg_bb.ece, self.world.greatest_ece);
        check(ece <= most, format!("the ECE is {ece:.4} instead of at most {most}"));
        let coverage = self.coverage;
        check(
            COVERAGE.contains(&coverage),
            format!("intervals cover {:.1} % instead of 80 to 93 %", coverage * 100.0),
        );
        failures
    }
}

pub(super) fn print(results: &[Measured]) {
    println!("\nNext engagement: the mail after the last one of each history");
    println!(
        "| world | histories | log loss: raw rate | beta-binomial | BG/BB | oracle | Brier | ECE | at most | intervals cover | values |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for result in results {
        println!(
            "| {} | {} | {:.3} | {:.4} | {:.4} | {:.4} | {:.4} | {:.4} | {} | {:.1} % | {:.1} |",
            result.world.name,
            result.histories,
            result.raw_rate.log_loss,
            result.beta_binomial.log_loss,
            result.bg_bb.log_loss,
            result.oracle.log_loss,
            result.bg_bb.brier,
            result.bg_bb.ece,
            result.world.greatest_ece,
            result.coverage * 100.0,
            result.width,
        );
    }
    for result in results {
        let engages = result.model.engages();
        print!("{}: α {:.3}, β {:.3}", result.world.name, engages.a(), engages.b());
        match result.model.quits() {
            Some(quits) => println!(", γ {:.3}, δ {:.3}", quits.a(), quits.b()),
            None => println!(", nobody quits"),
        }
    }
}

/// Returns whether the next engagement is predicted for a source with few recipients.
pub(super) fn of_small(seed: u64, recipients: u32) -> anyhow::Result<Result<(), Unknown>> {
    let recipients = simulate(0.3, seed, recipients)?;
    Ok(BgBb::fit(&recipients.iter().map(|recipient| recipient.history).collect()).map(drop))
}
