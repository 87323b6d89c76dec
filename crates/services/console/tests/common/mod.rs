//! Topics and a database with known content, and the console as a process.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use std::time::{SystemTime, UNIX_EPOCH};

use alerting::{Alert, Incident};
use archive::server::Server;
use archive::tables::{Coordinates, DeadLetters, Events, Incidents, Suppressions, Table};
use event::Provider;
use harness::{Cluster, Database, Launch, Outgoing, Response, Service, free_port, http, layout};
use serde_json::{Value, json};
use window::{Counts, Scope, ScopeRate, Width, WindowResult};

pub const SECOND: i64 = 1_000_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const VIEWER: &str = "an invented token of a viewer";
pub const INVESTIGATOR: &str = "an invented token of an investigator";

/// A group of equal events, each of another message.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    pub kind: &'static str,
    pub mailbox_provider: &'static str,
    /// What each event counts for.
    pub counts: &'static str,
    pub number: u64,
}

/// What the database has: the source sendgrid/acme has sent the campaign `spring <sale>`.
pub const MAIL: [Group; 6] = [
    Group { kind: "delivered", mailbox_provider: "gmail", counts: "delivered", number: 95 },
    Group { kind: "bounced", mailbox_provider: "gmail", counts: "bounced_hard", number: 5 },
    Group {
        kind: "delivered",
        mailbox_provider: "yahoo",
        counts: "delivered,delivered_fbl",
        number: 40,
    },
    Group { kind: "bounced", mailbox_provider: "yahoo", counts: "bounced_block", number: 10 },
    Group { kind: "opened", mailbox_provider: "gmail", counts: "opened,engaged", number: 30 },
    Group { kind: "complained", mailbox_provider: "yahoo", counts: "complained", number: 1 },
];

/// A name that must be escaped in HTML, in URLs and in SQL.
pub const CAMPAIGN: &str = "spring <sale> & 'co'/1";

pub struct Setup {
    pub cluster: Cluster,
    pub database: Database,
    server: Server,
    runtime: tokio::runtime::Runtime,
    /// When the mail was sent: the start of a minute half an hour ago, UTC microseconds.
    pub sent_at: i64,
}

impl Setup {
    /// Creates topics and tables.
    #[allow(clippy::disallowed_methods, reason = "pages show the present")]
    pub fn new(name: &str) -> Self {
        let cluster = Cluster::new(name, layout(2, 1));
        let database = Database::new(name);
        let mut settings: service::ClickHouseSettings =
            service::Settings::load(None, std::iter::empty())
                .unwrap()
                .section("clickhouse")
                .unwrap();
        settings.url.clone_from(&database.url);
        settings.database.clone_from(&database.name);
        let server = Server::new(&settings).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(archive::schema::migrate(&server)).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let sent_at = (i64::try_from(now).unwrap() / 60 - 30) * MINUTE;
        Self { cluster, database, server, runtime, sent_at }
    }

    /// Starts the console with both tokens. Returns it with the address of its pages.
    pub fn start(&self, more: &str) -> (Service, Console) {
        let address = format!("127.0.0.1:{}", free_port());
        let Database { url, name, .. } = &self.database;
        let service = Launch::new("console", env!("CARGO_BIN_EXE_console"), &self.cluster)
            .config(&format!(
                "[clickhouse]\nurl = {url:?}\ndatabase = {name:?}\n\
                 [console]\nlisten = {address:?}\n\
                 tokens = [{{ name = \"team\", role = \"viewer\", secret = {VIEWER:?} }}, \
                 {{ name = \"desk\", role = \"investigator\", secret = {INVESTIGATOR:?} }}]\n{more}"
            ))
            .start();
        (service, Console(address))
    }

    /// Inserts [`MAIL`]: message number n is to personN@….
    pub fn insert_mail(&self) {
        let mut rows = Events::default();
        let mut offset = 0;
        for group in MAIL {
            for number in 0..group.number {
                let value = self.event(group, number, offset).to_string();
                let tally = format!("1;{};{}", self.sent_at, group.counts);
                let header = |name: &str| (name == "tally").then_some(tally.as_bytes());
                rows.push(Coordinates { partition: 0, offset }, value.as_bytes(), header).unwrap();
                offset += 1;
            }
        }
        self.insert(Table::Events, "events", &rows.finish());
    }

