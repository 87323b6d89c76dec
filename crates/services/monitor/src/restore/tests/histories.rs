//! What is usual, and silence: they depend on the log alone.

use alerting::AlertState;
use event::Counter::{Clicked, Complained, Deferred, DeliveredFbl, Engaged};
use proptest::test_runner::TestCaseError;

use super::*;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
/// Monday, 1970-01-05, 9:00 UTC, in seconds.
const MONDAY_9: i64 = 4 * DAY + 9 * HOUR;
const SOURCE: &str = "source/ses/s0";
const GMAIL: &str = "mailbox/ses/s0/gmail";

/// Returns a rule of each kind that is judged by what is usual, easily broken.
fn rules_about_history() -> Vec<Rule> {
    let quickly = json!({"warning": "0s", "critical": "0s", "page": "0s"});
    let rules = [
        json!({
            "name": "silence", "metric": "gap", "basis": "gap", "test": "gap", "windows": ["gap"],
            "direction": "under", "warning": 0.2, "critical": 0.01, "hold": quickly,
            "resolve": {"below": 1.0, "for": "5m"},
        }),
        json!({
            "name": "burst", "metric": "complaint", "windows": ["60m"], "test": "burst",
            "warning": 1.1, "critical": 2.0, "confidence": 0.5, "min_count": 1, "hold": quickly,
            "baseline": {"same": "hour_of_day", "over": "168h"},
            "resolve": {"below": 1.0, "for": "2m"},
        }),
        json!({
            "name": "missing", "metric": "deliveries_missing", "windows": ["15m"], "test": "missing",
            "critical": 0.05, "confidence": 0.5, "min_volume": 1, "hold": quickly,
            "resolve": {"below": 1.0, "for": "2m"},
        }),
        json!({
            "name": "foldering", "metric": "engagement", "basis": "cohort", "windows": ["2h-26h"],
            "direction": "under", "warning": 0.9, "min_volume": 5, "confidence": 0.5, "hold": quickly,
            "baseline": {"same": "weekday", "over": "672h"},
            "resolve": {"below": 1.0, "for": "2m"},
        }),
        json!({
            "name": "deferrals", "metric": "deferral", "windows": ["30m"], "warning": 0.9,
            "min_volume": 5, "confidence": 0.5, "hold": quickly,
            "baseline": {
                "same": "hour_of_week", "over": "672h", "factor": 1.2, "at_least": 0.01,
            },
            "resolve": {"below": 1.0, "for": "2m"},
        }),
    ];
    rules.into_iter().map(|rule| serde_json::from_value(rule).unwrap()).collect()
}

fn to(second: i64) -> Vec<Input> {
    (0..2).map(|partition| Input::Watermark(partition, second, Activity::Active)).collect()
}

pub(super) fn commit(deltas: Vec<KeyedDelta>) -> Input {
    Input::Part(CommitPart { from: 0, parts: 1, deltas, ..CommitPart::default() })
}

/// Returns the same hour of `weeks` weeks: a delivery every minute, and time that passes every minute.
fn usual_weeks(scope: &str, weeks: i64) -> Vec<Input> {
    (0..weeks).flat_map(|week| office_hour(scope, MONDAY_9 + week * WEEK, 60)).collect()
}

/// Returns deliveries in every minute of the first ones of an hour, and the time until 70 minutes after it began.
fn office_hour(scope: &str, start: i64, minutes: i64) -> Vec<Input> {
    let minute = |minute: i64| {
        let at = start + minute * 60;
        let sent = (minute < minutes).then(|| commit(vec![delta(scope, at + 5, 1, 0)]));
        sent.into_iter().chain(to(at + 60)).collect::<Vec<_>>()
    };
    (0..70).flat_map(minute).collect()
}

fn transitions<'r>(run: &'r Run, rule: &str) -> Vec<(i64, AlertState, &'r str)> {
    let alerts = run.alerts.iter().filter(|alert| alert.rule == rule);
    alerts.map(|it| (it.at / SECOND, it.state, it.summary.as_str())).collect()
}

