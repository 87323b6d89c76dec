//! Topics of one test, members that run on them, and what the members publish.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use event::Kind;
use harness::{Cluster, DEADLINE, Launch, Outgoing, Reader, Record, Service, layout, records};
use record::names;
use serde_json::Value;

use crate::campaign::{MINUTE, TestEvent};
use crate::offline::{
    CRITICAL, Counts, Expected, MIN_VOLUME, THRESHOLD, Transition, rate_is_right,
};

const EVENT_PARTITIONS: i32 = 6;
const SCOPE_PARTITIONS: i32 = 3;
/// A number of keys with which every partition gets at least one.
const EVERY_PARTITION: usize = 64;
/// The source of events that only let event time advance.
const TICKS: &str = "ticks";
/// The beginning of the keys of end marks.
const END_MARK: &str = "end-mark";

pub struct Stage {
    cluster: Cluster,
}

impl Stage {
    pub fn new(name: &str) -> Self {
        let layout = layout(EVENT_PARTITIONS, SCOPE_PARTITIONS);
        Self { cluster: Cluster::new(&format!("monitor-{name}"), layout) }
    }

    /// Starts a member that has this name.
    pub fn member(&self, instance: &str) -> Service {
        Launch::new("monitor", env!("CARGO_BIN_EXE_monitor"), &self.cluster)
            .config(&settings())
            .instance(instance)
            .start()
    }

    /// Starts a member that keeps this number of scopes per source.
    pub fn limited_member(&self, instance: &str, scopes: usize) -> Service {
        Launch::new("monitor", env!("CARGO_BIN_EXE_monitor"), &self.cluster)
            .config(&settings())
            .env("MAILPULSE__MONITOR__MAX_SCOPES_PER_SOURCE", &scopes.to_string())
            .instance(instance)
            .start()
    }

    /// Publishes events as dedupe does, in this order in each partition.
    pub fn publish(&self, events: &[TestEvent]) {
        self.publish_with(events, &[]);
    }

    /// Publishes events once more, as a redrive of archive's dead letters does.
    pub fn publish_redriven_for_archive(&self, events: &[TestEvent]) {
        self.publish_with(events, &[(names::REDRIVEN, b"archive")]);
    }

    fn publish_with(&self, events: &[TestEvent], further: &[(&str, &[u8])]) {
        let record = |(number, event): (usize, &TestEvent)| {
            let headers = (event.id(number), event.kind, event.at);
            let (topics, value) = (&self.cluster.topics, event.json(number));
            let record = records::event(topics, &event.recipient, value, headers, event.first);
            let tally = event.headers();
            let tally = tally.iter().map(|(name, value)| (*name, value.as_bytes()));
            record.headers(&tally.collect::<Vec<_>>()).headers(further)
        };
        let records: Vec<Outgoing> = events.iter().enumerate().map(record).collect();
        self.cluster.produce(&records);
    }

    /// Returns a reader of everything that is published.
    pub fn published(&self) -> Published<'_> {
        let topics = &self.cluster.topics;
        let reader = self.cluster.reader(&[&topics.rates, &topics.alerts]);
        Published { stage: self, reader, rates: Vec::new(), alerts: Vec::new(), end_marks: 0 }
    }

    /// Lets event time advance until every window has closed. Then asserts that all that was
    /// published, at the end and before it, is what is expected, and each only once.
    pub fn assert_published(&self, expected: &Expected) {
        let end = expected.rates.keys().map(|(_, _, end)| *end).max().unwrap() + MINUTE;
        self.publish_ticks(end);
        let mut published = self.published();
        published.await_rates(expected.rates.len());
        self.publish_end_marks();
        published.await_end_marks();
        published.assert(expected);
    }

    /// Lets event time advance to `until` in every partition.
    pub fn publish_ticks(&self, until: i64) {
        let tick = |n| TestEvent {
            at: until,
            ..TestEvent::new(TICKS, Kind::Delivered, format!("tick{n}@example.com"))
        };
        self.publish(&(0..EVERY_PARTITION).map(tick).collect::<Vec<_>>());
    }

    /// Publishes end marks to every partition of the outputs. A reader that has seen them has seen
    /// everything before them, including what was behind the transaction of a killed member.
    fn publish_end_marks(&self) {
        let topics = [&self.cluster.topics.rates, &self.cluster.topics.alerts];
        let marks = topics.into_iter().flat_map(|topic| {
            (0..EVERY_PARTITION).map(move |n| Outgoing::new(topic, format!("{END_MARK}{n}"), "{}"))
        });
        self.cluster.produce(&marks.collect::<Vec<_>>());
    }
}

/// Published rates and alerts, in the order in which they were read.
pub struct Published<'s> {
    stage: &'s Stage,
    reader: Reader,
    rates: Vec<(String, Value)>,
    alerts: Vec<(String, Value)>,
    end_marks: usize,
}

