//! Topics of one test, members that run on them, and what the members publish.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use event::Kind;
use harness::{Cluster, DEADLINE, Launch, Outgoing, Reader, Record, Service, layout, records};
use record::names;
use serde_json::Value;

use crate::alerts::{self, LoggedEvent};
use crate::campaign::{MINUTE, SECOND, TestEvent};
use crate::offline::{Counts, Expected, rate_is_right};

const EVENT_PARTITIONS: i32 = 6;
const SCOPE_PARTITIONS: i32 = 3;
/// A number of keys with which every partition gets at least one.
const EVERY_PARTITION: usize = 64;
/// The source of events that only let event time advance.
const TICKS: &str = "ticks";
/// The out-of-orderness of [`settings`].
const OUT_OF_ORDERNESS: i64 = 5 * SECOND;
/// The key of the records in `mail.alerts` with the time of a shard.
const CLOCK: &str = "clock";
/// The beginning of the keys of end marks.
const END_MARK: &str = "end-mark";

/// The header with the number of an event among all that the test has published.
const NUMBER: &str = "test-number";

pub struct Stage {
    cluster: Cluster,
    /// All events that were published, those for archive alone excepted.
    events: RefCell<Vec<TestEvent>>,
}

impl Stage {
    pub fn new(name: &str) -> Self {
        let layout = layout(EVENT_PARTITIONS, SCOPE_PARTITIONS);
        let cluster = Cluster::new(&format!("monitor-{name}"), layout);
        Self { cluster, events: RefCell::default() }
    }

    /// Starts a member that has this name.
    pub fn member(&self, instance: &str) -> Service {
        Launch::new("monitor", env!("CARGO_BIN_EXE_monitor"), &self.cluster)
            .config(&settings())
            .instance(instance)
            .start()
    }

    /// Waits until the latest record of a campaign in `mail.campaigns` has this many deliveries, or is a tombstone.
    /// Returns the number of its records.
    pub fn await_campaign(&self, campaign: &str, delivered: Option<u64>) -> usize {
        let key = format!("campaign/sendgrid/{campaign}");
        harness::eventually(&format!("{delivered:?} deliveries of {key}"), DEADLINE, || {
            let records = self.cluster.read(&self.cluster.topics.campaigns);
            let of_campaign: Vec<_> =
                records.iter().filter(|record| record.key == key.as_bytes()).collect();
            let latest = of_campaign.last().map(|record| {
                record
                    .value
                    .as_ref()
                    .map(|_| record.json()["counts"]["delivered"].as_u64().unwrap())
            });
            (latest == Some(delivered)).then_some(of_campaign.len())
        })
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
        let first = self.events.borrow().len();
        self.events.borrow_mut().extend_from_slice(events);
        self.publish_with(events, |number| (NUMBER, (first + number).to_string().into_bytes()));
    }

    /// Publishes events once more, as a redrive of archive's dead letters does.
    pub fn publish_redriven_for_archive(&self, events: &[TestEvent]) {
        self.publish_with(events, |_| (names::REDRIVEN, b"archive".to_vec()));
    }

    fn publish_with(
        &self,
        events: &[TestEvent],
        further: impl Fn(usize) -> (&'static str, Vec<u8>),
    ) {
        let record = |(number, event): (usize, &TestEvent)| {
            let headers = (event.id(number), event.kind, event.at);
            let (topics, value) = (&self.cluster.topics, event.json(number));
            let record = records::event(topics, &event.recipient, value, headers, event.first);
            let tally = event.headers();
            let tally = tally.iter().map(|(name, value)| (*name, value.as_bytes()));
            let (name, value) = further(number);
            record.headers(&tally.collect::<Vec<_>>()).header(name, value)
        };
        let records: Vec<Outgoing> = events.iter().enumerate().map(record).collect();
        self.cluster.produce(&records);
    }

    /// Returns the events in `mail.events` that count.
    fn log(&self) -> Vec<LoggedEvent> {
        let events = self.events.borrow();
        let records = self.cluster.read(&self.cluster.topics.events);
        let log = records.iter().filter_map(|record| {
            let number: usize = str::from_utf8(record.header(NUMBER)?).unwrap().parse().unwrap();
            let (partition, offset) = (record.partition, record.offset);
            Some(LoggedEvent { event: events[number].clone(), partition, offset })
        });
        log.collect()
    }

    /// Returns a reader of everything that is published.
    pub fn published(&self) -> Published<'_> {
        let topics = &self.cluster.topics;
        let reader = self.cluster.reader(&[&topics.rates, &topics.alerts, &topics.incidents]);
        Published {
            stage: self,
            reader,
            rates: Vec::new(),
            alerts: Vec::new(),
            incidents: Vec::new(),
            clocks: BTreeMap::new(),
            end_marks: 0,
        }
    }

