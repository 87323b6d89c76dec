//! Best time: the slots that are reported, compared with the true rates of each recipient.

use anyhow::Context;
use predict::{Bin, Forecast, SLOTS, Scores, Slot, SlotCount, SlotCounts, SlotModel, Unknown};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::weighted::WeightedIndex;
use rand_distr::{Beta, Distribution};

use super::plots::Plot;

/// A source of which everything is known.
#[derive(Debug, Clone, Copy)]
struct World {
    name: &'static str,
    /// The share of the recipients who open in a slot of their own more than at other times.
    own_hours: f64,
}

const WORLDS: [World; 3] = [
    World { name: "all alike", own_hours: 0.0 },
    World { name: "half have hours of their own", own_hours: 0.5 },
    World { name: "all have hours of their own", own_hours: 1.0 },
];

/// How often mail is delivered in each slot.
const DELIVERIES: [f64; SLOTS] = [1.0, 1.0, 1.0, 3.0, 8.0, 8.0, 6.0, 6.0, 6.0, 5.0, 3.0, 1.0];

/// How much a population opens in each slot, compared with its best.
const RHYTHM: [f64; SLOTS] = [0.15, 0.1, 0.15, 0.5, 1.0, 0.85, 0.75, 0.65, 0.7, 0.8, 0.75, 0.4];

/// The shapes of a recipient's rate in the best slot of the population: 30 % on average.
const OPENS: (f64, f64) = (1.2, 2.8);

/// What the rate of recipients with hours of their own is multiplied with, in these hours and in others.
const IN_OWN_HOURS: f64 = 2.5;
const IN_OTHER_HOURS: f64 = 0.6;

/// The deliveries of each recipient before the prediction.
const MAILS: std::ops::RangeInclusive<u32> = 20..=150;

/// The mean true rate in the reported slots must not be below this multiple of that in the population's slot.
const LEAST_OF_POPULATION: f64 = 0.99;

/// The least share of the own slots that are truly better than the population's.
const LEAST_BETTER: f64 = 0.85;

/// Where all are alike, no own slot can be truly better. At most this share of the recipients may get one.
const MOST_MISTAKES: f64 = 0.01;

struct Recipient {
    counts: SlotCounts,
    /// To open within two hours, by slot.
    rates: [f64; SLOTS],
    /// A delivery after those of the counts.
    next: (Slot, bool),
}

/// What was measured in one world.
pub(super) struct Measured {
    world: World,
    model: SlotModel,
    recipients: usize,
    /// The recipients with a slot of their own.
    certain: usize,
    /// Those of them whose own slot is truly better than the population's.
    better: usize,
    /// Mean true rates of all recipients: in the reported slots, in the population's slot, and in the slot that is
    /// truly best for each.
    chosen: f64,
    of_population: f64,
    of_oracle: f64,
    scores: Scores,
    bins: Vec<Bin>,
}

pub(super) fn results(seed: u64, recipients: u32) -> anyhow::Result<Vec<Measured>> {
    let worlds = WORLDS.iter().zip(100..);
    worlds.map(|(world, index)| result(*world, seed.wrapping_add(index), recipients)).collect()
}

fn result(world: World, seed: u64, recipients: u32) -> anyhow::Result<Measured> {
    let recipients = simulate(world.own_hours, seed, recipients)?;
    let counts: Vec<SlotCounts> = recipients.iter().map(|recipient| recipient.counts).collect();
    let model = SlotModel::fit(&counts)?;
    let (mut certain, mut better) = (0, 0);
    let (mut chosen, mut of_population, mut of_oracle) = (0.0, 0.0, 0.0);
    let mut forecasts = Vec::new();
    for recipient in &recipients {
        let best = model.best_of(&recipient.counts);
        let rate = |slot: Slot| recipient.rates[slot.index()];
        certain += usize::from(best.certain);
        better += usize::from(best.certain && rate(best.slot) > rate(model.best()));
        chosen += rate(best.slot);
        of_population += rate(model.best());
        of_oracle += recipient.rates.iter().copied().fold(0.0, f64::max);
        let (slot, happened) = recipient.next;
        forecasts.push(Forecast { probability: model.rate(&recipient.counts, slot), happened });
    }
    let number = recipients.len() as f64;
    Ok(Measured {
        world,
        model,
        recipients: recipients.len(),
        certain,
        better,
        chosen: chosen / number,
        of_population: of_population / number,
        of_oracle: of_oracle / number,
        scores: Scores::of(&forecasts).context("no recipients")?,
        bins: Bin::of(&forecasts),
    })
}

