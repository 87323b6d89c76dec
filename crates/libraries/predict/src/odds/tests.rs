use proptest::prelude::*;

use super::*;
use crate::beta::Beta;
use crate::bg_bb::tests::{donations, mean_over_both, model};

fn history(mails: u32, engaged: u32, last_engaged: u32) -> History {
    History::new(mails, engaged, last_engaged).unwrap()
}

/// The published estimates with one more digit, as in the documentation of the R package BTYD.
fn published() -> BgBb {
    model(1.2035, 0.7497, 0.6568, 2.7834)
}

#[test]
fn the_odds_of_donors_are_the_published_ones() {
    let model = published();
    for (engaged, last, alive) in [
        (0, 0, 0.11),
        (1, 1, 0.07),
        (1, 2, 0.25),
        (1, 3, 0.48),
        (2, 4, 0.59),
        (3, 5, 0.77),
        (4, 4, 0.20),
        (5, 5, 0.52),
        (6, 6, 0.93),
    ] {
        let odds = model.odds(history(6, engaged, last));
        assert!((odds.alive.get() - alive).abs() < 0.005_1, "{engaged} {last}: {odds:?}");
    }
    // The expected number of donations in the next ten years, as in the documentation of the R package BTYD.
    for (engaged, last, expected) in [(0, 0, 0.130_217), (4, 5, 3.627_858)] {
        let probabilities = model.next_ten(history(6, engaged, last));
        let mean: f64 =
            (0..).map(f64::from).zip(probabilities).map(|(number, it)| number * it).sum();
        assert!((mean - expected).abs() < 0.001, "{engaged} {last}: {mean}");
    }
}

/// The mean of a function of both probabilities given a history, by integration over both and summing over when the
/// recipient quit.
fn mean_given(
    model: &BgBb,
    history: History,
    of_alive: impl Fn(f64, f64) -> f64,
    of_quit: f64,
) -> f64 {
    let sequence = |p: f64, quit: f64, mails: u32| {
        let engaged = i32::try_from(history.engaged()).unwrap();
        let mails = i32::try_from(mails).unwrap();
        p.powi(engaged) * (1.0 - p).powi(mails - engaged) * (1.0 - quit).powi(mails)
    };
    let alive = |p, quit| sequence(p, quit, history.mails());
    let quit = |p, quit: f64| -> f64 {
        (history.last_engaged()..history.mails()).map(|mails| sequence(p, quit, mails) * quit).sum()
    };
    let joint = mean_over_both(model, |p, q| alive(p, q) * of_alive(p, q) + quit(p, q) * of_quit);
    joint / mean_over_both(model, |p, q| alive(p, q) + quit(p, q))
}

#[test]
fn the_odds_are_the_integrals_over_both_probabilities() {
    for model in
        [published(), model(3.0, 9.0, 1.5, 20.0), BgBb::new(Beta::new(0.8, 2.5).unwrap(), None)]
    {
        for (mails, engaged, last) in [
            (0, 0, 0),
            (1, 1, 1),
            (4, 0, 0),
            (6, 2, 3),
            (6, 2, 6),
            (12, 12, 12),
            (30, 4, 9),
            (30, 9, 29),
        ] {
            let history = history(mails, engaged, last);
            let odds = model.odds(history);
            let alive = mean_given(&model, history, |_, quit| 1.0 - quit, 0.0);
            let next = mean_given(&model, history, |p, quit| (1.0 - quit) * p, 0.0);
            assert!((odds.alive.get() - alive).abs() < 1e-6, "{model:?} {history:?}: {odds:?}");
            assert!((odds.next.get() - next).abs() < 1e-6, "{model:?} {history:?}: {odds:?}");
        }
    }
}

/// P(number of ten mails), for a recipient of whom both probabilities are known, mail by mail.
fn ten_if_known(p: f64, quit: f64) -> [f64; 11] {
    let (mut alive, mut gone) = ([0.0; 11], [0.0; 11]);
    alive[0] = 1.0;
    for _ in 0..10 {
        let mut next = [0.0; 11];
        for number in 0..11 {
            gone[number] += alive[number] * quit;
            let stays = alive[number] * (1.0 - quit);
            next[number] += stays * (1.0 - p);
            if number < 10 {
                next[number + 1] += stays * p;
            }
        }
        alive = next;
    }
    std::array::from_fn(|number| alive[number] + gone[number])
}

