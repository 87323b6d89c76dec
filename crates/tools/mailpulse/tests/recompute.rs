//! `mailpulse recompute` on a real Kafka, with what the real monitor has published. Needs the binary `monitor`, as
//! `cargo xtask test` compiles it; alone: `cargo build --workspace --bins`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use event::{IdBuilder, Kind};
use harness::{
    Cluster, DEADLINE, Launch, Outgoing, Record, Service, eventually, layout, records, seen,
};
use record::names;
use serde_json::Value;
use tempfile::TempDir;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3600 * SECOND;
/// The start of an hour: 2025-10-09 09:00:00 UTC.
const T0: i64 = 1_760_000_400 * SECOND;

const SCOPE: &str = "source/sendgrid/acme";
/// The place of all alerts, and of all counts in these tests.
const PARTITION: i32 = 0;

const RULES: &str = r#"
[monitor]
batch_records = 100
out_of_orderness = "5s"
idle_after = "3s"
[[monitor.rule]]
name = "bounces"
metric = "bounce"
windows = ["5m", "60m"]
warning = 0.2
critical = 0.4
min_volume = 15
hold = { warning = "0s", critical = "0s" }
"#;

/// What the tool wrote.
#[derive(Debug)]
struct Output {
    code: i32,
    out: String,
    err: String,
}

