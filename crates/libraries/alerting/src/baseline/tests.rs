use event::Counter::{Complained, Deferred, Delivered, Engaged};

use super::*;

const WEEK: i64 = 7 * 24 * HOUR;

/// Monday, 2026-01-05, 00:00 UTC.
const MONDAY: i64 = 1_767_571_200_000_000;

fn delivered(number: i64) -> Counts {
    Counts::of([(Delivered, number)])
}

/// Four weeks with these deliveries from 8 to 18 o'clock UTC.
fn office(number: i64) -> Baseline {
    let mut baseline = Baseline::new(Zone::UTC);
    for hour in 0..4 * 168 {
        if (8..18).contains(&(hour % 24)) {
            baseline.observe(MONDAY + hour * HOUR, &delivered(number), 60_000_000);
        }
    }
    baseline
}

#[test]
fn an_hour_of_the_week_is_that_of_the_zone() {
    assert_eq!(Zone::UTC.place(MONDAY).1, 0);
    assert_eq!(Zone::UTC.place(MONDAY - 1), (Zone::UTC.place(MONDAY).0 - 1, 167));
    let berlin = Zone::named("Europe/Berlin").unwrap();
    assert_eq!(berlin.place(MONDAY).1, 1);
    let summer = MONDAY + 26 * WEEK;
    assert_eq!(berlin.place(summer).1, 2);
    assert_eq!(Zone::named("Asia/Kolkata").unwrap().place(MONDAY).1, 5);
    assert_eq!(Zone::named("Mars/Base"), Err(UnknownZone("Mars/Base".to_owned())));
    assert_eq!(Zone::UTC.place(i64::MAX), (0, 0));
}

#[test]
fn without_history_there_is_no_silence() {
    let baseline = Baseline::new(Zone::UTC);
    assert_eq!(baseline.silence_at(Series::Events, MONDAY, 1e-4), None);
    assert_eq!(baseline.ln_silence(Series::Events, MONDAY, MONDAY + WEEK), 0.0);
    let mut young = Baseline::new(Zone::UTC);
    for week in 0..2 {
        young.observe(MONDAY + 9 * HOUR + week * WEEK, &delivered(5000), 0);
    }
    let last = MONDAY + 9 * HOUR + 2 * WEEK;
    assert_eq!(young.silence_at(Series::Events, last, 1e-4), None, "two weeks are not enough");
}

#[test]
fn a_gap_in_a_usual_hour_is_a_silence_and_a_gap_at_night_is_none() {
    let baseline = office(600);
    let last = MONDAY + 4 * WEEK + 10 * HOUR;
    let at = baseline.silence_at(Series::Events, last, 1e-4).unwrap();
    assert_eq!(at, last + SHORTEST_SILENCE, "ten mails a minute: the shortest silence is enough");
    let critical = baseline.silence_at(Series::Events, last, 1e-6).unwrap();
    assert!(critical >= at);
    assert!(baseline.ln_silence(Series::Events, last, critical) < 1e-6_f64.ln());

    // The last mail of the day comes at 17:59:30. The next hour that is usually active is 8 o'clock.
    let evening = MONDAY + 4 * WEEK + 18 * HOUR - 30_000_000;
    let at = baseline.silence_at(Series::Events, evening, 1e-4).unwrap();
    let morning = MONDAY + 4 * WEEK + 32 * HOUR;
    assert!((morning + 60_000_000..morning + 300_000_000).contains(&at), "{}", at - morning);
}

#[test]
fn the_moment_of_silence_is_where_the_probability_falls_below_the_threshold() {
    for number in [1, 7, 30, 4000] {
        let baseline = office(number);
        let last = MONDAY + 4 * WEEK + 10 * HOUR;
        let Some(at) = baseline.silence_at(Series::Events, last, 1e-4) else {
            panic!("{number} an hour");
        };
        assert!(baseline.ln_silence(Series::Events, last, at) <= 1e-4_f64.ln() + 1e-9);
        if at > last + SHORTEST_SILENCE {
            assert!(baseline.ln_silence(Series::Events, last, at - 1_000_000) > 1e-4_f64.ln());
        }
    }
}

