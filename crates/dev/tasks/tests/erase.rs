//! A recipient is erased from a running installation, and everything is replayed twice: nothing new names the
//! recipient, nothing is doubled, and the sums and the evidence of alerts stay. Then a second installation reads what
//! `enrich` wrote before the erasure.
//!
//! Like the test of upgrades, this one expects the services and the tool beside the program `tasks`:
//! `cargo build --workspace --bins`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use event::{Kind, Provider};
use harness::{
    Cluster, DEADLINE, Database, Launch, Outgoing, Record, Service, eventually, layout, records,
    seen,
};

const ERASED: &str = "quentina@example.com";
const SETTINGS: &str = r#"
[privacy]
erasure_key = "a key of the tests alone"
[dedupe]
directory = "state"
[monitor]
idle_after = "1s"
[[monitor.rule]]
name = "bounces"
metric = "bounce"
direction = "over"
threshold = 0.1
min_volume = 15
hold = { warning = "0s", critical = "0s" }
"#;
/// Recipients whose messages all bounce, besides those of [`Installation::publish`]. They make an alert.
const BOUNCED: usize = 40;
/// The events of one recipient.
const KINDS: [(Kind, &str); 4] = [
    (Kind::Delivered, "delivered"),
    (Kind::Opened, "open"),
    (Kind::Clicked, "click"),
    (Kind::Bounced, "bounce"),
];

fn binary(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_tasks")).with_file_name(name);
    assert!(path.is_file(), "{name} is missing; run `cargo build --workspace --bins`");
    path
}

struct Installation {
    cluster: Cluster,
    database: Database,
    home: tempfile::TempDir,
    _services: Vec<Service>,
}

impl Installation {
    fn start() -> Self {
        Self::start_on(
            Cluster::new("erase", layout(2, 1)),
            &["enrich", "dedupe", "monitor", "archive"],
        )
    }

    /// Starts services on topics that may have records.
    fn start_on(cluster: Cluster, services: &[&str]) -> Self {
        let database = Database::new("erase");
        let clickhouse =
            format!("[clickhouse]\nurl = {:?}\ndatabase = {:?}\n", database.url, database.name);
        let start = |service: &&str| {
            Launch::new(service, binary(service), &cluster)
                .config(&format!("{SETTINGS}{clickhouse}"))
                .start()
        };
        let services = services.iter().map(start).collect();
        let home = tempfile::tempdir().unwrap();
        let settings = format!("{}{SETTINGS}{clickhouse}", cluster.toml());
        std::fs::write(home.path().join("mailpulse.toml"), settings).unwrap();
        Self { cluster, database, home, _services: services }
    }

    /// Starts the services behind `enrich` on copies of what `enrich` has written, and of the tombstones.
    fn start_second(&self) -> Self {
        let cluster = Cluster::new("erase-second", layout(2, 1));
        let (from, to) = (&self.cluster.topics, &cluster.topics);
        for (from, to) in [(&from.erased, &to.erased), (&from.enriched, &to.enriched)] {
            let records = self.cluster.read_settled(from);
            let copies: Vec<Outgoing> = records.iter().map(|record| copy(record, to)).collect();
            cluster.produce(&copies);
        }
        Self::start_on(cluster, &["dedupe", "monitor", "archive"])
    }

    /// Publishes the bounces of other recipients, one each.
    fn publish_bounces(&self) {
        let events = (0..BOUNCED).map(|number| {
            let recipient = format!("{}@example.org", "r".repeat(number + 20));
            raw(&self.cluster, Kind::Bounced, "bounce", &recipient)
        });
        self.cluster.produce(&events.collect::<Vec<_>>());
    }

    /// Publishes what the ingress published: four events of each recipient. Each names the erased one.
    fn publish(&self) {
        let recipients = [ERASED, "bob@example.com", "eve@example.org"];
        let events = recipients.iter().flat_map(|recipient| {
            KINDS.map(|(kind, name)| raw(&self.cluster, kind, name, recipient))
        });
        let unreadable = records::raw(
            &self.cluster.topics,
            Provider::SendGrid,
            "acme",
            Kind::Opened,
            ERASED,
            format!("no JSON about {ERASED}"),
        );
        let all: Vec<Outgoing> = events.chain([unreadable]).collect();
        self.cluster.produce(&all);
        let enrich = self.cluster.topics.group("enrich");
        for (kind, _) in KINDS {
            self.cluster.await_all_read(&enrich, self.cluster.topics.raw(kind));
        }
        self.await_dedupe();
    }