impl Output {
    /// Asserts how many alerts are equal, different and unverifiable. `None`: at least one.
    fn assert(&self, code: i32, counts: [Option<u64>; 3]) {
        let last = self.err.lines().last().unwrap();
        let found: Vec<u64> =
            last.split(", ").map(|it| it.split(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!((self.code, found.len()), (code, 3), "{self:?}");
        for (found, wanted) in found.into_iter().zip(counts) {
            assert!(wanted.map_or(found > 0, |wanted| found == wanted), "{counts:?}: {self:?}");
        }
    }

    /// Returns the lines in JSON.
    fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

struct Setup {
    cluster: Cluster,
    home: TempDir,
}

impl Setup {
    /// One partition of everything, so that one recipient lets the time of all pass.
    fn new(name: &str) -> Self {
        let cluster = Cluster::new(&format!("recompute-{name}"), layout(1, 1));
        let setup = Self { cluster, home: tempfile::tempdir().unwrap() };
        setup.configure("mailpulse.toml", RULES);
        setup
    }

    fn configure(&self, name: &str, settings: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, self.cluster.toml() + settings).unwrap();
        path
    }

    fn monitor(&self) -> Service {
        let binary = Path::new(env!("CARGO_BIN_EXE_mailpulse")).with_file_name("monitor");
        assert!(binary.is_file(), "monitor is missing; run `cargo build --workspace --bins`");
        Launch::new("monitor", binary, &self.cluster).config(RULES).instance("a").start()
    }

    /// Publishes an event a second as dedupe does, from `from` on. Of ten, `bounces` are hard bounces. Returns when
    /// monitor has judged them.
    fn publish(&self, from: i64, seconds: i64, bounces: i64) {
        let events = (0..=seconds).map(|second| {
            let is_bounce = second % 10 < bounces && second < seconds;
            self.event(from + second * SECOND, is_bounce)
        });
        self.cluster.produce(&events.collect::<Vec<_>>());
        let until = from + (seconds - 20) * SECOND;
        eventually("monitor to judge the events", DEADLINE, || {
            seen(self.newest_clock(), |now| *now >= until)
        });
    }

    fn event(&self, at: i64, is_bounce: bool) -> Outgoing {
        let (kind, counts) = match is_bounce {
            true => (Kind::Bounced, "bounced_hard"),
            false => (Kind::Delivered, "delivered"),
        };
        let id = IdBuilder::new("test").part(&at.to_le_bytes()).finish();
        let value = format!(
            r#"{{"event_id":"{id}","kind":"{}","provider":"sendgrid","source":"acme","occurred_at":{at},"received_at":{},"recipient":"ada@example.com","provider_event":"x","request_id":"r","raw":1}}"#,
            kind.as_str(),
            at + SECOND
        );
        records::event(&self.cluster.topics, "ada@example.com", value, (id, kind, at), "")
            .header(names::TALLY, format!("1;;{counts}"))
    }

    /// Twenty minutes of good mail, ten of bad mail, and forty of good mail again: an episode from its beginning to
    /// its end.
    fn publish_episode(&self, from: i64) {
        self.publish(from, 1200, 0);
        self.publish(from + 1200 * SECOND, 600, 5);
        self.publish(from + 1800 * SECOND, 2400, 0);
        // The window of an hour is good when it has lost the bad mail, and must stay so for half an hour.
        self.publish(from + 4200 * SECOND, 3600, 0);
    }

    fn records(&self) -> Vec<Record> {
        self.cluster.read_settled(&self.cluster.topics.alerts)
    }

    fn alerts(&self) -> Vec<Record> {
        self.records().into_iter().filter(|record| record.key == SCOPE.as_bytes()).collect()
    }

    fn newest_clock(&self) -> i64 {
        let records = self.cluster.read(&self.cluster.topics.alerts);
        let clocks = records.iter().filter(|record| record.key == b"clock");
        clocks.map(|record| record.json()["now"].as_i64().unwrap()).max().unwrap_or(i64::MIN)
    }

    /// Appends an alert with another text to `mail.alerts`. Returns its value.
    fn append_altered(&self, alert: &Record) -> String {
        let text = alert.text();
        let altered = text.replace("\"summary\":\"", "\"summary\":\"not so: ");
        assert_ne!(text, altered);
        let topic = &self.cluster.topics.alerts;
        self.cluster.produce(&[Outgoing::new(topic, SCOPE, &altered).on(PARTITION)]);
        altered
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(&self.home.path().join("mailpulse.toml"), arguments)
    }

    fn run_with(&self, config: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailpulse"));
        command.arg("recompute").args(arguments).arg("--config").arg(config);
        let output = command.output().unwrap();
        Output {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

#[test]
fn every_alert_follows_from_the_panes_and_an_altered_one_is_found() {
    let setup = Setup::new("equal");
    let mut monitor = setup.monitor();
    setup.publish(T0, 1200, 0);
    setup.publish(T0 + 1200 * SECOND, 600, 5);
    // It goes on with what it has in its changelog.
    monitor.kill();
    monitor.restart();
    setup.publish(T0 + 1800 * SECOND, 6000, 0);
    // Also while the monitor runs, no alert is reported.
    setup.run(&[]).assert(0, [None, Some(0), Some(0)]);
    monitor.stop();
    let alerts = setup.alerts();
    assert!(alerts.len() >= 2, "{alerts:?}");
    let count = alerts.len() as u64;
    let equal = setup.run(&[]);
    equal.assert(0, [Some(count), Some(0), Some(0)]);
    assert_eq!(equal.out, "");

    // The rules decide the text and the thresholds.
    let others = setup.configure("others.toml", &RULES.replace("0.2\n", "0.21\n"));
    let other = setup.run_with(&others, &[]);
    assert_eq!(other.code, 1, "{other:?}");
    assert!(other.out.contains("  mail.panes gives\t{\"episode_id\":"), "{other:?}");
    let renamed = setup.configure("renamed.toml", &RULES.replace("\"bounces\"", "\"more\""));
    let renamed = setup.run_with(&renamed, &["--json"]);
    let of_bounces = |line: &Value| {
        (line["rule"] == "bounces").then(|| line["reason"].as_str().unwrap().to_owned())
    };
    let reasons: Vec<String> = renamed.lines().iter().filter_map(of_bounces).collect();
    assert_eq!(reasons.len(), alerts.len(), "{renamed:?}");
    assert!(reasons[0].contains("no rule `bounces`"), "{renamed:?}");

    // What monitor has not read yet is no difference.
    setup.cluster.produce(&[Outgoing::new(&setup.cluster.topics.panes, "commit", commit())]);
    let unread = setup.run(&[]);
    unread.assert(0, [Some(count), Some(0), None]);
    assert!(unread.out.contains("monitor had not read"), "{unread:?}");

    let altered = setup.append_altered(&alerts[0]);
    let found = setup.run(&["--json"]);
    found.assert(1, [Some(count), Some(1), None]);
    let lines = found.lines();
    let different: Vec<&Value> = lines.iter().filter(|it| it["result"] == "different").collect();
    let expected = alerts[0].json();
    let line = different[0];
    for key in ["episode_id", "seq", "rule", "state"] {
        assert_eq!(line[key], expected[key], "{line}");
    }
    assert_eq!((line["scope"].as_str(), line["recorded"].as_str()), (Some(SCOPE), Some(&*altered)));
    let text = setup.run(&[]);
    assert!(text.out.contains(&format!("  mail.alerts has\t{altered}\n")), "{text:?}");
    assert!(text.out.contains("  mail.panes gives\tno such alert\n"), "{text:?}");

    // Retention also removes alerts, and that one is missing is then no difference. The altered one has the place of
    // the first.
    setup.cluster.delete_records(&setup.cluster.topics.alerts, alerts[1].offset + 1);
    let expired = setup.run(&[]);
    expired.assert(1, [Some(count - 2), Some(1), None]);
    assert!(expired.out.contains("mail.alerts no longer has the alerts"), "{expired:?}");
    assert!(!expired.out.contains("no such alert"), "{expired:?}");

    for (name, settings) in [
        ("rule.toml", RULES.replace("min_volume", "least_volume")),
        ("partitions.toml", RULES.to_owned()),
    ] {
        let config = setup.configure(name, &settings);
        if name == "partitions.toml" {
            let text = std::fs::read_to_string(&config).unwrap();
            let text = text.replace("scope_partitions = 1", "scope_partitions = 2");
            std::fs::write(&config, text).unwrap();
        }
        let invalid = setup.run_with(&config, &[]);
        assert_eq!(invalid.code, 2, "{invalid:?}");
    }
}

/// A commit of fold after all events of the test, in which all mail bounces.
fn commit() -> String {
    let pane = T0 + 3 * HOUR;
    let watermark = pane + 60 * SECOND;
    format!(
        r#"{{"from":0,"part":0,"parts":1,"deltas":[{{"scope":"{SCOPE}","pane":{pane},"counts":{{"bounced_hard":500}}}}],"as_of":{{"0":99999}},"watermarks":{{"0":{{"watermark":{watermark},"presence":"busy"}}}},"deliveries":{{}}}}"#
    )
}

#[test]
fn without_its_first_panes_an_alert_is_verified_only_if_it_cannot_rest_on_them() {
    let setup = Setup::new("expired");
    let mut monitor = setup.monitor();
    setup.publish_episode(T0);
    let early = setup.alerts();
    // Two days later, the windows have lost what was before.
    setup.publish_episode(T0 + 48 * HOUR);
    monitor.stop();
    let all = setup.alerts();
    assert!(!early.is_empty() && all.len() > early.len(), "{all:?}");
    let count = all.len() as u64;
    setup.run(&[]).assert(0, [Some(count), Some(0), Some(0)]);

    // The retention removes the beginning: here, the bad mail of the first episode, but not the end of it.
    let topic = &setup.cluster.topics.panes;
    let panes = setup.cluster.read(topic);
    let is_later = |record: &&Record| {
        let value = record.json();
        let deltas = value["deltas"].as_array().cloned().unwrap_or_default();
        deltas.iter().any(|delta| delta["pane"].as_i64().unwrap() >= T0 + 1800 * SECOND)
    };
    let first = panes.iter().find(is_later).unwrap().offset;
    assert!(first > 0);
    setup.cluster.delete_records(topic, first);
    let cut = setup.run(&[]);
    let late = count - early.len() as u64;
    cut.assert(0, [Some(late), Some(0), Some(early.len() as u64)]);
    let gone = format!("no longer has the records before offset {first}");
    assert!(cut.out.lines().all(|line| line.contains(&gone)), "{cut:?}");

    // An altered alert of the first episode proves nothing, one of the second does.
    setup.append_altered(&early[0]);
    setup.run(&[]).assert(0, [Some(late), Some(0), Some(early.len() as u64 + 1)]);
    setup.append_altered(&all[early.len()]);
    let found = setup.run(&["--json"]);
    found.assert(1, [Some(late), Some(1), Some(early.len() as u64 + 1)]);
}