#[test]
fn a_usual_gap_does_not_count() {
    let mut baseline = Baseline::new(Zone::UTC);
    for week in 0..4 {
        // A thousand mails in the first ten minutes, then nothing for 50.
        baseline.observe(MONDAY + 9 * HOUR + week * WEEK, &delivered(1000), 50 * 60_000_000);
    }
    let last = MONDAY + 4 * WEEK + 9 * HOUR;
    let at = baseline.silence_at(Series::Events, last, 1e-4).unwrap();
    assert!(at > last + 50 * 60_000_000, "{}", at - last);
}

#[test]
fn weeks_that_differ_make_the_rate_less_certain() {
    let baseline = |weeks: [i64; 4]| {
        let mut baseline = Baseline::new(Zone::UTC);
        for (week, number) in (0..).zip(weeks) {
            baseline.observe(MONDAY + 9 * HOUR + week * WEEK, &delivered(number), 0);
        }
        baseline.usual(Series::Events, MONDAY + 9 * HOUR + 4 * WEEK).unwrap()
    };
    let (steady, moody) = (baseline([100, 100, 100, 100]), baseline([10, 300, 5, 90]));
    assert!(steady.alpha > 4.0 * moody.alpha, "{steady:?} {moody:?}");
    assert!((steady.mean() - 100.0).abs() < 20.0, "{steady:?}");
}

#[test]
fn the_tail_is_that_of_a_negative_binomial_distribution() {
    // scipy.stats.nbinom.sf(k - 1, 3, 2 / (2 + 1))
    let gamma = Gamma { alpha: 3.0, beta: 2.0 };
    for (k, expected) in
        [(0, 1.0), (1, 0.703_703_703_7), (5, 0.045_267_489_7), (12, 0.000_082_166_5)]
    {
        let tail = gamma.tail(k);
        assert!((tail - expected).abs() < 1e-9, "{k}: {tail}");
    }
}

#[test]
fn complaints_are_compared_with_the_same_hour_of_seven_days() {
    let mut baseline = Baseline::new(Zone::UTC);
    for day in 0..7 {
        let counts = Counts::of([(Delivered, 900), (Complained, 2)]);
        baseline.observe(MONDAY + day * 24 * HOUR + 9 * HOUR, &counts, 0);
    }
    let at = MONDAY + WEEK + 9 * HOUR;
    let (gamma, sum) = baseline.usual_at_hour(Series::Complained, at).unwrap();
    assert_eq!(sum, 14);
    assert!((1.5..2.1).contains(&gamma.mean()), "{gamma:?}");
    assert!(gamma.tail(12) < 1e-4 && gamma.tail(5) > 1e-3, "{} {}", gamma.tail(12), gamma.tail(5));
    assert_eq!(baseline.usual_at_hour(Series::Complained, at - WEEK), None);
}

#[test]
fn the_usual_share_is_shrunk_to_that_of_the_scope() {
    let mut baseline = Baseline::new(Zone::UTC);
    for week in 0..4 {
        for hour in 0..24 {
            let counts = Counts::of([(Delivered, 90), (Deferred, 10)]);
            baseline.observe(MONDAY + week * WEEK + hour * HOUR, &counts, 0);
        }
    }
    let share = |at| baseline.usual_share(Series::Deferred, Series::Attempted, at).unwrap();
    assert!((share(MONDAY + 4 * WEEK) - 0.1).abs() < 1e-12);
    let other_hour = share(MONDAY + 4 * WEEK + 50 * HOUR);
    assert!((other_hour - 0.1).abs() < 1e-12, "{other_hour}");
    assert_eq!(office(1).usual_share(Series::Deferred, Series::Attempted, MONDAY), None);
}

