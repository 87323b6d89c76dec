//! Topics of its own for each test, members to run on them, and what they publish.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use devstack::{Dirs, Running};
use event::Kind;
use record::{Layout, Topics, names};
use serde_json::Value;
use kafka::feed::Feed;
use kafka::{Connection, OwnedRecord, PreparedHeaders, Publisher, PublisherSettings, admin};

use crate::campaign::{Happening, MINUTE};
use crate::offline::{CRITICAL, Counts, MIN_VOLUME, THRESHOLD, Transition, Truth, rate_is_right};

const EVENT_PARTITIONS: i32 = 6;
const SCOPE_PARTITIONS: i32 = 3;
/// For everything; most of it is the broker missing a killed member and ending its transaction.
const DEADLINE: Duration = Duration::from_secs(120);
/// Enough keys that one of them falls on each partition.
const EVERY_PARTITION: usize = 64;
/// Not a tenant but the passing of time.
const PENDULUM: &str = "pendulum";

pub struct Stage {
    toml: String,
    connection: Connection,
    topics: Topics,
    publisher: Publisher,
    runtime: tokio::runtime::Runtime,
    dirs: Dirs,
}

impl Stage {
    pub fn new(name: &str) -> Self {
        let dirs = Dirs::new().unwrap();
        let prefix = format!("{}-{name}.", dirs.run.file_name().unwrap().to_str().unwrap());
        let connection = Connection {
            bootstrap: devstack::shared_kafka().to_owned(),
            instance: "test".to_owned(),
            group_protocol: "consumer".to_owned(),
            compression: "lz4".to_owned(),
            ..Connection::default()
        };
        let topics = Topics::new(&prefix);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let layout = Layout {
            recipient_partitions: EVENT_PARTITIONS,
            scope_partitions: SCOPE_PARTITIONS,
            replication: 1,
            dedupe_horizon_hours: 72,
        };
        let specs = topics.specs(layout);
        runtime.block_on(admin::create_topics(&connection, &specs, DEADLINE)).unwrap();
        let settings = PublisherSettings {
            linger: Duration::from_millis(1),
            queue_bytes: 64 << 20,
            ack_timeout: Some(DEADLINE),
        };
        let publisher = Publisher::open(&connection, settings).unwrap();
        let toml = settings_of(&connection.bootstrap, &prefix);
        Self { toml, connection, topics, publisher, runtime, dirs }
    }

    /// Starts a member of that name.
    pub fn member(&self, instance: &str) -> Running {
        let binary = Path::new(env!("CARGO_BIN_EXE_monitor"));
        let named = [("MAILPULSE__SERVICE__INSTANCE", instance)];
        Running::start_as(&self.dirs, binary, "monitor", &self.toml, &named).unwrap()
    }

    /// Publishes events as dedupe does, in this order in each partition.
    pub fn publish(&self, events: &[Happening]) {
        self.publish_with(events, &[]);
    }

    /// Publishes events once more, as a redrive of the archive's dead letters does.
    pub fn publish_for_the_archive(&self, events: &[Happening]) {
        self.publish_with(events, &[(names::REDRIVEN, b"archive")]);
    }

    fn publish_with(&self, events: &[Happening], further: &[(&str, &[u8])]) {
        let batch = self.publisher.batch();
        for (number, event) in events.iter().enumerate() {
            let (id, at) = (event.id(number), event.at.to_string());
            let mut headers: Vec<(&str, &[u8])> = vec![
                (names::EVENT_ID, id.as_bytes()),
                (names::KIND, event.kind.as_str().as_bytes()),
                (names::OCCURRED_AT, at.as_bytes()),
            ];
            if event.kind.is_engagement() {
                headers.push((names::FIRST, event.first.as_bytes()));
            }
            headers.extend_from_slice(further);
            let headers = PreparedHeaders::new(&headers);
            let (key, value) = (event.recipient.as_bytes(), event.json(number));
            batch.send(&self.topics.events, key, &value, &headers).unwrap();
        }
        self.runtime.block_on(batch.acknowledged()).unwrap();
    }