    /// Lets event time advance until every window has closed and every episode has ended. Then asserts that all
    /// that was published, at the end and before it, is what is expected, and each only once. Returns the alerts.
    pub fn assert_published(&self, expected: &Expected) -> Vec<(String, Value)> {
        let end = expected.rates.keys().map(|(_, _, end)| *end).max().unwrap() + MINUTE;
        self.publish_ticks(end);
        let mut published = self.published();
        published.await_rates(expected.rates.len());
        self.publish_end_marks();
        published.await_end_marks();
        // A campaign is forgotten when its last panes have expired. Then its episodes become stale, and end.
        for hours in [0, 6, 9] {
            let until = end + hours * 60 * MINUTE;
            self.publish_ticks(until);
            published.await_clocks(until);
        }
        published.await_incidents();
        published.assert(expected);
        published.alerts
    }

    /// Lets event time advance to `until` in every partition.
    pub fn publish_ticks(&self, until: i64) {
        let tick = |n| TestEvent {
            at: until,
            ..TestEvent::new(TICKS, Kind::Delivered, format!("tick{n}@example.com"))
        };
        self.publish(&(0..EVERY_PARTITION).map(tick).collect::<Vec<_>>());
    }

    /// Publishes end marks to every partition of the rates. A reader that has seen them has seen everything
    /// before them, including what was behind the transaction of a killed member.
    fn publish_end_marks(&self) {
        let topic = &self.cluster.topics.rates;
        let marks =
            (0..EVERY_PARTITION).map(|n| Outgoing::new(topic, format!("{END_MARK}{n}"), "{}"));
        self.cluster.produce(&marks.collect::<Vec<_>>());
    }
}

/// What was published, in the order in which it was read.
pub struct Published<'s> {
    stage: &'s Stage,
    reader: Reader,
    rates: Vec<(String, Value)>,
    alerts: Vec<(String, Value)>,
    incidents: Vec<(String, Value)>,
    /// The newest time of each shard, from `mail.alerts`: all alerts up to it were read.
    clocks: BTreeMap<i64, i64>,
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

    /// Waits until an alert of this rule and scope has this severity.
    pub fn await_severity(&mut self, (rule, scope): (&str, &str), severity: &str) {
        self.read_until(&format!("severity {severity} of {rule} in {scope}"), |published| {
            let mut alerts = published.alerts.iter();
            alerts.any(|(of, it)| of == scope && it["rule"] == rule && it["severity"] == severity)
        });
    }

    fn await_end_marks(&mut self) {
        self.read_until("the end marks", |read| read.end_marks == EVERY_PARTITION);
    }

    /// Waits until every shard has come to the time of the last events.
    fn await_clocks(&mut self, end: i64) {
        self.read_until("the clocks of all shards", |read| {
            let shards = usize::try_from(SCOPE_PARTITIONS).unwrap();
            let least = read.clocks.values().min().copied();
            read.clocks.len() == shards && least >= Some(end - OUT_OF_ORDERNESS)
        });
    }

    /// Waits until every episode is in an incident and every incident is over.
    fn await_incidents(&mut self) {
        self.read_until("the end of every incident", |read| {
            let episodes = alerts::episodes_of(&read.incidents);
            let mut of_alerts = read.alerts.iter().filter_map(|(_, it)| it["episode_id"].as_str());
            alerts::all_resolved(&read.incidents) && of_alerts.all(|it| episodes.contains(it))
        });
    }

    fn read_until(&mut self, what: &str, mut is_reached: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !is_reached(self) {
            assert!(
                start.elapsed() < DEADLINE,
                "waited {DEADLINE:?} for {what}; there are {} rates, {} alerts and {} incidents",
                self.rates.len(),
                self.alerts.len(),
                self.incidents.len()
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
        let topics = &self.stage.cluster.topics;
        let value = record.json();
        if record.topic == topics.incidents {
            self.incidents.push((key, value));
        } else if record.topic == topics.rates {
            if value["source"] != TICKS {
                self.rates.push((key, value));
            }
        } else {
            assert_eq!(record.partition, 0, "all alerts are in one partition: {value}");
            match key.as_str() {
                CLOCK => {
                    let (shard, now) = (value["shard"].as_i64(), value["now"].as_i64());
                    self.clocks.insert(shard.unwrap(), now.unwrap());
                }
                _ => self.alerts.push((key, value)),
            }
        }
    }

    fn assert(&self, expected: &Expected) {
        self.assert_rates(expected);
        alerts::assert_well_formed(&self.alerts);
        alerts::assert_true(&self.stage.log(), &self.alerts);
        alerts::assert_incidents(&self.incidents);
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

fn settings() -> String {
    let settings = "
        [monitor]
        # Small batches, so that a member can be killed between many commits.
        batch_records = 100
        out_of_orderness = \"5s\"
        publish = \"all\"
        idle_after = \"3s\"
        ";
    format!("{settings}{}", alerts::RULES)
}
