use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::Distribution;

use super::*;

fn counts(numbers: &[(usize, u32, u32)]) -> SlotCounts {
    let mut counts = SlotCounts::default();
    for (slot, delivered, opened) in numbers {
        counts.0[*slot] = SlotCount::new(*delivered, *opened).unwrap();
    }
    counts
}

/// Recipients whose rates in each slot follow a beta distribution with the given concentration.
fn simulated(recipients: u32, concentration: f64) -> Vec<SlotCounts> {
    let mut random = StdRng::seed_from_u64(3);
    let mean = |slot: Slot| if slot == Slot(4) { 0.4 } else { 0.25 };
    let one = |random: &mut StdRng| {
        let mut counts = SlotCounts::default();
        for slot in Slot::all() {
            let beta = Beta::with_mean(mean(slot), concentration).unwrap();
            let rate = rand_distr::Beta::new(beta.a(), beta.b()).unwrap().sample(random);
            let delivered = random.random_range(0..12);
            let opened = (0..delivered).filter(|_| random.random_bool(rate)).count();
            counts.0[slot.index()] = SlotCount::new(delivered, opened as u32).unwrap();
        }
        counts
    };
    (0..recipients).map(|_| one(&mut random)).collect()
}

#[test]
fn slots_are_two_hours_of_the_local_day() {
    assert_eq!(Slot::of_hour(0), Some(Slot(0)));
    assert_eq!(Slot::of_hour(9).map(Slot::first_hour), Some(8));
    assert_eq!(Slot::of_hour(23).map(Slot::index), Some(11));
    assert_eq!(Slot::of_hour(24), None);
    assert_eq!(Slot::all().count(), SLOTS);
}

#[test]
fn no_more_mails_are_opened_than_delivered() {
    assert!(SlotCount::new(2, 2).is_ok());
    let error = SlotCount::new(2, 3).unwrap_err();
    assert_eq!(error.to_string(), "3 of 2 delivered mails cannot have been opened");
}

#[test]
fn the_concentration_and_the_best_slot_are_found_again() {
    for concentration in [2.0, 12.0] {
        let model = SlotModel::fit(&simulated(4000, concentration)).unwrap();
        // The level is estimated from the same counts, and takes a part of the differences between slots.
        let ratio = model.concentration() / concentration;
        assert!((1.0..1.5).contains(&ratio), "{} {concentration}", model.concentration());
        assert_eq!(model.best(), Slot(4));
    }
}

#[test]
fn recipients_with_a_single_open_do_not_change_the_concentration() {
    let mut recipients = simulated(1000, 5.0);
    let before = SlotModel::fit(&recipients).unwrap();
    // At the rates of the population, so that these hardly change.
    for (slot, rate) in Slot::all().zip(before.rates) {
        let delivered = (1.0 / rate).round() as u32;
        recipients.extend([counts(&[(slot.index(), delivered, 1)]); 200]);
    }
    let after = SlotModel::fit(&recipients).unwrap();
    let ratio = after.concentration() / before.concentration();
    assert!((0.97..1.03).contains(&ratio), "{before:?} {after:?}");
}

#[test]
fn the_likelihood_of_counts_is_the_ratio_of_beta_functions() {
    use statrs::function::beta::ln_beta;
    for (delivered, opened) in [(0, 0), (1, 1), (30, 4), (5000, 1500)] {
        for (mean, concentration) in [(0.2, 0.5), (0.7, 40.0)] {
            let (a, b) = (mean * concentration, (1.0 - mean) * concentration);
            let (yes, no) = (f64::from(opened), f64::from(delivered - opened));
            let expected = ln_beta(a + yes, b + no) - ln_beta(a, b);
            let count = SlotCount::new(delivered, opened).unwrap();
            let found = ln_probability(count, mean, concentration);
            assert!((found - expected).abs() < 1e-7, "{delivered} {opened}: {found} {expected}");
        }
    }
}