    fn event(&self, group: Group, number: u64, offset: u64) -> Value {
        let Group { kind, mailbox_provider, .. } = group;
        // Bounces are those of other messages than deliveries.
        let number = if kind == "bounced" { 1_000 + number } else { number };
        let recipient = format!("person{number}@{mailbox_provider}.example");
        let at = self.sent_at + if kind == "opened" { 5 * MINUTE } else { 10 * SECOND };
        let mut event = json!({
            "event_id": format!("{offset:032x}"), "kind": kind, "provider": "sendgrid",
            "source": "acme", "occurred_at": at, "received_at": at + SECOND,
            "recipient": recipient, "recipient_domain": format!("{mailbox_provider}.example"),
            "mailbox_provider": mailbox_provider, "campaign": CAMPAIGN,
            "message_id": format!("<{mailbox_provider}/{number}@mail.example>"),
            "provider_event": kind, "request_id": "r", "raw": {},
        });
        if kind == "bounced" {
            event["bounce"] = json!({
                "permanence": "hard", "class": "invalid_recipient", "side": "recipient",
                "status": "5.1.1", "diagnostic": format!("550 <{recipient}> unknown <b> (person{number})"),
            });
        }
        event
    }

    /// Inserts a click of the campaign `links` on a link that names the recipient. Returns the id of the message.
    pub fn insert_click(&self) -> &'static str {
        let at = self.sent_at + MINUTE;
        let event = json!({
            "event_id": "c".repeat(32), "kind": "clicked", "provider": "sendgrid", "source": "acme",
            "occurred_at": at, "received_at": at, "recipient": "person7@gmail.example",
            "recipient_domain": "gmail.example", "mailbox_provider": "gmail", "campaign": "links",
            "message_id": "clicked", "url": "https://shop.example/u/person7@gmail.example?name=person7",
            "provider_event": "click", "request_id": "r", "raw": {},
        });
        let (value, tally) = (event.to_string(), format!("1;{};clicked,engaged", self.sent_at));
        let header = |name: &str| (name == "tally").then_some(tally.as_bytes());
        let mut rows = Events::default();
        rows.push(Coordinates { partition: 1, offset: 0 }, value.as_bytes(), header).unwrap();
        self.insert(Table::Events, "click", &rows.finish());
        "clicked"
    }

    /// Inserts two dead letters of the reason `not_json`, one of which is in the table twice, and a third one that
    /// was redriven.
    pub fn insert_dead_letters(&self) {
        let mut rows = DeadLetters::default();
        let dead = [
            ("not_json", "mail.raw.opened/0/1"),
            ("not_json", "mail.raw.opened/0/2"),
            ("not_json", "mail.raw.opened/0/2"),
            ("wrong_shape", "mail.raw.opened/0/3"),
            ("redriven", "mail.dead-letters/0/3"),
        ];
        for (offset, (reason, origin)) in (0..).zip(dead) {
            let headers: [(&str, &[u8]); 6] = [
                ("reason", reason.as_bytes()),
                ("detail", b"no JSON about ada.lovelace@mail.example (Ada.Lovelace)"),
                ("stage", b"enrich"),
                ("origin", origin.as_bytes()),
                ("provider", b"sendgrid"),
                ("source", b"acme"),
            ];
            let at = Coordinates { partition: 0, offset };
            rows.push(at, b"ada.lovelace@mail.example", b"{", &headers);
        }
        self.insert(Table::DeadLetters, "dead-letters", &rows.finish());
    }

    /// Inserts an incident, as archive does.
    pub fn insert_incident(&self, incident: &Incident) {
        let mut rows = Incidents::default();
        let value = serde_json::to_vec(incident).unwrap();
        rows.push(Coordinates { partition: 0, offset: 0 }, &value).unwrap();
        self.insert(Table::Incidents, "incidents", &rows.finish());
    }

    /// Inserts entries of four reasons, as archive does: 12 hard bounces, 3 of them provisional, and one of them final after
    /// a day; 5 complaints; 4 unsubscriptions, of which 2 were lifted and one of these was forgotten; and one of an operator.
    pub fn insert_suppressions(&self) {
        let mut rows = Suppressions::default();
        let began = self.sent_at - 86_400 * SECOND;
        let (list, recipient) = ("sendgrid/acme", format!("{:032x}", 3));
        let key = format!("{list}|{recipient}|hard_bounce||event");
        let value = json!({
            "list": list, "recipient": recipient, "reason": "hard_bounce", "author": "event",
            "state": "suppressed", "since": began, "provisional": true,
        });
        let (at, value) = (Coordinates { partition: 0, offset: 0 }, value.to_string());
        rows.push(at, Some(began), key.as_bytes(), Some(value.as_bytes())).unwrap();
        let mut offset = 1;
        let mut push = |number: u64, reason: &str, author: &str, more: &Value| {
            let list = if author == "operator" { "global" } else { "sendgrid/acme" };
            let recipient = format!("{number:032x}");
            let key = format!("{list}|{recipient}|{reason}||{author}");
            let mut value = json!({
                "list": list, "recipient": recipient, "reason": reason, "author": author,
                "state": "suppressed", "since": self.sent_at + i64::try_from(offset).unwrap() * SECOND,
            });
            value.as_object_mut().unwrap().extend(
                more.as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, value)| (name.clone(), value.clone())),
            );
            let value = (!more.is_null()).then(|| value.to_string());
            let at = Coordinates { partition: 0, offset };
            let value = value.as_deref().map(str::as_bytes);
            rows.push(at, Some(self.sent_at), key.as_bytes(), value).unwrap();
            offset += 1;
        };
        let lifted = json!({ "state": "lifted" });
        for number in 0..12 {
            let more = if number < 3 {
                json!({
                    "provisional": true, "incident": "f0".repeat(16), "mailbox_provider": "gmail",
                    "status": "5.1.1", "wording": "550 <b> see ada.lovelace@mail.example",
                })
            } else if number == 3 {
                json!({ "since": began })
            } else {
                json!({})
            };
            push(number, "hard_bounce", "event", &more);
        }
        (0..5).for_each(|number| push(number, "complaint", "event", &json!({})));
        (0..4).for_each(|number| push(number, "unsubscribe", "event", &json!({})));
        push(0, "unsubscribe", "event", &lifted);
        push(1, "unsubscribe", "lift", &lifted);
        push(0, "unsubscribe", "event", &Value::Null);
        push(99, "manual", "operator", &json!({ "note": "asked by phone", "who": "ops" }));
        self.insert(Table::Suppressions, "suppressions", &rows.finish());
    }

    /// Inserts actions of two rules: `vip` gave points 40 times to 10 recipients, 10 times in a follow-up; `warm` added 6
    /// recipients to a segment and removed 2 of them.
    pub fn insert_actions(&self) {
        let at = format!("fromUnixTimestamp64Micro({}, 'UTC')", self.sent_at);
        self.database.execute(&format!(
            "INSERT INTO actions (rule, type, at, decided_at, follow_up, recipient, kafka_offset) \
             SELECT 'vip', 'points', {at}, {at} + toIntervalMillisecond(100 * (number % 5)), number % 4 = 0, \
                 concat('person', toString(number % 10), '@mail.example'), number FROM numbers(40)"
        ));
        self.database.execute(&format!(
            "INSERT INTO actions (rule, type, name, at, recipient, kafka_offset) \
             SELECT 'warm', if(number < 6, 'segment.add', 'segment.remove'), 'warm <leads>', \
                 {at} - toIntervalSecond(number), concat('person', toString(number % 6), '@mail.example'), 100 + number \
             FROM numbers(8)"
        ));
    }

    /// Inserts predictions about 600 recipients of `shop`, a third of which engage with the next mail with a probability of
    /// 0.1, 0.2 and 0.3, and their scores; about `tiny`, which has too few; and about `off`, whose predictions were wrong.
    pub fn insert_predictions(&self) {
        let fitted = format!("toDateTime({}, 'UTC')", self.sent_at / SECOND);
        let written = format!("fromUnixTimestamp64Micro({}, 'UTC')", self.sent_at);
        for statement in [
            format!(
                "INSERT INTO fits (source, fitted_at, written_at, model, best_slot) VALUES \
                 ('shop', {fitted}, {written}, 'bg_bb', 4), ('tiny', {fitted}, {written}, 'unknown', NULL), \
                 ('off', {fitted}, {written}, 'bg_bb', NULL)"
            ),
            format!(
                "INSERT INTO engagement_histories (source, recipient, mails, engaged, last_engaged, fitted_at, written_at) \
                 SELECT source, concat('person', toString(number), '@mail.example'), 1 + number % 3, 1, 1, {fitted}, {written} \
                 FROM (SELECT arrayJoin(['shop', 'off']) AS source, number FROM numbers(600) \
                     UNION ALL SELECT 'tiny', number FROM numbers(6))"
            ),
            format!(
                "INSERT INTO odds (source, mails, engaged, last_engaged, model, next, alive, fitted_at, written_at) \
                 SELECT arrayJoin(['shop', 'off']), number + 1, 1, 1, 'bg_bb', (number + 1) / 10, 1, {fitted}, {written} \
                 FROM numbers(3)"
            ),
            format!(
                "INSERT INTO best_times (source, recipient, slot, certain, rate, rate_low, rate_high, fitted_at, written_at) \
                 SELECT 'shop', concat('person', toString(number), '@mail.example'), 4, number < 70, 0.3, 0.1, 0.5, {fitted}, \
                     {written} FROM numbers(100)"
            ),
            format!(
                "INSERT INTO scores (source, prediction, scored_at, forecasts, ece, coverage, bin_forecasts, bin_predicted, \
                     bin_happened, written_at) \
                 SELECT source, prediction, {fitted}, 2000, multiIf(prediction = 'next_ten', NULL, source = 'off', 0.09, 0.012), \
                     if(prediction = 'next_ten', 0.85, NULL), if(prediction = 'next_ten', [], arrayMap(it -> 200., range(10))), \
                     if(prediction = 'next_ten', [], arrayMap(it -> 0.05 + it * 0.03, range(10))), \
                     if(prediction = 'next_ten', [], arrayMap(it -> 0.05 + it * if(source = 'off', 0.05, 0.031), range(10))), \
                     {written} \
                 FROM (SELECT arrayJoin(['shop', 'off']) AS source, arrayJoin(['next', 'next_ten', 'best_time']) AS prediction)"
            ),
        ] {
            self.database.execute(&statement);
        }
    }

    fn insert(&self, table: Table, token: &str, block: &archive::native::Block) {
        self.runtime.block_on(self.server.insert(table, token, block)).unwrap();
    }

    /// Writes the minutes of the mail to `mail.rates`, as monitor does.
    pub fn produce_rate(&self, end: i64, counts: Counts) {
        let scope = Scope::Source { provider: Provider::SendGrid, source: "acme".to_owned() };
        let window = WindowResult::new(Width::M1, end, counts, 0);
        let value = serde_json::to_vec(&ScopeRate { scope, window }).unwrap();
        let record = Outgoing::new(&self.cluster.topics.rates, "source/sendgrid/acme", value);
        self.cluster.produce(&[record.on(0)]);
    }

    /// Writes an incident to `mail.incidents`.
    pub fn produce_incident(&self, incident: &Incident) {
        let value = serde_json::to_vec(incident).unwrap();
        let id = incident.id.to_string();
        self.cluster.produce(&[Outgoing::new(&self.cluster.topics.incidents, id, value).on(0)]);
    }

    /// Commits that archive has stored the events of [`Setup::insert_mail`].
    pub fn commit_archived(&self) {
        let topic = &self.cluster.topics.events;
        let rows = MAIL.iter().map(|group| group.number).sum::<u64>();
        let records = vec![Outgoing::new(topic, "k", "v").on(0); usize::try_from(rows).unwrap()];
        self.cluster.produce(&records);
        let group = self.cluster.topics.group("archive");
        self.cluster.commit(&group, topic, i64::try_from(rows).unwrap());
    }

    /// Returns an incident about the hard bounces at Gmail: 5 of 100, and `seq` is its number.
    pub fn incident(&self, seq: u32, numerator: u64) -> Incident {
        let alert: Alert = serde_json::from_value(json!({
            "episode_id": "000102030405060708090a0b0c0d0e0f", "rule": "hard_bounces",
            "scope": "mailbox_provider", "provider": "sendgrid", "source": "acme",
            "mailbox_provider": "gmail", "severity": "page", "state": "firing",
            "metric": "hard_bounce", "width": "5m", "value": 0.05, "threshold": 0.02,
            "numerator": numerator, "volume": 100, "started_at": self.sent_at,
            "at": self.sent_at + MINUTE, "runbook": "hard-bounces",
            "summary": "hard bounces of sendgrid/acme at <gmail>", "family": "bounces",
            "basis": "arrival", "seq": 1, "bound": 0.021, "from": self.sent_at,
            "to": self.sent_at + 5 * MINUTE,
            "as_of": { "0": MAIL.iter().map(|group| group.number).sum::<u64>() },
        }))
        .unwrap();
        serde_json::from_value(json!({
            "id": "f0".repeat(16), "seq": seq, "page": 1, "change": "opened", "state": "open",
            "severity": "page", "family": "bounces", "group": "source", "of": "sendgrid/acme",
            "opened_at": self.sent_at, "at": self.sent_at + MINUTE, "lead": alert,
            "episodes": 1, "open_episodes": 1, "opened_by": "000102030405060708090a0b0c0d0e0f",
            "sources": ["sendgrid/acme"], "source_count": 1,
        }))
        .unwrap()
    }
}

/// The pages of a started console.
pub struct Console(pub String);

impl Console {
    /// Asks for a page as a browser does, with a token.
    pub fn page(&self, token: &str, path: &str) -> Response {
        self.send("GET", path, &[("accept", "text/html"), ("authorization", &bearer(token))], "")
    }

    /// Asks for JSON with a token.
    pub fn json(&self, token: &str, path: &str) -> Response {
        self.send("GET", path, &[("authorization", &bearer(token))], "")
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let headers: Vec<(String, String)> = headers.collect();
        http::send(&self.0, method, path, &headers, body.as_bytes()).unwrap()
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}
