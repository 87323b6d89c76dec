use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::Distribution;

use super::*;

/// How often 11,104 people who first gave in 1995 gave again in the six years after it: years with a donation, the last
/// of them, people. Table 2 of the paper.
pub(crate) const DONATIONS: [(u32, u32, u64); 22] = [
    (6, 6, 1203),
    (5, 6, 728),
    (4, 6, 512),
    (3, 6, 357),
    (2, 6, 234),
    (1, 6, 129),
    (5, 5, 335),
    (4, 5, 284),
    (3, 5, 225),
    (2, 5, 173),
    (1, 5, 119),
    (4, 4, 240),
    (3, 4, 181),
    (2, 4, 155),
    (1, 4, 78),
    (3, 3, 322),
    (2, 3, 255),
    (1, 3, 129),
    (2, 2, 613),
    (1, 2, 277),
    (1, 1, 1091),
    (0, 0, 3464),
];

pub(crate) fn donations() -> Histories {
    let history = |(engaged, last, people)| (History::new(6, engaged, last).unwrap(), people);
    DONATIONS.into_iter().map(history).collect()
}

pub(crate) fn model(alpha: f64, beta: f64, gamma: f64, delta: f64) -> BgBb {
    BgBb::new(Beta::new(alpha, beta).unwrap(), Some(Beta::new(gamma, delta).unwrap()))
}

/// The mean of a function of a probability that is distributed like `beta`, as a sum over its logit. Its density over
/// the logit has no singularities, also if a shape is below 1.
pub(crate) fn mean_over(beta: Beta, function: impl Fn(f64) -> f64) -> f64 {
    let (mut sum, mut mass) = (0.0, 0.0);
    for step in -200..=200 {
        let logit = f64::from(step) * 0.2;
        let (p, rest) = (1.0 / (1.0 + (-logit).exp()), 1.0 / (1.0 + logit.exp()));
        let weight = p.powf(beta.a()) * rest.powf(beta.b());
        mass += weight;
        sum += weight * function(p);
    }
    sum / mass
}

/// P(sequence, and not quit before any mail), for a recipient of whom both probabilities are known.
fn alive_if_known(p: f64, quit: f64, mails: &[bool]) -> f64 {
    mails.iter().map(|engaged| (1.0 - quit) * if *engaged { p } else { 1.0 - p }).product()
}

/// P(sequence), summed over when the recipient quit.
fn likelihood_if_known(p: f64, quit: f64, mails: &[bool]) -> f64 {
    let after_the_last = mails.iter().rposition(|engaged| *engaged).map_or(0, |index| index + 1);
    let quit_after = |alive: usize| alive_if_known(p, quit, &mails[..alive]) * quit;
    alive_if_known(p, quit, mails) + (after_the_last..mails.len()).map(quit_after).sum::<f64>()
}

/// The mean over everything that the model does not know of a recipient.
pub(crate) fn mean_over_both(model: &BgBb, function: impl Fn(f64, f64) -> f64) -> f64 {
    mean_over(model.engages(), |p| match model.quits() {
        Some(quits) => mean_over(quits, |quit| function(p, quit)),
        None => function(p, 0.0),
    })
}

#[test]
fn the_donations_have_the_published_likelihood_and_shapes() {
    let histories = donations();
    assert_eq!(histories.recipients_with(6), 11_104);
    let published = model(1.204, 0.750, 0.657, 2.783);
    assert!((published.ln_likelihood(&histories) + 33_225.6).abs() < 0.05);
    let fitted = BgBb::fit(&histories).unwrap();
    assert!((fitted.ln_likelihood(&histories) + 33_225.6).abs() < 0.05);
    let (engages, quits) = (fitted.engages(), fitted.quits().unwrap());
    for (found, expected) in
        [(engages.a(), 1.204), (engages.b(), 0.750), (quits.a(), 0.657), (quits.b(), 2.783)]
    {
        assert!((found - expected).abs() < 0.002, "{found} instead of {expected}");
    }
}

#[test]
fn a_beta_binomial_fits_the_donations_as_badly_as_published() {
    let histories = donations();
    let fitted = BgBb::fit_without_quits(&histories).unwrap();
    // Of the counts alone: without the binomial coefficients, as the likelihood of the histories.
    let found = fitted.ln_likelihood(&histories);
    assert!(found < -35_000.0, "{found}");
    for factor in [0.99, 1.01] {
        let (a, b) = (fitted.engages().a(), fitted.engages().b());
        for (a, b) in [(a * factor, b), (a, b * factor)] {
            let other = BgBb::new(Beta::new(a, b).unwrap(), None);
            assert!(other.ln_likelihood(&histories) < found);
        }
    }
}