#[test]
fn recipients_who_differ_only_in_how_much_they_open_have_no_slot_of_their_own() {
    let mut random = StdRng::seed_from_u64(8);
    let level = rand_distr::Beta::new(1.2, 2.8).unwrap();
    let recipients: Vec<SlotCounts> = (0..3000)
        .map(|_| {
            let rate: f64 = level.sample(&mut random);
            let mut counts = SlotCounts::default();
            for slot in Slot::all() {
                let rate = rate * if slot == Slot(4) { 1.0 } else { 0.7 };
                let delivered = random.random_range(0..12);
                let opened = (0..delivered).filter(|_| random.random_bool(rate)).count();
                counts.0[slot.index()] = SlotCount::new(delivered, opened as u32).unwrap();
            }
            counts
        })
        .collect();
    let model = SlotModel::fit(&recipients).unwrap();
    let own = recipients.iter().filter(|counts| model.best_of(counts).certain).count();
    assert!(own < 30, "{own} {}", model.concentration());
    // Somebody who opens nothing in the usual slot does not open in all others.
    let nothing = counts(&[(4, 40, 0)]);
    assert!(!model.best_of(&nothing).certain);
    assert!(model.rate(&nothing, Slot(9)).get() < 0.1);
}

#[test]
fn fewer_than_500_recipients_with_two_opens_tell_nothing() {
    let mut recipients = vec![counts(&[(3, 4, 2)]); 499];
    recipients.extend([counts(&[(3, 4, 1)]); 1000]);
    let unknown = Unknown::TooFewRecipients { recipients: 499 };
    assert_eq!(SlotModel::fit(&recipients), Err(unknown));
    recipients.push(counts(&[(3, 4, 3)]));
    assert!(SlotModel::fit(&recipients).is_ok());
}

#[test]
fn a_slot_with_hardly_any_mail_is_not_the_best_of_the_population() {
    let mut recipients = vec![counts(&[(3, 10, 2), (9, 10, 3)]); 600];
    recipients.push(counts(&[(1, 3, 3)]));
    assert_eq!(SlotModel::fit(&recipients).unwrap().best(), Slot(9));
}

#[test]
fn an_own_slot_is_reported_only_with_evidence() {
    let model = SlotModel::fit(&simulated(4000, 5.0)).unwrap();
    let best = |numbers: &[(usize, u32, u32)]| model.best_of(&counts(numbers));
    let of_all = BestSlot { slot: Slot(4), certain: false };
    assert_eq!(best(&[]), of_all);
    assert_eq!(best(&[(9, 2, 2)]), of_all);
    assert_eq!(best(&[(9, 20, 18), (4, 20, 17)]), of_all);
    assert_eq!(best(&[(9, 20, 18), (4, 20, 4)]), BestSlot { slot: Slot(9), certain: true });
    // The best slot of the population is never a slot of one's own.
    assert_eq!(best(&[(4, 50, 50)]), of_all);
}

#[test]
fn rates_are_shrunk_to_those_of_the_population() {
    let model = SlotModel::fit(&simulated(4000, 5.0)).unwrap();
    let rate = |delivered, opened| model.rate(&counts(&[(2, delivered, opened)]), Slot(2)).get();
    assert!((rate(0, 0) - 0.25).abs() < 0.02, "{}", rate(0, 0));
    assert!(rate(2, 2) > rate(0, 0) && rate(2, 2) < 0.6, "{}", rate(2, 2));
    assert!(rate(200, 200) > 0.95);
}

#[test]
fn the_interval_of_a_rate_becomes_shorter_with_deliveries() {
    let model = SlotModel::fit(&simulated(4000, 2.0)).unwrap();
    let of = |times: u32| {
        let (low, high) = model.interval(&counts(&[(2, 10 * times, 3 * times)]), Slot(2));
        let rate = model.rate(&counts(&[(2, 10 * times, 3 * times)]), Slot(2));
        assert!(low < rate && rate < high, "{low:?} {rate:?} {high:?}");
        high.get() - low.get()
    };
    assert!(of(100) < of(10) && of(10) < of(1), "{} {} {}", of(1), of(10), of(100));
    // With 1000 deliveries, the counts alone determine the interval: ±1.2816 standard deviations of the rate.
    let expected = 2.0 * 1.2816 * (0.3_f64 * 0.7 / 1000.0).sqrt();
    assert!((of(100) / expected - 1.0).abs() < 0.05, "{} {expected}", of(100));
}