    /// A reader of what is published from the beginning.
    pub fn published(&self) -> Published<'_> {
        let group = format!("{}reader-{:?}", self.topics.prefix, Instant::now());
        let topics = [self.topics.rates.as_str(), self.topics.alerts.as_str()];
        let feed = Feed::open(&self.connection, "test", &group, &topics).unwrap();
        Published { stage: self, feed, rates: Vec::new(), alerts: Vec::new(), bounds: 0 }
    }

    /// Lets event time pass until every window has closed; then all that was published, in the end
    /// and on the way there, is what `truth` says, once.
    pub fn assert_published(&self, truth: &Truth) {
        let end = truth.rates.keys().map(|(_, _, end)| *end).max().unwrap() + MINUTE;
        let ticks: Vec<Happening> = (0..EVERY_PARTITION)
            .map(|n| Happening {
                at: end,
                ..Happening::new(PENDULUM, Kind::Delivered, format!("tick{n}@example.com"))
            })
            .collect();
        self.publish(&ticks);
        let mut published = self.published();
        published.await_rates(truth.rates.len());
        self.bound();
        published.await_bounds();
        published.assert(truth);
    }

    /// Puts an end mark on every partition of what is published. A reader that has seen it has seen
    /// all there was: also what lay behind the transaction of a member that was killed.
    fn bound(&self) {
        let batch = self.publisher.batch();
        for topic in [&self.topics.rates, &self.topics.alerts] {
            for n in 0..EVERY_PARTITION {
                let key = format!("bound{n}");
                batch.send(topic, key.as_bytes(), b"{}", &PreparedHeaders::new(&[])).unwrap();
            }
        }
        self.runtime.block_on(batch.acknowledged()).unwrap();
    }

    pub fn until(&self, what: &str, mut reached: impl FnMut() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !reached() {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Rates and alerts as they come.
pub struct Published<'s> {
    stage: &'s Stage,
    feed: Feed,
    rates: Vec<(String, Value)>,
    alerts: Vec<(String, Value)>,
    bounds: usize,
}

impl Published<'_> {
    /// Waits until so many different windows have been published.
    pub fn await_rates(&mut self, count: usize) {
        let mut windows = std::collections::BTreeSet::new();
        let mut looked_at = 0;
        self.read_until(&format!("{count} windows"), |published| {
            for (scope, rate) in &published.rates[looked_at..] {
                windows.insert((scope.clone(), rate["width"].to_string(), rate["end"].as_i64()));
            }
            looked_at = published.rates.len();
            windows.len() >= count
        });
    }

    /// Waits until so many alerts have been published, and returns all.
    pub fn await_alerts(&mut self, count: usize) -> Vec<Value> {
        self.read_until(&format!("{count} alerts"), |published| published.alerts.len() >= count);
        self.alerts.iter().map(|(_, alert)| alert.clone()).collect()
    }

    fn await_bounds(&mut self) {
        self.read_until("the end marks", |published| published.bounds == 2 * EVERY_PARTITION);
    }

    fn read_until(&mut self, what: &str, mut reached: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !reached(self) {
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}: {} rates, {} alerts",
                self.rates.len(),
                self.alerts.len()
            );
            if let Some(item) = self.feed.next(Duration::from_millis(100)).unwrap() {
                self.take(item);
            }
        }
    }

    fn take(&mut self, item: OwnedRecord) {
        let key = String::from_utf8(item.key).unwrap();
        if key.starts_with("bound") {
            self.bounds += 1;
            return;
        }
        let value: Value = serde_json::from_slice(&item.value.unwrap()).unwrap();
        if value["source"] != PENDULUM {
            let is_rate = item.topic == self.stage.topics.rates;
            let all = if is_rate { &mut self.rates } else { &mut self.alerts };
            all.push((key, value));
        }
    }

    fn assert(&self, truth: &Truth) {
        self.assert_rates(truth);
        let mut alerts: Vec<Transition> = self.alerts.iter().map(transition).collect();
        alerts.sort();
        assert_eq!(alerts, truth.alerts.iter().cloned().collect::<Vec<_>>());
    }

    /// Of each window the greatest revision is right, and no revision came twice.
    fn assert_rates(&self, truth: &Truth) {
        let mut last: BTreeMap<_, (u64, Counts)> = BTreeMap::new();
        for (scope, rate) in &self.rates {
            let counts: Counts = serde_json::from_value(rate["counts"].clone()).unwrap();
            assert!(rate_is_right(rate, &counts), "{rate}");
            let width = rate["width"].as_str().unwrap().to_owned();
            let window = (scope.clone(), width, rate["end"].as_i64().unwrap());
            let revision = rate["revision"].as_u64().unwrap();
            let before = last.insert(window, (revision, counts));
            assert!(before.is_none_or(|(before, _)| before < revision), "again: {rate}");
        }
        for (window, counts) in &truth.rates {
            assert_eq!(
                last.remove(window).map(|(_, counts)| counts).as_ref(),
                Some(counts),
                "{window:?}"
            );
        }
        assert_eq!(last, BTreeMap::new(), "windows in which nothing happened");
    }
}

fn transition((scope, alert): &(String, Value)) -> Transition {
    let text = |name: &str| alert[name].as_str().unwrap().to_owned();
    (scope.clone(), alert["at"].as_i64().unwrap(), text("state"), text("severity"))
}

fn settings_of(bootstrap: &str, prefix: &str) -> String {
    format!(
        "
        [kafka]
        bootstrap = {bootstrap:?}
        prefix = {prefix:?}
        [topics]
        recipient_partitions = {EVENT_PARTITIONS}
        scope_partitions = {SCOPE_PARTITIONS}
        replication = 1
        [monitor]
        # Small portions: many commits to be killed between.
        batch_records = 100
        out_of_orderness = \"5s\"
        allowed_lateness = \"10m\"
        idle_after = \"1s\"
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
