//! Simulates a day of ordinary mail, from the counts of events to the published windows.

use std::collections::BTreeMap;
use std::convert::Infallible;

use alerting::RuleSet;
use event::{Counter, CounterSet, Kind, OccurredAt};
use serde_json::json;
use window::{Counts, ScopeKind, ScopeRate, Width};

use crate::batch_counts::{BatchCounts, ScopeCounts};
use crate::clock::ClockSettings;
use crate::history::Zones;
use crate::rated_event::RatedEvent;
use crate::settings::Publish;
use crate::shard::{Shard, ShardSettings, Transitions};
use crate::watermarks::{Activity, PartitionProgress, Watermarks};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;
const MESSAGES: i64 = 15_000;
/// The time in which a batch is collected.
const BATCH: i64 = 12 * SECOND;

/// An event: when it arrives, when it happened, when its message was sent, and what it counts for.
type Arrival = (i64, i64, i64, CounterSet);

/// Returns the events of a day in the order of arrival. Most messages are sent during the day, and people
/// read some of them in the hours after that. A webhook arrives up to 40 seconds after its event.
fn events() -> Vec<Arrival> {
    let mut random = Random(7);
    let mut events = Vec::new();
    for _ in 0..MESSAGES {
        let sent = (random.up_to(DAY) + random.up_to(DAY)) / 2;
        let mut add = |at: i64, counters: &[Counter], random: &mut Random| {
            let counters = counters.iter().copied().collect();
            events.push((at + random.up_to(40 * SECOND), at, sent, counters));
        };
        add(sent, &[Counter::Injected], &mut random);
        let arrived = sent + random.up_to(20 * SECOND);
        match random.up_to(100) {
            0 => add(arrived, &[Counter::BouncedSoft], &mut random),
            1 => add(arrived, &[Counter::Deferred, Counter::Deferrals], &mut random),
            _ => add(arrived, &[Counter::Delivered], &mut random),
        }
        for (share, counters) in [
            (30, &[Counter::MachineOpened][..]),
            (35, &[Counter::Opened, Counter::Engaged]),
            (4, &[Counter::Clicked]),
        ] {
            if random.up_to(100) < share {
                add(arrived + random.up_to(12 * HOUR), counters, &mut random);
            }
        }
    }
    events.sort_unstable_by_key(|(arrives, ..)| *arrives);
    events.retain(|(arrives, ..)| *arrives < DAY);
    events
}

/// Passes the events through fold and rate in batches. Returns the published windows.
fn publish(events: &[Arrival], publish: Publish) -> Vec<ScopeRate> {
    let clock = ClockSettings { event_partitions: 1, slack: 0, out_of_orderness: 5 * SECOND };
    let settings = ShardSettings {
        rules: RuleSet::defaults(),
        publish,
        clock,
        zones: Zones::default(),
        scopes_per_source: 10_000,
        memory_is_full: false,
    };
    let mut batch = BatchCounts::new(vec![ScopeKind::Source]);
    let (mut shard, mut transitions) = (Shard::default(), Transitions::default());
    let mut newest = 0;
    for events in events.chunk_by(|a, b| a.0 / BATCH == b.0 / BATCH) {
        for &(_, at, sent, counters) in events {
            let json = json!({
                "kind": Kind::Other, "provider": "ses",
                "source": "acme", "occurred_at": at, "received_at": at,
            })
            .to_string();
            let event = RatedEvent::read(json.as_bytes()).unwrap();
            batch.add(&event, counters, Some(OccurredAt(sent)), None);
            newest = newest.max(at);
        }
        let drained = batch.drain(|ScopeCounts { key, pane, cohort, counts, .. }| {
            let _ = shard.apply(key, pane, cohort, &counts, &settings).unwrap();
            Ok::<(), Infallible>(())
        });
        assert_eq!(drained, Ok(()));
        let watermark = Some(newest - 5 * SECOND);
        let progress = PartitionProgress { watermark, activity: Activity::Active };
        shard.receive(&Watermarks([(0, progress)].into()), &settings, &mut transitions);
        shard.advance_due(&settings, &mut transitions);
        shard.changelog_records().unwrap();
    }
    // The day is over, and an hour later everything that had to wait is published.
    let progress = PartitionProgress { watermark: Some(DAY + HOUR), activity: Activity::Active };
    shard.receive(&Watermarks([(0, progress)].into()), &settings, &mut transitions);
    assert_eq!(transitions.alerts.len(), 0);
    transitions.windows.into_iter().map(|(_, rate)| rate).collect()
}

/// Sums the last revisions of the windows of a width.
fn total(rates: &[ScopeRate], width: Width) -> Counts {
    let mut last = BTreeMap::new();
    for ScopeRate { scope, window } in rates {
        let is_full = width == Width::Cohort || window.end % width.micros() == 0;
        if scope.kind() == ScopeKind::Source && window.width == width && is_full {
            last.insert((scope.clone(), window.end), window.counts);
        }
    }
    last.values().fold(Counts::default(), |sum, counts| sum + *counts)
}

#[test]
fn a_day_of_ordinary_mail_has_few_rows_and_their_sums_are_its_counts() {
    let events = events();
    let mut expected = Counts::default();
    events.iter().for_each(|(.., counters)| expected.add_each(*counters));
    let rates = publish(&events, Publish::Changes);
    let rows_per_event = rates.len() as f64 / events.len() as f64;
    assert!(rows_per_event < 0.2, "{} rows of {} events", rates.len(), events.len());
    for width in [Width::M1, Width::M60, Width::H24, Width::Cohort] {
        assert_eq!(total(&rates, width), expected, "{width}");
    }
    assert!(rates.iter().all(|rate| rate.scope.kind() == ScopeKind::Source), "no alert is open");
}

#[test]
fn if_everything_is_published_full_minutes_are_there_too() {
    let events: Vec<_> = events().into_iter().step_by(40).collect();
    let mut expected = Counts::default();
    events.iter().for_each(|(.., counters)| expected.add_each(*counters));
    let rates = publish(&events, Publish::All);
    for width in [Width::M1, Width::M60, Width::H24, Width::Cohort] {
        assert_eq!(total(&rates, width), expected, "{width}");
    }
    let (rows, events) = (rates.len(), events.len());
    assert!(rows > 2 * events, "{rows} rows of {events} events");
}

/// The same random numbers in every run (splitmix64).
struct Random(u64);

impl Random {
    fn up_to(&mut self, end: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 1).cast_signed() % end
    }
}