#[test]
fn silence_is_found_without_an_event_however_the_log_is_read() {
    let settings = settings(rules_about_history());
    let mut log = usual_weeks(SOURCE, 4);
    let monday = MONDAY_9 + 4 * WEEK;
    log.extend(office_hour(SOURCE, monday, 20));
    log.extend(office_hour(SOURCE, monday + HOUR + 600, 20));
    let mut runs = Vec::new();
    for size in [1, 7, 4000] {
        let mut run = Run::default();
        for records in log.chunks(size) {
            run.process_batch(records, &settings);
        }
        runs.push(transitions(&run, "silence").iter().map(|it| (it.0, it.1)).collect::<Vec<_>>());
    }
    let (at, state) = runs[0][0];
    let last = monday + 19 * 60 + 10;
    assert_eq!(state, AlertState::Firing);
    assert!((last + 300..last + 400).contains(&at), "{} s after the last event", at - last);
    let firing = runs[0].iter().filter(|(_, state)| *state == AlertState::Firing).count();
    assert!(firing <= 2, "once, and at most a higher severity: {:?}", runs[0]);
    assert_eq!(runs[0].last().unwrap().1, AlertState::Resolved);
    assert_eq!((&runs[1], &runs[2]), (&runs[0], &runs[0]));
}

#[test]
fn a_source_without_history_is_never_silent() {
    let settings = settings(rules_about_history());
    let mut run = Run::default();
    for (week, minutes) in [(0, 60), (1, 60), (2, 20)] {
        let hour = office_hour(SOURCE, MONDAY_9 + week * WEEK, minutes);
        run.process_batch(&hour, &settings);
    }
    assert_eq!(transitions(&run, "silence"), [], "two weeks are not enough");
}

#[test]
fn a_stopped_clock_is_no_silence() {
    let settings = settings(rules_about_history());
    let mut run = Run::default();
    run.process_batch(&usual_weeks(SOURCE, 4), &settings);
    let monday = MONDAY_9 + 4 * WEEK;
    run.process_batch(&office_hour(SOURCE, monday, 20)[..60], &settings);
    // Partition 1 of the events is not read any more: time does not pass, although partition 0 has none either.
    let one = [Input::Watermark(0, monday + HOUR, Activity::Active)];
    run.process_batch(&one, &settings);
    assert_eq!(transitions(&run, "silence"), []);
    run.process_batch(&[Input::Watermark(1, monday + HOUR, Activity::Active)], &settings);
    assert_ne!(transitions(&run, "silence"), [], "time has passed");
}

#[test]
fn the_last_event_outlives_the_windows() {
    let settings = settings(rules_about_history());
    let mut run = Run::default();
    run.process_batch(&usual_weeks(SOURCE, 4), &settings);
    let monday = MONDAY_9 + 4 * WEEK;
    // Nothing comes after the hour of the last week; its windows have been empty for days.
    let silent: Vec<_> = (0..20).flat_map(|minute| to(monday + minute * 60)).collect();
    run.process_batch(&to(monday - DAY), &settings);
    run.restart(&settings);
    run.process_batch(&silent, &settings);
    let found = transitions(&run, "silence");
    assert_eq!(found[0].1, AlertState::Firing);
    assert!(found[0].2.contains("no events for 167 h"), "{found:?}");
}

