use super::*;
use crate::deliveries::Deliveries;

/// Returns a record of an earlier release: the number of a source, a second, deliveries and bounces.
fn counts(source: u8, second: i64, delivered: i64, bounced: i64) -> Input {
    Input::Delta(delta(&format!("source/ses/s{source}"), second, delivered, bounced))
}

#[test]
fn a_watermark_that_closes_no_window_is_restored() {
    let settings = settings(Vec::new());
    let mut run = Run::default();
    run.process_batch(&[Input::Watermark(0, 50, Activity::Active), counts(0, 55, 1, 0)], &settings);
    run.process_batch(&[Input::Watermark(1, 90, Activity::Active)], &settings);
    run.process_batch(&[Input::Watermark(0, 90, Activity::Active)], &settings);
    let published = run.rates.clone();
    assert!(!published.is_empty());
    run.restart(&settings);
    let later =
        [Input::Watermark(0, 91, Activity::Active), Input::Watermark(1, 91, Activity::Active)];
    run.process_batch(&later, &settings);
    assert_eq!(run.rates, published, "the windows that end at 60 were published twice");
}

#[test]
fn an_episode_resolves_at_once_if_its_rule_was_removed_with_the_restart() {
    let mut run = Run::default();
    let with_rule = settings(vec![rule("bounces")]);
    let start = [
        counts(0, 5, 1, 9),
        Input::Watermark(0, 10, Activity::Active),
        Input::Watermark(1, 10, Activity::Active),
    ];
    run.process_batch(&start, &with_rule);
    assert_eq!(run.alerts.len(), 1);
    let without = settings(Vec::new());
    run.restart(&without);
    run.process_batch(&[counts(0, 15, 1, 0)], &without);
    let states: Vec<_> = run.alerts.iter().map(|alert| alert.state.as_str()).collect();
    assert_eq!(states, ["firing", "resolved"]);
    run.restart(&without);
    run.process_batch(&[], &without);
    assert_eq!(run.alerts.len(), 2);
}

#[test]
fn a_source_has_a_limited_number_of_scopes_and_a_restart_forgets_none() {
    let settings = settings(Vec::new());
    let apply = |run: &mut Run, key: &str, second: i64| {
        let counts = Counts::of([(Delivered, 1)]);
        let pane = PaneStart::of(OccurredAt(second * SECOND));
        run.shard.apply(key, pane, None, &counts, &settings).unwrap()
    };
    let counted = DeltaOutcome::Counted(Counted::default());
    let other = Scope::parse("campaign/ses/acme/%28other%29").unwrap();
    let mut run = Run::default();
    assert_eq!(apply(&mut run, "campaign/ses/acme/a", 5), counted);
    assert_eq!(apply(&mut run, "mailbox/ses/acme/gmail", 5), counted);
    assert_eq!(apply(&mut run, "campaign/ses/acme/b", 5), DeltaOutcome::BelongsTo(other.clone()));
    assert_eq!(apply(&mut run, "campaign/ses/acme/a", 15), counted, "it is known");
    assert_eq!(apply(&mut run, &other.key(), 5), counted, "the rest is always counted");
    assert_eq!(apply(&mut run, "source/ses/acme", 5), counted, "sources are not limited");
    assert_eq!(apply(&mut run, "campaign/ses/bolt/b", 5), counted, "another source");
    run.process_batch(&[], &settings);
    run.restart(&settings);
    assert_eq!(apply(&mut run, "campaign/ses/acme/b", 5), DeltaOutcome::BelongsTo(other));
    let later = [99_000, 99_001].map(|second| {
        [0, 1].map(|partition| Input::Watermark(partition, second, Activity::Active))
    });
    run.process_batch(later.as_flattened(), &settings);
    assert_eq!(
        run.shard.len(),
        1,
        "the scopes have expired, and of the source its history is left"
    );
    assert_eq!(run.shard.sources(), BTreeMap::new(), "it is no source that sends");
    assert_eq!(apply(&mut run, "campaign/ses/acme/b", 99_000), counted, "there is room again");
}

#[test]
fn a_late_delta_counts_as_late_once_for_each_ring_and_leaves_no_state() {
    const DAY: i64 = 86_400;
    let settings = settings(Vec::new());
    let mut run = Run::default();
    let now = 20 * DAY;
    run.process_batch(
        &[0, 1].map(|partition| Input::Watermark(partition, now, Activity::Active)),
        &settings,
    );
    let before = run.changelog.clone();
    run.process_batch(&[counts(0, now - 9 * DAY, 2, 1)], &settings);
    assert_eq!((run.late, run.shard.len()), ([3, 3, 3], 0));
    let keys =
        |changelog: &BTreeMap<String, Vec<u8>>| changelog.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&run.changelog), keys(&before));
    run.process_batch(&[counts(0, now - 2 * DAY, 2, 1)], &settings);
    assert_eq!((run.late, run.shard.len()), ([6, 6, 3], 1));
    run.process_batch(&[counts(0, now - 7_200, 2, 1)], &settings);
    assert_eq!(run.late, [9, 6, 3]);
    run.process_batch(&[counts(0, now - 4_200, 2, 1)], &settings);
    assert_eq!(run.late, [9, 6, 3], "the ring has the pane for 70 minutes");
}