    /// Waits until dedupe has read the last event.
    fn await_dedupe(&self) {
        self.await_read("dedupe", &self.cluster.topics.enriched);
    }

    /// Waits until every alert about the events so far is stored.
    fn await_alerts(&self) {
        let topics = &self.cluster.topics;
        self.await_read("monitor-fold", &topics.events);
        self.await_read("monitor-rate", &topics.panes);
        self.await_read("archive", &topics.alerts);
    }

    /// Waits until a stage has read the last record of a topic. The end of the topic is behind it, because
    /// transactions end with an offset of their own.
    fn await_read(&self, stage: &str, topic: &str) {
        let group = self.cluster.topics.group(stage);
        let mut last: BTreeMap<i32, i64> = BTreeMap::new();
        for record in self.cluster.read_settled(topic) {
            last.insert(record.partition, record.offset);
        }
        eventually(&format!("{stage} to read {topic}"), DEADLINE, || {
            let committed = self.cluster.committed(&group, topic);
            let is_read = |(&partition, &last): (&i32, &i64)| {
                let committed = &committed[usize::try_from(partition).unwrap()];
                committed.as_ref().is_some_and(|committed| committed.offset > last)
            };
            seen(last.iter().all(is_read), |is_read| *is_read)
        });
    }

    fn tool(&self, arguments: &[&str]) -> Output {
        let config = self.home.path().join("mailpulse.toml");
        Command::new(binary("mailpulse"))
            .args(arguments)
            .arg("--config")
            .arg(config)
            .output()
            .unwrap()
    }

    /// Returns the sums and numbers of rows, which an erasure must not change. They do not depend on offsets.
    fn totals(&self) -> Vec<serde_json::Value> {
        [
            "SELECT count(), uniqExact(event_id), uniqExact(recipient) FROM events",
            "SELECT sum(events), sum(delivered), sum(opened), sum(clicked), sum(bounced_hard) FROM traffic",
            "SELECT sum(delivered), sum(clicked) FROM traffic_domain WHERE recipient_domain = 'example.com'",
            "SELECT sum(clicks), uniqExact(url) FROM links",
            "SELECT count(), uniqExact(recipient), sum(opens) FROM (SELECT * FROM message_life FINAL)",
        ]
        .map(|sql| self.database.one(sql))
        .into()
    }

    /// Returns what an erasure must not change either, with the places of rows.
    fn evidence(&self) -> Vec<serde_json::Value> {
        [
            "SELECT sum(kafka_offset) FROM events",
            "SELECT count(), groupArray(episode_id) FROM alerts",
        ]
        .map(|sql| self.database.one(sql))
        .into()
    }