#[test]
fn the_likelihood_is_the_integral_over_both_probabilities() {
    for (model, sequences) in [
        (model(1.2, 0.75, 0.66, 2.78), 6),
        (model(3.0, 9.0, 1.5, 20.0), 5),
        (BgBb::new(Beta::new(0.8, 2.5).unwrap(), None), 5),
    ] {
        for bits in 0..1_u32 << sequences {
            let mails: Vec<bool> = (0..sequences).map(|index| bits >> index & 1 == 1).collect();
            let history = History::of(&mails).unwrap();
            let terms = Terms::new(&model, history.mails());
            let found = terms.ln_likelihood(history, &mut Vec::new()).exp();
            let expected = mean_over_both(&model, |p, quit| likelihood_if_known(p, quit, &mails));
            assert!((found / expected - 1.0).abs() < 1e-5, "{model:?} {mails:?}");
        }
    }
}

#[test]
fn long_histories_have_finite_likelihoods() {
    let model = model(0.5, 30.0, 0.3, 40.0);
    for (engaged, last) in [(0, 0), (1, 1), (1, 10_000), (10_000, 10_000), (5000, 9000)] {
        let history = History::new(10_000, engaged, last).unwrap();
        let found = Terms::new(&model, 10_000).ln_likelihood(history, &mut Vec::new());
        assert!(found.is_finite() && found < 0.0, "{history:?}: {found}");
    }
}

#[test]
fn fewer_than_500_recipients_tell_nothing() {
    let history = |mails| History::new(mails, 1, 1).unwrap();
    let few: Histories = [(history(2), 499), (history(1), 1_000_000)].into_iter().collect();
    let unknown = Unknown::TooFewRecipients { recipients: 499 };
    assert_eq!(BgBb::fit(&few).as_ref(), Err(&unknown));
    assert_eq!(BgBb::fit_without_quits(&few).as_ref(), Err(&unknown));
    assert_eq!(
        unknown.to_string(),
        "unknown: 499 recipients have enough history, and 500 are needed"
    );
    let enough: Histories = [(history(2), 500)].into_iter().collect();
    assert!(BgBb::fit(&enough).is_ok());
}

#[test]
fn data_without_any_variety_are_fitted() {
    for engaged in [0, 5] {
        let history = History::new(5, engaged, engaged).unwrap();
        let histories: Histories = [(history, 1000)].into_iter().collect();
        let odds = BgBb::fit(&histories).unwrap().odds(history);
        let expected = f64::from(engaged) / 5.0;
        assert!((odds.next.get() - expected).abs() < 0.01, "{odds:?}");
    }
}

/// Returns the histories of simulated recipients that follow the model.
fn simulated(model: &BgBb, recipients: u32, seed: u64) -> Histories {
    let mut random = StdRng::seed_from_u64(seed);
    let draw = |beta: Beta, random: &mut StdRng| {
        rand_distr::Beta::new(beta.a(), beta.b()).unwrap().sample(random)
    };
    (0..recipients)
        .map(|_| {
            let p = draw(model.engages(), &mut random);
            let quit = model.quits().map_or(0.0, |quits| draw(quits, &mut random));
            let mut alive = true;
            let mails: Vec<bool> = (0..random.random_range(2..25))
                .map(|_| {
                    alive = alive && !random.random_bool(quit);
                    alive && random.random_bool(p)
                })
                .collect();
            History::of(&mails).unwrap()
        })
        .collect()
}

#[test]
fn the_shapes_that_made_the_histories_are_found_again() {
    for (seed, truth) in [model(0.9, 2.0, 0.8, 12.0), model(2.0, 3.0, 1.5, 6.0)].iter().enumerate()
    {
        let histories = simulated(truth, 20_000, seed as u64);
        let fitted = BgBb::fit(&histories).unwrap();
        assert!(fitted.ln_likelihood(&histories) >= truth.ln_likelihood(&histories));
        let (found, quits) = (fitted.engages(), fitted.quits().unwrap());
        assert!((found.mean() - truth.engages().mean()).abs() < 0.02, "{fitted:?}");
        assert!((quits.mean() - truth.quits().unwrap().mean()).abs() < 0.02, "{fitted:?}");
        assert!((found.a() / truth.engages().a() - 1.0).abs() < 0.15, "{fitted:?}");
    }
}

#[test]
fn where_nobody_quits_the_model_is_the_beta_binomial_one() {
    let truth = BgBb::new(Beta::new(0.9, 2.0).unwrap(), None);
    for seed in 0..4 {
        let histories = simulated(&truth, 3000, seed);
        let fitted = BgBb::fit(&histories).unwrap();
        assert_eq!(fitted, BgBb::fit_without_quits(&histories).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The probabilities of all histories of a length, each as often as there are orders, add up to 1.
    #[test]
    fn all_histories_together_are_certain(
        alpha in 0.05..20.0_f64, beta in 0.05..20.0_f64,
        gamma in 0.05..20.0_f64, delta in 0.05..50.0_f64,
        mails in 1..9_u32,
    ) {
        let terms = Terms::new(&model(alpha, beta, gamma, delta), mails);
        let sum: f64 = (0..1_u32 << mails)
            .map(|bits| {
                let sequence: Vec<bool> = (0..mails).map(|index| bits >> index & 1 == 1).collect();
                terms.ln_likelihood(History::of(&sequence).unwrap(), &mut Vec::new()).exp()
            })
            .sum();
        prop_assert!((sum - 1.0).abs() < 1e-10, "{sum}");
    }
}