#[test]
fn an_hour_is_in_the_changelog_five_minutes_after_its_end_and_only_then() {
    let settings = settings(rules_about_history());
    let mut run = Run::default();
    let start = 20 * DAY;
    run.process_batch(&to(start), &settings);
    let events = [SOURCE, GMAIL].map(|scope| delta(scope, start + 60, 19, 1)).to_vec();
    run.process_batch(&[commit(events)], &settings);
    run.process_batch(&[commit(vec![delta(SOURCE, start + 1800, 1, 0)])], &settings);
    let baselines = |run: &Run| {
        let records = run.changelog.iter().filter(|(key, _)| key.starts_with("baseline/"));
        let text =
            |(key, value): (&String, &Vec<u8>)| format!("{key} {}", String::from_utf8_lossy(value));
        records.map(text).collect::<Vec<_>>()
    };
    run.process_batch(&to(start + HOUR + 299), &settings);
    assert_eq!(baselines(&run), [""; 0]);
    run.process_batch(&[commit(vec![delta(SOURCE, start + 3590, 1, 0)])], &settings);
    run.process_batch(&to(start + HOUR + 300), &settings);
    run.process_batch(&[commit(vec![delta(SOURCE, start + 3595, 1, 0)])], &settings);
    run.process_batch(&to(start + 9 * HOUR), &settings);
    // Wednesday, 0 o'clock; the longest time without an event was from 1800 to 3600 s, from pane to pane.
    assert_eq!(
        baselines(&run),
        [
            r#"baseline/48/mailbox/ses/s0/gmail [{"w":2,"h":480,"c":[20,19,1,0,0,0,0,20],"g":3530}]"#,
            r#"baseline/48/source/ses/s0 [{"w":2,"h":480,"c":[22,21,1,0,0,0,0,22],"g":1790}]"#,
        ]
    );
}

#[test]
fn a_mailbox_provider_with_few_events_has_no_history() {
    let settings = settings(Vec::new());
    let mut run = Run::default();
    let start = 20 * DAY;
    run.process_batch(&to(start), &settings);
    run.process_batch(&[commit(vec![delta(GMAIL, start + 60, 19, 0)])], &settings);
    run.process_batch(&to(start + 2 * HOUR), &settings);
    assert!(!run.changelog.keys().any(|key| key.starts_with("baseline/")));
    let bytes = run.shard.bytes();
    run.process_batch(&[commit(vec![delta(GMAIL, start + 2 * HOUR + 60, 20, 0)])], &settings);
    run.process_batch(&to(start + 4 * HOUR), &settings);
    assert!(run.changelog.contains_key("baseline/50/mailbox/ses/s0/gmail"));
    assert!(run.shard.bytes() > bytes + 300, "its memory is counted");
}

#[test]
fn the_hours_of_a_source_are_those_of_its_zone() {
    let mut settings = settings(Vec::new());
    let zone = alerting::Zone::named("Europe/Berlin").unwrap();
    settings.zones.insert(event::Provider::Ses, "s0".to_owned(), zone);
    let mut run = Run::default();
    run.process_batch(&to(MONDAY_9), &settings);
    let other = delta("source/ses/s1", MONDAY_9 + 60, 1, 0);
    run.process_batch(&[commit(vec![delta(SOURCE, MONDAY_9 + 60, 1, 0), other])], &settings);
    run.process_batch(&to(MONDAY_9 + 2 * HOUR), &settings);
    let has = |run: &Run, key: &str| run.changelog.contains_key(key);
    assert!(has(&run, "baseline/10/source/ses/s0") && has(&run, "baseline/9/source/ses/s1"));
    // Another zone puts the hours where they belong, in the changelog as well.
    let utc = super::settings(Vec::new());
    run.restart(&utc);
    run.process_batch(&[], &utc);
    assert!(has(&run, "baseline/9/source/ses/s0") && !has(&run, "baseline/10/source/ses/s0"));
}

/// Returns what happens in one minute of one of three hours of a week, as a commit and the time after it.
fn moment() -> impl Strategy<Value = (i64, Vec<Input>)> {
    let counts = (0..40_i64, 0..4_i64, 0..20_i64, 0..6_i64).prop_flat_map(
        |(delivered, bounced, opened, complained)| {
            (0..8_i64, 0..2_i64, any::<bool>()).prop_map(move |(deferred, clicked, delivers)| {
                Counts::of([
                    (Delivered, if delivers { 8 * delivered } else { 0 }),
                    (DeliveredFbl, if delivers { 4 * delivered } else { 0 }),
                    (BouncedHard, bounced),
                    (Opened, opened),
                    (Engaged, opened),
                    (Clicked, clicked),
                    (Complained, complained),
                    (Deferred, deferred),
                ])
            })
        },
    );
    let hours = prop::sample::select(&[0, 1, 24][..]);
    let late = prop_oneof![3 => Just(0), 1 => 0..2 * HOUR];
    (0..6_i64, hours, 0..60_i64, late, counts, any::<bool>(), 0..4_u8).prop_map(
        |(week, hour, minute, late, counts, both, lags)| {
            let at = MONDAY_9 + week * WEEK + hour * HOUR + minute * 60;
            let scopes = [SOURCE, GMAIL].into_iter().skip(usize::from(!both));
            let deltas = scopes.map(|scope| keyed(scope, at - late, at - late, counts)).collect();
            let mut inputs = vec![commit(deltas)];
            inputs.extend(to(if lags == 0 { at - 100 } else { at }));
            (at, inputs)
        },
    )
}