#[test]
fn the_numbers_of_the_next_ten_are_the_integrals_over_both_probabilities() {
    for (model, history) in [
        (published(), history(6, 2, 3)),
        (published(), history(6, 6, 6)),
        (model(3.0, 9.0, 1.5, 20.0), history(30, 9, 29)),
        (BgBb::new(Beta::new(0.8, 2.5).unwrap(), None), history(4, 1, 1)),
    ] {
        for (number, found) in model.next_ten(history).into_iter().enumerate() {
            let none = f64::from(u8::from(number == 0));
            let expected =
                mean_given(&model, history, |p, quit| ten_if_known(p, quit)[number], none);
            assert!((found - expected).abs() < 1e-6, "{history:?} {number}: {found} {expected}");
        }
    }
}

#[test]
fn an_interval_is_the_shortest_with_80_percent() {
    for (probabilities, low, high) in [
        (vec![0.8, 0.1, 0.1], 0, 0),
        (vec![0.5, 0.31, 0.19], 0, 1),
        (vec![0.1, 0.3, 0.55, 0.05], 1, 2),
        (vec![0.25, 0.25, 0.25, 0.25], 0, 3),
        (vec![0.05, 0.05, 0.9], 2, 2),
    ] {
        let interval = Interval::shortest(&probabilities);
        assert_eq!((interval.low(), interval.high()), (low, high), "{probabilities:?}");
    }
    let interval = Interval { low: 1, high: 3 };
    let contained: Vec<u32> = (0..6).filter(|number| interval.contains(*number)).collect();
    assert_eq!(contained, [1, 2, 3]);
}

#[test]
fn the_table_has_the_odds_of_every_history_that_occurs() {
    let histories = donations();
    let table = OddsTable::new(&published(), &histories);
    assert_eq!(table.iter().count(), 22);
    for (history, odds) in table.iter() {
        assert_eq!(table.get(history), Some(odds));
        let alone = published().odds(history);
        assert!((odds.next.get() - alone.next.get()).abs() < 1e-12, "{history:?}");
        assert_eq!(odds.next_ten, alone.next_ten, "{history:?}");
    }
    assert_eq!(table.get(history(7, 1, 1)), None);
}

#[test]
fn a_recipient_without_quits_is_alive() {
    let model = BgBb::new(Beta::new(1.0, 3.0).unwrap(), None);
    let odds = model.odds(history(50, 3, 4));
    assert_eq!(odds.alive, Probability::ONE);
    assert!((odds.next.get() - 4.0 / 54.0).abs() < 1e-12, "{odds:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn odds_are_consistent(
        alpha in 0.01..100.0_f64, beta in 0.01..100.0_f64,
        gamma in 0.01..100.0_f64, delta in 0.01..1000.0_f64,
        mails in 0..300_u32, engaged in 0.0..1.0_f64, last in 0.0..1.0_f64,
    ) {
        let share = |of: u32, share: f64| (f64::from(of) * share).round() as u32;
        let last = share(mails, last);
        let engaged = if last == 0 { 0 } else { share(last, engaged).max(1) };
        let history = history(mails, engaged, last);
        let model = model(alpha, beta, gamma, delta);
        let odds = model.odds(history);
        prop_assert!(odds.next <= odds.alive);
        let probabilities = model.next_ten(history);
        prop_assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{probabilities:?}");
        let inside: f64 = (odds.next_ten.low()..=odds.next_ten.high())
            .map(|number| probabilities[number as usize]).sum();
        prop_assert!(inside >= COVERAGE - 1e-9, "{odds:?} {probabilities:?}");
        // Somebody who engaged with the last mail is alive but for quitting before the next.
        if last == mails && mails > 0 {
            let stays = 1.0 - gamma / (gamma + delta + f64::from(mails));
            prop_assert!((odds.alive.get() - stays).abs() < 1e-9, "{odds:?}");
        }
    }
}