fn simulate(own_hours: f64, seed: u64, recipients: u32) -> anyhow::Result<Vec<Recipient>> {
    let mut random = StdRng::seed_from_u64(seed);
    let slots: Vec<Slot> = Slot::all().collect();
    let (opens, deliveries) = (Beta::new(OPENS.0, OPENS.1)?, WeightedIndex::new(DELIVERIES)?);
    let mut all = Vec::new();
    for _ in 0..recipients {
        let level = opens.sample(&mut random);
        let own = random.random_bool(own_hours).then(|| random.random_range(0..SLOTS));
        let rates: [f64; SLOTS] = std::array::from_fn(|slot| {
            let factor = match own {
                None => 1.0,
                Some(own) if own == slot => IN_OWN_HOURS / RHYTHM[slot].max(0.4),
                Some(_) => IN_OTHER_HOURS,
            };
            (level * RHYTHM[slot] * factor).min(0.95)
        });
        let next = |random: &mut StdRng| {
            let slot = deliveries.sample(random);
            (slots[slot], random.random_bool(rates[slot]))
        };
        let mut counts = [(0, 0); SLOTS];
        for _ in 0..random.random_range(MAILS) {
            let (slot, opened) = next(&mut random);
            counts[slot.index()].0 += 1;
            counts[slot.index()].1 += u32::from(opened);
        }
        let mut of_slots = SlotCounts::default();
        for (count, (delivered, opened)) in of_slots.0.iter_mut().zip(counts) {
            *count = SlotCount::new(delivered, opened)?;
        }
        all.push(Recipient { counts: of_slots, rates, next: next(&mut random) });
    }
    Ok(all)
}

impl Measured {
    pub(super) fn plot(&self) -> Plot<'_> {
        Plot::new(self.world.name, &self.scores, &self.bins)
    }

    fn share_better(&self) -> Option<f64> {
        (self.certain > 0).then(|| self.better as f64 / self.certain as f64)
    }

    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let ratio = self.chosen / self.of_population;
        if ratio < LEAST_OF_POPULATION {
            failures.push(format!(
                "{}: the rate in the reported slots is {ratio:.4} of that in the population's slot",
                self.world.name
            ));
        }
        let reported = self.certain as f64 / self.recipients as f64;
        let share = self.share_better().unwrap_or_default();
        if self.world.own_hours == 0.0 && reported > MOST_MISTAKES {
            let percent = reported * 100.0;
            failures.push(format!("{}: {percent:.1} % get an own slot", self.world.name));
        }
        if self.world.own_hours > 0.0 && share < LEAST_BETTER {
            failures.push(format!(
                "{}: {:.1} % instead of 85 % of the own slots are truly better",
                self.world.name,
                share * 100.0
            ));
        }
        failures
    }
}

pub(super) fn print(results: &[Measured]) {
    println!("\nBest time: true rates of opens within two hours");
    println!(
        "| world | concentration | own slots | truly better | rate: population's slot | reported | oracle | reported / population's | ECE of rates |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for result in results {
        let share = result.share_better();
        println!(
            "| {} | {:.1} | {:.1} % | {} | {:.4} | {:.4} | {:.4} | {:.3} | {:.4} |",
            result.world.name,
            result.model.concentration(),
            result.certain as f64 / result.recipients as f64 * 100.0,
            share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0)),
            result.of_population,
            result.chosen,
            result.of_oracle,
            result.chosen / result.of_population,
            result.scores.ece,
        );
    }
}

/// Returns whether the best time is predicted for a source with few recipients, who all have opened two mails or more.
pub(super) fn of_small(seed: u64, recipients: u32) -> anyhow::Result<Result<(), Unknown>> {
    let opened = |counts: &SlotCounts| counts.0.iter().map(|it| it.opened()).sum::<u32>();
    let simulated = simulate(0.5, seed, recipients * 2)?.into_iter();
    let counts = simulated.map(|recipient| recipient.counts).filter(|counts| opened(counts) >= 2);
    Ok(SlotModel::fit(&counts.take(recipients as usize).collect::<Vec<_>>()).map(drop))
}