#[test]
fn an_hour_that_is_read_again_changes_nothing_and_buckets_restore_a_baseline() {
    let mut baseline = office(50);
    assert_eq!(baseline.observe(MONDAY + 9 * HOUR, &delivered(9), 0), None);
    let json = |baseline: &Baseline| {
        let buckets: BTreeMap<u8, &Bucket> = baseline.buckets().collect();
        serde_json::to_string(&(buckets, baseline.engagement_history())).unwrap()
    };
    let stored = json(&baseline);
    let (buckets, engagement): (BTreeMap<u8, Bucket>, EngagementHistory) =
        serde_json::from_str(&stored).unwrap();
    let (mut restored, changed) = Baseline::restore(Zone::UTC, buckets, engagement);
    assert_eq!(changed, BTreeSet::new());
    assert_eq!(json(&restored), stored);
    let later = MONDAY + 4 * WEEK + 9 * HOUR;
    let usual = |of: &Baseline| {
        let share = of.usual_share(Series::Delivered, Series::Events, later);
        (of.usual(Series::Events, later), share, of.usual_at_hour(Series::Events, later))
    };
    assert_eq!(usual(&restored), usual(&baseline));
    assert!(usual(&baseline).1.is_some());
    let next = MONDAY + 4 * WEEK + 9 * HOUR;
    assert_eq!(restored.observe(next, &delivered(9), 0), Some(9));
    assert_eq!(baseline.observe(next, &delivered(9), 0), Some(9));
    assert_eq!(json(&restored), json(&baseline));
    assert_eq!(restored.observe(next, &delivered(9), 0), None);
}

#[test]
fn engagement_is_compared_with_the_same_weekday() {
    let mut baseline = Baseline::new(Zone::UTC);
    let mail = |engaged| Counts::of([(Delivered, 1000), (Engaged, engaged)]);
    for day in 0..28 {
        let engaged = if day % 7 == 1 { 300 } else { 100 };
        assert!(baseline.observe_cohort(MONDAY + (day * 24 + 9) * HOUR, &mail(engaged)));
    }
    let tuesday = MONDAY + 4 * WEEK + 24 * HOUR;
    assert!(baseline.observe_cohort(tuesday + 9 * HOUR, &mail(120)));
    assert!(!baseline.observe_cohort(tuesday + 9 * HOUR, &mail(120)));
    let (now, usual) = baseline.engagement(tuesday + 12 * HOUR).unwrap();
    assert_eq!((now.engaged, now.accepted), (120, 1000));
    assert_eq!((usual.engaged, usual.accepted), (1200, 4000));
    assert_eq!(Baseline::new(Zone::UTC).engagement(tuesday), None);
}

#[test]
fn with_another_zone_the_hours_move_to_where_they_belong() {
    let utc = office(600);
    let stored: BTreeMap<u8, Bucket> =
        utc.buckets().map(|(it, bucket)| (it, bucket.clone())).collect();
    let berlin = Zone::named("Europe/Berlin").unwrap();
    let (moved, changed) = Baseline::restore(berlin.clone(), stored, EngagementHistory::default());
    // 8 o'clock UTC is 9 o'clock in Berlin in winter, and 17 is 18.
    assert!(changed.contains(&8) && changed.contains(&18) && !changed.contains(&7));
    assert!(moved.bucket(8).is_none() && moved.bucket(18).is_some());
    let mut expected = Baseline::new(berlin.clone());
    for hour in (0..4 * 168).filter(|hour| (8..18).contains(&(hour % 24))) {
        expected.observe(MONDAY + hour * HOUR, &delivered(600), 60_000_000);
    }
    assert!(moved.buckets().eq(expected.buckets()));
    let stored: Vec<_> = moved.buckets().map(|(it, bucket)| (it, bucket.clone())).collect();
    let (_, changed) = Baseline::restore(berlin, stored, EngagementHistory::default());
    assert_eq!(changed, BTreeSet::new(), "the same zone changes nothing");
}

#[test]
fn a_baseline_expires_when_all_its_weeks_have_passed() {
    assert_eq!(Baseline::new(Zone::UTC).expires(), None);
    let mut baseline = office(1);
    let end = MONDAY + 4 * WEEK;
    let expires = baseline.expires().unwrap();
    assert!(expires > end + 4 * WEEK && expires < end + 5 * WEEK, "{}", expires - end);
    assert_eq!(baseline.usual(Series::Events, expires + 10 * HOUR), None);
    let mail = Counts::of([(Delivered, 9)]);
    assert!(baseline.observe_cohort(end + HOUR, &mail) && baseline.expires().unwrap() > expires);
    let bytes = baseline.estimated_bytes();
    assert!((10_000..40_000).contains(&bytes), "{bytes}");
}