impl Published<'_> {
    /// Waits until `count` different windows have been published.
    pub fn await_rates(&mut self, count: usize) {
        let mut windows = BTreeSet::new();
        let mut looked_at = 0;
        self.read_until(&format!("{count} windows"), |published| {
            for (scope, rate) in &published.rates[looked_at..] {
                windows.insert((scope.clone(), rate["width"].to_string(), rate["end"].as_i64()));
            }
            looked_at = published.rates.len();
            windows.len() >= count
        });
    }

    /// Waits until a window has been published.
    pub fn await_window(&mut self, scope: &str, width: &str, end: i64) {
        self.read_until(&format!("the window of {width} that ends at {end}"), |published| {
            let mut rates = published.rates.iter();
            rates.any(|(of, rate)| of == scope && rate["width"] == width && rate["end"] == end)
        });
    }

    /// Waits until the newest windows of this kind of scope and this width have `count` deliveries in
    /// all, and returns those of each scope.
    pub fn await_delivered(
        &mut self,
        kind: &str,
        width: &str,
        count: u64,
    ) -> BTreeMap<String, u64> {
        let mut delivered = BTreeMap::new();
        self.read_until(&format!("{count} deliveries"), |published| {
            let rates = published.rates.iter();
            let rates = rates.filter(|(_, rate)| rate["scope"] == kind && rate["width"] == width);
            delivered = rates
                .map(|(scope, rate)| {
                    (scope.clone(), rate["counts"]["delivered"].as_u64().unwrap_or(0))
                })
                .collect();
            delivered.values().sum::<u64>() == count
        });
        delivered
    }

    /// Waits until `count` alerts have been published, and returns all.
    pub fn await_alerts(&mut self, count: usize) -> Vec<Value> {
        self.read_until(&format!("{count} alerts"), |published| published.alerts.len() >= count);
        self.alerts.iter().map(|(_, alert)| alert.clone()).collect()
    }

    fn await_end_marks(&mut self) {
        self.read_until("the end marks", |read| read.end_marks == 2 * EVERY_PARTITION);
    }

    fn read_until(&mut self, what: &str, mut is_reached: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !is_reached(self) {
            assert!(
                start.elapsed() < DEADLINE,
                "waited {DEADLINE:?} for {what}; there are {} rates and {} alerts",
                self.rates.len(),
                self.alerts.len()
            );
            if let Some(record) = self.reader.next(Duration::from_millis(100)) {
                self.add(record);
            }
        }
    }

    fn add(&mut self, record: Record) {
        let key = String::from_utf8(record.key.clone()).unwrap();
        if key.starts_with(END_MARK) {
            self.end_marks += 1;
            return;
        }
        let value = record.json();
        if value["source"] != TICKS {
            let is_rate = record.topic == self.stage.cluster.topics.rates;
            let all = if is_rate { &mut self.rates } else { &mut self.alerts };
            all.push((key, value));
        }
    }

    fn assert(&self, expected: &Expected) {
        self.assert_rates(expected);
        let mut alerts: Vec<Transition> = self.alerts.iter().map(transition).collect();
        alerts.sort();
        assert_eq!(alerts, expected.alerts.iter().cloned().collect::<Vec<_>>());
    }

    /// The last revision of each window is right, and no revision was published twice.
    fn assert_rates(&self, expected: &Expected) {
        let mut last: BTreeMap<_, (u64, Counts)> = BTreeMap::new();
        for (scope, rate) in &self.rates {
            let counts: Counts = serde_json::from_value(rate["counts"].clone()).unwrap();
            assert!(rate_is_right(rate, &counts), "{rate}");
            let width = rate["width"].as_str().unwrap().to_owned();
            let window = (scope.clone(), width, rate["end"].as_i64().unwrap());
            let revision = rate["revision"].as_u64().unwrap();
            let before = last.insert(window, (revision, counts));
            assert!(before.is_none_or(|(before, _)| before < revision), "published again: {rate}");
        }
        for (window, counts) in &expected.rates {
            assert_eq!(
                last.remove(window).map(|(_, counts)| counts).as_ref(),
                Some(counts),
                "{window:?}"
            );
        }
        assert_eq!(last, BTreeMap::new(), "windows without events");
    }
}

fn transition((scope, alert): &(String, Value)) -> Transition {
    let text = |name: &str| alert[name].as_str().unwrap().to_owned();
    (scope.clone(), alert["at"].as_i64().unwrap(), text("state"), text("severity"))
}

fn settings() -> String {
    format!(
        "
        [monitor]
        # Small batches, so that a member can be killed between many commits.
        batch_records = 100
        out_of_orderness = \"5s\"
        publish = \"all\"
        idle_after = \"3s\"
        [[monitor.rule]]
        name = \"bounces\"
        metric = \"bounce\"
        direction = \"over\"
        threshold = {THRESHOLD:?}
        critical = {CRITICAL:?}
        min_volume = {MIN_VOLUME}
        "
    )
}
