//! Topics of one test, events, members as processes, and questions to them.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use event::{EventId, Kind};
use harness::{
    Cluster, DEADLINE, Database, Launch, Outgoing, Response, Service, eventually, free_port, http,
    layout, records,
};
use privacy::ErasureKey;
use record::{TimeRecord, names};
use serde_json::{Value, json};
use suppression::{RecipientKey, entry::EntryFacts, table::Table};

pub const PARTITIONS: i32 = 3;
pub const KEY: &str = "a key of the tests alone";
pub const READER: &str = "a token of the shop";
pub const OPERATOR: &str = "a token of the desk";
pub const DAY: i64 = 86_400;
/// The time of the first event, seconds since 1970.
pub const START: i64 = 1_780_000_000;

/// The id of the next event.
static NEXT: AtomicU64 = AtomicU64::new(1);

pub struct Setup {
    pub cluster: Cluster,
    pub database: Option<Database>,
}

/// A member with its API.
pub struct Member {
    pub service: Service,
    pub api: String,
}

impl Setup {
    pub fn new(name: &str) -> Self {
        Self { cluster: Cluster::new(name, layout(PARTITIONS, 1)), database: None }
    }

    /// Creates the tables too.
    pub fn with_tables(name: &str) -> Self {
        let database = Database::new(name);
        let mut settings: service::ClickHouseSettings =
            service::Settings::load(None, std::iter::empty())
                .unwrap()
                .section("clickhouse")
                .unwrap();
        settings.url.clone_from(&database.url);
        settings.database.clone_from(&database.name);
        let server = archive::server::Server::new(&settings).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(archive::schema::migrate(&server)).unwrap();
        Self { database: Some(database), ..Self::new(name) }
    }

    pub fn launch(&self, instance: &str, more: &str) -> (Launch, String) {
        let api = format!("127.0.0.1:{}", free_port());
        let clickhouse = self.database.as_ref().map_or_else(
            || "[clickhouse]\nurl = \"http://127.0.0.1:1\"\n".to_owned(),
            |it| format!("[clickhouse]\nurl = {:?}\ndatabase = {:?}\n", it.url, it.name),
        );
        let launch = Launch::new("suppress", env!("CARGO_BIN_EXE_suppress"), &self.cluster)
            .instance(instance)
            .config(&format!(
                "{clickhouse}[privacy]\nerasure_key = {KEY:?}\n\
                 [suppress]\nlisten = {api:?}\n\
                 tokens = [{{ name = \"shop\", role = \"reader\", secret = {READER:?} }}, \
                 {{ name = \"desk\", role = \"operator\", secret = {OPERATOR:?} }}]\n{more}\n\
                 [[source]]\nprovider = \"ses\"\nname = \"news\"\n\
                 [[source]]\nprovider = \"ses\"\nname = \"other\"\n"
            ));
        (launch, api)
    }

    pub fn start(&self, instance: &str, more: &str) -> Member {
        let (launch, api) = self.launch(instance, more);
        Member { service: launch.start(), api }
    }

    /// Returns an event of the source `ses/news` at a number of seconds after [`START`].
    pub fn event(&self, kind: Kind, recipient: &str, at: i64, more: &Value) -> Outgoing {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (id, at) = (EventId(u128::from(number).to_be_bytes()), (START + at) * 1_000_000);
        let mut value = json!({
            "event_id": id.to_string(), "kind": kind, "provider": "ses", "source": "news",
            "occurred_at": at, "received_at": at, "recipient": recipient,
            "mailbox_provider": "gmail", "message_id": number.to_string(),
        });
        let fields = value.as_object_mut().unwrap();
        fields.extend(more.as_object().cloned().unwrap_or_default());
        for (name, rest) in
            [("provider_event", json!("x")), ("request_id", json!("r")), ("raw", json!({}))]
        {
            fields.insert(name.to_owned(), rest);
        }
        let record = records::event(
            &self.cluster.topics,
            recipient,
            value.to_string(),
            (id, kind, at),
            "kind",
        );
        record.header(names::TALLY, format!("1;{at};"))
    }

    pub fn bounce(&self, recipient: &str, at: i64, (permanence, side): (&str, &str)) -> Outgoing {
        let class = match side {
            "recipient" => "invalid_recipient",
            "sender" => "reputation",
            _ => "technical",
        };
        let bounce = json!({"bounce": {
            "permanence": permanence, "class": class, "side": side, "status": "5.1.1",
            "diagnostic": format!("550 5.1.1 <{recipient}>: no such user"),
        }});
        self.event(Kind::Bounced, recipient, at, &bounce)
    }