    /// Recomputes the numbers of every alert from the stored events. At least one must be equal, and none different.
    fn verified_alerts(&self) -> Vec<String> {
        let verified = self.tool(&["alerts", "verify", "--all", "--json"]);
        assert!(verified.status.success(), "{verified:?}");
        let out = String::from_utf8(verified.stdout).unwrap();
        assert!(out.contains(r#""result":"equal""#), "there are no alerts: {out}");
        assert!(!out.contains(r#""result":"unverifiable""#), "{out}");
        out.lines().map(str::to_owned).collect()
    }

    /// Returns how many records of each topic behind the raw ones name the erased recipient.
    fn records_with_recipient(&self) -> Vec<usize> {
        let topics = &self.cluster.topics;
        let behind = [
            &topics.enriched,
            &topics.events,
            &topics.dead_letters,
            &topics.dedupe_changelog,
            &topics.panes,
            &topics.rates,
            &topics.alerts,
            &topics.incidents,
            &topics.monitor_changelog,
            &topics.incidents_changelog,
            &topics.positions,
            &topics.erased,
            &topics.suppressions,
            &topics.suppress_changelog,
        ];
        let named = |topic: &String| {
            let records = self.cluster.read_settled(topic);
            let names = |record: &&Record| {
                let headers = record.headers.iter().map(|(_, value)| &value[..]);
                let value = record.value.as_deref().unwrap_or_default();
                [&record.key[..], value].into_iter().chain(headers).any(names_recipient)
            };
            records.iter().filter(names).count()
        };
        behind.map(named).into()
    }
}

/// Returns a record for another topic that is otherwise the same.
fn copy(record: &Record, topic: &str) -> Outgoing {
    let headers = record.headers.iter().map(|(name, value)| (&**name, &**value));
    Outgoing::new(topic, &record.key, record.value.as_deref().unwrap_or_default())
        .on(record.partition)
        .headers(&headers.collect::<Vec<_>>())
}

fn names_recipient(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    text.contains("quentina") || text.contains("quentin\\u0061")
}

/// Returns a raw event of a recipient. Its texts name the erased one in several encodings.
fn raw(cluster: &Cluster, kind: Kind, name: &str, recipient: &str) -> Outgoing {
    let value = format!(
        r#"{{"email":"{recipient}","event":"{name}","timestamp":1799999990,"sg_event_id":"{name}-{}","sg_message_id":"m-{}","url":"https://example.com/u/{}?e=quentina%40example.com","reason":"550 <Quentina@Example.com> and quentina@example.com unknown","cc":["quentina\u0040example.com"],"useragent":"agent","ip":"192.0.2.1"}}"#,
        recipient.len(),
        recipient.len(),
        ERASED.replace('@', "%40"),
    );
    records::raw(&cluster.topics, Provider::SendGrid, "acme", kind, recipient, value)
}

#[test]
fn an_erased_recipient_does_not_come_back_with_a_replay_and_nothing_is_doubled() {
    let installation = Installation::start();
    installation.publish_bounces();
    installation.publish();
    let events = 12 + BOUNCED as u64;
    installation.database.await_count("events", events);
    installation.database.await_count("dead_letters", 1);
    installation.await_alerts();
    let totals = installation.totals();
    let (evidence, alerts) = (installation.evidence(), installation.verified_alerts());

    let erased = installation.tool(&["erase", "--recipient", ERASED]);
    let text = format!("{erased:?}");
    assert!(erased.status.success(), "{text}");
    let out = String::from_utf8_lossy(&erased.stdout);
    assert!(out.contains(&format!("events\t{events}\n")), "{text}");
    let assert_same = |what: &str| {
        assert_eq!(installation.totals(), totals, "{what}");
        assert_eq!(installation.evidence(), evidence, "{what}");
        assert_eq!(installation.verified_alerts(), alerts, "{what}");
        let healed = installation.tool(&["heal"]);
        assert!(healed.status.success(), "{what}: the sums equal the rows: {healed:?}");
    };
    assert_same("the erasure changes no sum and no evidence");

    let before = installation.records_with_recipient();
    let (named, unnamed) = before.split_at(3);
    assert!(named.iter().all(|named| *named > 0), "the search works: {before:?}");
    assert!(unnamed.iter().all(|named| *named == 0), "{before:?}");
    for replay in 1..=2 {
        installation.publish_bounces();
        installation.publish();
        installation.database.await_count("dead_letters", 1 + replay);
        assert_eq!(
            installation.records_with_recipient(),
            before,
            "no new record names the recipient"
        );
        assert_same(&format!("replay {replay} doubles nothing"));
    }
    let again = installation.tool(&["erase", "--recipient", ERASED, "--dry-run"]);
    assert_eq!(String::from_utf8_lossy(&again.stdout), "", "nothing is left: {again:?}");
    let results: Vec<String> = installation.database.one("SELECT groupArray(result) FROM audit");
    assert_eq!(results, ["done"]);

    let second = installation.start_second();
    second.database.await_count("events", events);
    second.await_dedupe();
    second.await_alerts();
    let named = second.records_with_recipient();
    assert!(named[0] > 0, "dedupe reads what was written before the erasure: {named:?}");
    assert!(named[1..].iter().all(|named| *named == 0), "{named:?}");
    assert_eq!(second.totals(), totals, "a replay with dedupe alone counts the same");
    second.verified_alerts();

    // What is in mail.events from before, and nobody can read, becomes a dead letter of monitor and one of archive.
    let unreadable =
        Outgoing::new(&second.cluster.topics.events, ERASED, format!("no JSON of {ERASED}"));
    second.cluster.produce(&[unreadable]);
    second.database.await_count("dead_letters", 2);
    assert_eq!(second.records_with_recipient()[2], 0);
}
