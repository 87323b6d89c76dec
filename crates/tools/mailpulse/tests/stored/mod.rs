//! Topics and a database of one test, with rows as archive writes them, and the tool as a process.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use alerting::{Alert, Incident};
use archive::server::Server;
use archive::tables::{Alerts, Coordinates, Events, Incidents, Table};
use harness::{Cluster, Database, Outgoing, layout};
use tempfile::TempDir;

pub const SECOND: i64 = 1_000_000;
pub const HOUR: i64 = 3600 * SECOND;
/// The start of an hour: 2025-10-09 09:00:00 UTC.
pub const T0: i64 = 1_760_000_400 * SECOND;

/// An event with what `dedupe` found out.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    pub partition: u16,
    pub offset: u64,
    /// When it happened, UTC microseconds.
    pub at: i64,
    pub source: &'a str,
    pub campaign: &'a str,
    pub counts: &'a str,
    /// When its message was sent, UTC microseconds.
    pub sent: Option<i64>,
    pub corrections: &'a str,
}

pub struct Setup {
    pub cluster: Cluster,
    pub database: Database,
    server: Server,
    runtime: tokio::runtime::Runtime,
    inserts: AtomicU64,
    pub home: TempDir,
}

/// What the tool wrote.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Setup {
    pub fn new(name: &str) -> Self {
        Self::with(name, Database::new(name), "")
    }

    /// Uses a database, which may be on a server of its own, and more lines of settings.
    pub fn with(name: &str, database: Database, settings: &str) -> Self {
        let cluster = Cluster::new(name, layout(2, 1));
        let home = tempfile::tempdir().unwrap();
        let toml = format!(
            "{}[clickhouse]\nurl = {:?}\ndatabase = {:?}\n{settings}",
            cluster.toml(),
            database.url,
            database.name
        );
        std::fs::write(home.path().join("mailpulse.toml"), toml).unwrap();
        let settings =
            service::Settings::load(Some(&home.path().join("mailpulse.toml")), std::iter::empty());
        let server = Server::new(&settings.unwrap().section("clickhouse").unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(archive::schema::migrate(&server)).unwrap();
        Self { cluster, database, server, runtime, inserts: AtomicU64::new(0), home }
    }

    /// Runs `mailpulse …` to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, &[])
    }

    /// Runs `mailpulse …` with environment variables.
    pub fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailpulse"));
        command.envs(environment.iter().copied());
        command.args(arguments).arg("--config").arg(self.home.path().join("mailpulse.toml"));
        let output = command.output().unwrap();
        Output {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Commits that archive has stored everything of both partitions of `mail.events` before an offset.
    pub fn commit_archived(&self, next: u32) {
        let topic = &self.cluster.topics.events;
        for partition in [0, 1] {
            let records = vec![Outgoing::new(topic, "k", "v").on(partition); next as usize];
            self.cluster.produce(&records);
            let (partition, next) = (format!("{topic}/{partition}"), next.to_string());
            let accepted =
                self.run(&["positions", "accept", "archive", &partition, "--offset", &next]);
            assert_eq!(accepted.code, 0, "{accepted:?}");
        }
    }

    pub fn insert(&self, table: Table, block: &archive::native::Block) {
        let token = format!("test-{}", self.inserts.fetch_add(1, Ordering::Relaxed));
        self.runtime.block_on(self.server.insert(table, &token, block)).unwrap();
    }

    pub fn insert_events(&self, events: &[Stored<'_>]) {
        self.insert_events_after(SECOND, events);
    }

    /// Inserts events that were received so many microseconds after they had happened.
    pub fn insert_events_after(&self, delay: i64, events: &[Stored<'_>]) {
        let mut rows = Events::default();
        for event in events {
            let Stored { partition, offset, at, source, campaign, counts, corrections, .. } =
                *event;
            let sent = event.sent.map(|sent| sent.to_string()).unwrap_or_default();
            let tally = format!("1;{sent};{counts}");
            let value = format!(
                r#"{{"event_id":"{:032x}","kind":"delivered","provider":"sendgrid","source":"{source}","occurred_at":{at},"received_at":{},"campaign":"{campaign}","provider_event":"x","request_id":"r","raw":1}}"#,
                u64::from(partition) << 32 | offset,
                at + delay,
            );
            let header = |name: &str| match name {
                "tally" => Some(tally.as_bytes()),
                "corrections" if !corrections.is_empty() => Some(corrections.as_bytes()),
                _ => None,
            };
            rows.push(Coordinates { partition, offset }, value.as_bytes(), header).unwrap();
        }
        self.insert(Table::Events, &rows.finish());
    }

    pub fn insert_alerts(&self, alerts: &[Alert]) {
        let mut rows = Alerts::default();
        for (offset, alert) in (self.inserts.load(Ordering::Relaxed) * 1000..).zip(alerts) {
            let value = serde_json::to_vec(alert).unwrap();
            rows.push(Coordinates { partition: 0, offset }, &value).unwrap();
        }
        self.insert(Table::Alerts, &rows.finish());
    }

    pub fn insert_incidents(&self, incidents: &[Incident]) {
        let mut rows = Incidents::default();
        for (offset, incident) in (self.inserts.load(Ordering::Relaxed) * 1000..).zip(incidents) {
            let value = serde_json::to_vec(incident).unwrap();
            rows.push(Coordinates { partition: 0, offset }, &value).unwrap();
        }
        self.insert(Table::Incidents, &rows.finish());
    }
}

/// Returns the alert that hard bounces of the source `acme` fire, with these ids and numbers.
pub fn alert(episode: char, numerator: u64, volume: u64, as_of: [(i32, i64); 2]) -> Alert {
    let json = format!(
        r#"{{"episode_id":"{}","rule":"hard_bounces","scope":"source","provider":"sendgrid","source":"acme","severity":"page","state":"firing","metric":"hard_bounce","width":"5m","value":0.2,"threshold":0.1,"numerator":{numerator},"volume":{volume},"started_at":{T0},"at":{T0},"runbook":"r","summary":"acme at SendGrid: hard bounces 20 %","family":"bounces","basis":"arrival","seq":1,"from":{T0},"to":{},"as_of":{{"0":{},"1":{}}}}}"#,
        episode.to_string().repeat(32),
        T0 + 300 * SECOND,
        as_of[0].1,
        as_of[1].1,
    );
    serde_json::from_str(&json).unwrap()
}

/// Returns an open incident about an alert.
pub fn incident(id: char, lead: &Alert) -> Incident {
    let json = format!(
        r#"{{"id":"{}","seq":1,"page":1,"change":"opened","state":"open","severity":"page","family":"bounces","group":"source","of":"sendgrid/acme","opened_at":{T0},"at":{T0},"lead":{},"episodes":1,"open_episodes":1,"opened_by":"{}","sources":["sendgrid/acme"],"source_count":1}}"#,
        id.to_string().repeat(32),
        serde_json::to_string(lead).unwrap(),
        lead.episode_id,
    );
    serde_json::from_str(&json).unwrap()
}