#[test]
fn a_source_without_deliveries_has_no_rates_and_no_alerts_in_any_shard() {
    let settings = settings(vec![rule("bounces")]);
    let mut run = Run::default();
    let to = |second| [0, 1].map(|partition| Input::Watermark(partition, second, Activity::Active));
    run.process_batch(&[counts(0, 5, 0, 9)], &settings);
    run.process_batch(&to(20), &settings);
    assert!(run.alerts.is_empty() && run.rates.len() == 4 + 1);
    assert!(run.rates.iter().all(|rate| rate.window.rates.bounce.is_none()));
    assert_eq!(run.shard.sources_without_deliveries(), 1);
    assert_eq!(run.shard.take_unlogged().len(), 1);

    // Another shard counts a delivery, and fold tells all shards.
    let deliveries = [("source/ses/s0".to_owned(), HourStart::of(OccurredAt(0)))];
    run.shard.receive_deliveries(&Deliveries(deliveries.into()));
    run.process_batch(&[counts(0, 25, 0, 9)], &settings);
    run.restart(&settings);
    run.process_batch(&to(30), &settings);
    assert_eq!(run.alerts.len(), 1);
    assert_eq!(run.rates.last().unwrap().window.rates.bounce, Some(1.0));
    assert_eq!((run.shard.sources_without_deliveries(), run.shard.take_unlogged().len()), (0, 0));
    // The hour of the delivery ended 24 hours ago.
    let day = 25 * 3600;
    run.process_batch(&to(day - 100), &settings);
    run.alerts.clear();
    run.process_batch(&[counts(0, day - 5, 0, 9)], &settings);
    run.process_batch(&to(day), &settings);
    assert_eq!(run.alerts.len(), 1, "just in time");
    run.process_batch(&[counts(0, day + 5, 0, 9)], &settings);
    run.process_batch(&to(day + 10), &settings);
    run.process_batch(&to(day + 80), &settings);
    let states: Vec<_> = run.alerts.iter().map(|alert| alert.state.as_str()).collect();
    assert_eq!(states, ["firing"], "it stays open");
    assert_eq!(run.shard.sources_without_deliveries(), 1);
}

#[test]
fn if_the_memory_is_full_new_scopes_have_a_common_rate() {
    let full = ShardSettings { memory_is_full: true, ..settings(Vec::new()) };
    let mut shard = Shard::default();
    let mut apply = |key: &str| {
        let pane = PaneStart::of(OccurredAt(0));
        let counts = Counts::of([(Delivered, 1)]);
        shard.apply(key, pane, None, &counts, &full).unwrap()
    };
    let counted = DeltaOutcome::Counted(Counted::default());
    let other = |key| DeltaOutcome::BelongsTo(Scope::parse(key).unwrap());
    assert_eq!(apply("source/ses/acme"), counted);
    assert_eq!(apply("tenant/acme"), counted, "the first of its kind");
    assert_eq!(apply("tenant/globex"), other("tenant/%28other%29"));
    // Only a source, or a kind of tenants, with more scopes than the average is limited.
    assert_eq!(apply("tenant/%28other%29"), counted);
    assert_eq!(apply("ip/ses/acme/192.0.2.1"), counted);
    assert_eq!(apply("tenant/initech"), other("tenant/%28other%29"));
    let bytes = shard.bytes();
    assert!((4 * 2048..4 * 2600).contains(&bytes), "{bytes}");
}

/// The changelogs of running installations contain these records.
#[test]
fn the_changelog_of_an_earlier_release_can_be_read() {
    let records = [
        (
            "pane/0/source/ses/s0",
            r#"{"start":0,"corrections":2,"counts":{"accepted":9,"delivered":3,"bounced_hard":6}}"#,
        ),
        (
            "episodes/source/ses/s0",
            r#"{"bounces":{"severity":"critical","started_at":10000000,"reading":{"width":"1m","part":6,"volume":9},"held_at":10000000,"metric":"bounce","threshold":0.4,"runbook":""}}"#,
        ),
        (
            "mark",
            r#"{"commits":3,"clock":{"heard":{"0":{"watermark":15000000,"presence":"busy"},"1":{"watermark":15000000,"presence":"busy"}},"now":15000000}}"#,
        ),
    ];
    let settings = settings(vec![rule("bounces")]);
    let changelog = records.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
    let mut run = Run { changelog: changelog.into(), ..Run::default() };
    let mut restore = ShardRestore::default();
    for (key, value) in &run.changelog {
        restore.apply(key.as_bytes(), Some(value)).unwrap();
    }
    assert_eq!(restore.commits(), 3);
    run.shard = restore.finish(&settings).unwrap();
    run.process_batch(&[counts(0, 16, 9, 0)], &settings);
    let to = |second| [0, 1].map(|partition| Input::Watermark(partition, second, Activity::Active));
    run.process_batch(&to(20), &settings);
    let minute = run.rates.iter().find(|rate| rate.window.width == Width::M1).unwrap();
    assert_eq!((minute.window.revision, minute.window.counts[Delivered]), (2, 12));
    assert_eq!(minute.window.rates.bounce, Some(6.0 / 18.0));
    run.process_batch(&to(200), &settings);
    let states: Vec<_> = run.alerts.iter().map(|alert| alert.state.as_str()).collect();
    assert_eq!(states, ["resolved"]);
    assert_eq!(run.alerts[0].started_at, 10_000_000);
}