/// Returns moments of six weeks in their order, and time that passes between them.
fn weeks() -> impl Strategy<Value = Vec<Input>> {
    let ticks = prop::collection::vec(prop::sample::select(&[310, 600, 4000, 11_000][..]), 0..4);
    prop::collection::vec((moment(), ticks), 20..90).prop_map(|mut moments| {
        moments.sort_by_key(|((at, _), _)| *at);
        let with_ticks = |((at, inputs), ticks): ((i64, Vec<Input>), Vec<i64>)| {
            let ticks = ticks.into_iter().flat_map(move |after| to(at + after));
            inputs.into_iter().chain(ticks).collect::<Vec<_>>()
        };
        moments.into_iter().flat_map(with_ticks).collect()
    })
}

/// Two runs have published the same alerts.
fn same(one: &Run, other: &Run, what: &str) -> Result<(), TestCaseError> {
    let ((_, alerts), (_, others)) = (one.published(), other.published());
    if let Some(first) = alerts.iter().zip(&others).position(|(one, other)| one != other) {
        prop_assert_eq!(alerts[first], others[first], "{}", what);
    }
    prop_assert_eq!(alerts.len(), others.len(), "{:?}", alerts.last());
    Ok(())
}

/// Returns the changelog records that only one of two runs has.
fn difference(one: &Run, other: &Run) -> Vec<String> {
    let text =
        |(key, value): (&String, &Vec<u8>)| format!("{key} {}", String::from_utf8_lossy(value));
    let lacks = |run: &Run, key: &String, value: &Vec<u8>| run.changelog.get(key) != Some(value);
    let of = |a: &Run, b: &Run| {
        let all = a.changelog.iter().filter(|(key, value)| lacks(b, key, value));
        all.map(text).collect::<Vec<_>>()
    };
    [of(one, other), of(other, one)].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Neither restarts nor the sizes of batches change what is usual, or what is judged by it.
    #[test]
    fn histories_do_not_depend_on_restarts_or_batches(
        log in weeks(),
        sizes in prop::collection::vec((1..20_usize, any::<bool>()), 1..40),
    ) {
        let settings = ShardSettings {
            publish: Publish::Changes, scopes_per_source: 9, ..settings(rules_about_history())
        };
        let ends = [60, 61, 100, 101, 102, 120].map(|days| to(MONDAY_9 + days * DAY)).concat();
        let log = [log, ends].concat();
        let (mut steady, mut crashing, mut single) = (Run::default(), Run::default(), Run::default());
        for record in log.chunks(1) {
            single.process_batch(record, &settings);
        }
        let mut rest = &log[..];
        for (size, crashes) in sizes.into_iter().cycle() {
            let (batch, after) = rest.split_at(size.min(rest.len()));
            steady.process_batch(batch, &settings);
            crashing.process_batch(batch, &settings);
            same(&steady, &crashing, "restart")?;
            prop_assert_eq!(steady.published(), crashing.published());
            prop_assert_eq!(difference(&steady, &crashing), [""; 0]);
            if crashes {
                crashing.restart(&settings);
            }
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        same(&steady, &single, "batches")?;
        prop_assert_eq!(steady.shard.len(), 0, "{:?}", steady.changelog.keys());
        let left = steady.changelog.keys().filter(|key| !key.starts_with("deliveries/"));
        prop_assert_eq!(left.collect::<Vec<_>>(), ["mark"]);
    }
}