    /// Returns a time record for every partition, this many seconds after [`START`].
    pub fn time(&self, at: i64) -> Vec<Outgoing> {
        let time = TimeRecord { time: (START + at) * 1_000_000, id: None, is_last: false };
        let of = |partition| {
            let record = Outgoing::new(&self.cluster.topics.events, "", "").on(partition);
            time.headers().fold(record, |record, (name, value)| record.header(name, value))
        };
        (0..PARTITIONS).map(of).collect()
    }

    /// Produces events and returns when they are processed.
    pub fn process(&self, events: &[Outgoing]) {
        self.cluster.produce(events);
        self.await_processed();
    }

    pub fn await_processed(&self) {
        let topics = &self.cluster.topics;
        self.cluster.await_all_read(&topics.group("suppress"), &topics.events);
    }

    /// Returns what a replay of `mail.suppressions` gives: the rows by key.
    pub fn replay(&self) -> BTreeMap<String, (String, i64)> {
        let table = Table::default();
        for record in self.cluster.read_settled(&self.cluster.topics.suppressions) {
            let key = std::str::from_utf8(&record.key).unwrap();
            let key = suppression::EntryKey::parse(key).unwrap();
            let facts: Option<EntryFacts> =
                record.value.as_deref().map(|value| serde_json::from_slice(value).unwrap());
            table.apply(&key, facts);
        }
        let mut rows = BTreeMap::new();
        table.for_each(|recipient, form, since| {
            let key = format!(
                "{}|{recipient}|{:?}|{}|{:?}",
                form.list, form.reason, form.scope, form.author
            );
            rows.insert(key, (format!("{:?}", form.state), since));
        });
        rows
    }
}

impl Member {
    pub fn send(&self, method: &str, path: &str, token: &str, body: &str) -> Response {
        let headers = [("authorization".to_owned(), format!("Bearer {token}"))];
        http::send(&self.api, method, path, &headers, body.as_bytes()).unwrap()
    }

    pub fn get(&self, path: &str) -> Value {
        let response = self.send("GET", path, READER, "");
        assert_eq!(response.status, 200, "{path}: {}", response.text);
        response.json()
    }

    /// Returns the reasons why an address must not be mailed.
    pub fn reasons(&self, address: &str, query: &str) -> Vec<String> {
        let answer = self.get(&format!("/suppressions/{address}{query}"));
        let reasons = answer["reasons"].as_array().unwrap();
        reasons.iter().map(|reason| reason.as_str().unwrap().to_owned()).collect()
    }

    /// Waits until an address has these reasons, in the order of their names in the API.
    pub fn await_reasons(&self, address: &str, query: &str, expected: &[&str]) {
        eventually(&format!("{address}{query} to be {expected:?}"), DEADLINE, || {
            let reasons = self.reasons(address, query);
            if reasons == expected { Ok(()) } else { Err(format!("{reasons:?}")) }
        });
    }

    /// Follows the delta feed from a cursor until this number of changes was read. A transaction becomes visible on one
    /// partition after the other.
    pub fn follow_until(&self, cursor: &str, limit: usize, count: usize) -> (Vec<Value>, String) {
        let (mut changes, mut cursor) = (Vec::new(), cursor.to_owned());
        eventually(&format!("{count} changes"), DEADLINE, || {
            let (more, next) = self.follow(&cursor, limit);
            changes.extend(more);
            cursor = next;
            if changes.len() >= count { Ok(()) } else { Err(format!("{changes:?}")) }
        });
        assert_eq!(changes.len(), count, "{changes:?}");
        (changes, cursor)
    }

    /// Follows the delta feed from a cursor to its end, this many changes at a time. Returns the changes and the cursor.
    pub fn follow(&self, cursor: &str, limit: usize) -> (Vec<Value>, String) {
        let (mut changes, mut cursor) = (Vec::new(), cursor.to_owned());
        loop {
            let answer = self.get(&format!("/suppressions?since={cursor}&limit={limit}"));
            changes.extend(answer["changes"].as_array().unwrap().iter().cloned());
            answer["cursor"].as_str().unwrap().clone_into(&mut cursor);
            if answer["more"] == false {
                return (changes, cursor);
            }
        }
    }
}

/// Returns the digest of an address. It is that of [`KEY`].
pub fn digest(address: &str) -> String {
    let keys = RecipientKey::new(ErasureKey::new(KEY.as_bytes()).unwrap(), None);
    keys.of_address(address).unwrap().to_string()
}
