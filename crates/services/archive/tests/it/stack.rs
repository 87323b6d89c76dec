//! What the tests share: a database and topics of their own, the archive as a process, and time
//! limits instead of sleeps.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use record::{Layout, Topics};

pub const PATIENCE: Duration = Duration::from_secs(90);

/// Topics with two partitions each (one for scopes) and a database, of one test alone.
pub struct Stack {
    pub topics: Topics,
    pub database: String,
    pub url: String,
    pub layout: Layout,
    runtime: tokio::runtime::Runtime,
}

pub struct Outgoing<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub value: &'a [u8],
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl Stack {
    pub fn new() -> Self {
        Self::on(devstack::shared_clickhouse())
    }

    /// With topics, on a ClickHouse of one's own.
    pub fn on(url: &str) -> Self {
        let stack = Self::without_topics(url);
        let specs = stack.topics.specs(stack.layout);
        let connection = connection();
        let created = kafka::admin::create_topics(&connection, &specs, PATIENCE);
        stack.runtime.block_on(created).unwrap();
        stack
    }

    /// For what needs ClickHouse alone.
    pub fn without_topics(url: &str) -> Self {
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let topics = Topics::new(&format!("{name}."));
        let layout = Layout {
            recipient_partitions: 2,
            scope_partitions: 1,
            replication: 1,
            dedupe_horizon_hours: 72,
        };
        Self { topics, database: name, url: url.to_owned(), layout, runtime }
    }

    /// The archive as a process, with further settings by their environment names.
    pub fn command(&self, further: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_archive"));
        command
            .current_dir(std::env::temp_dir())
            .env("MAILPULSE__KAFKA__BOOTSTRAP", devstack::shared_kafka())
            .env("MAILPULSE__KAFKA__PREFIX", &self.topics.prefix)
            .env("MAILPULSE__TOPICS__RECIPIENT_PARTITIONS", "2")
            .env("MAILPULSE__TOPICS__SCOPE_PARTITIONS", "1")
            .env("MAILPULSE__TOPICS__REPLICATION", "1")
            .env("MAILPULSE__CLICKHOUSE__URL", &self.url)
            .env("MAILPULSE__CLICKHOUSE__DATABASE", &self.database)
            .env("MAILPULSE__ARCHIVE__BATCH_ROWS", "500")
            .env("MAILPULSE__ARCHIVE__BATCH_WAIT", "50ms")
            .env("MAILPULSE__ARCHIVE__RETRY_MAX", "1s")
            // The same name at every start: a killed member's partitions come back at once.
            .env("MAILPULSE__SERVICE__INSTANCE", "one")
            .env("MAILPULSE__SERVICE__LOG", "archive=info,error")
            .stdin(Stdio::null());
        for (name, value) in further {
            command.env(name, value);
        }
        command
    }

    pub fn start(&self, further: &[(&str, &str)]) -> Archive {
        let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut command = self.command(further);
        let child = command.env("MAILPULSE__ARCHIVE__ADMIN", &admin).spawn().unwrap();
        Archive { child, admin }
    }

    /// Makes the tables without starting the archive.
    pub fn migrate(&self) {
        let settings = toml_settings(&self.url, &self.database);
        let server = archive::server::Server::new(&settings);
        self.runtime.block_on(archive::schema::migrate(&server)).unwrap();
    }

    pub fn create_database(&self) {
        let create = format!("CREATE DATABASE {}", self.database);
        let client = clickhouse::Client::default().with_url(&self.url);
        self.runtime.block_on(client.query_raw(&create).execute()).unwrap();
    }

    pub fn execute(&self, sql: &str) {
        self.runtime.block_on(self.client().query_raw(sql).execute()).unwrap();
    }

    pub fn ask<T>(&self, sql: &str) -> T
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        self.try_ask(sql).unwrap()
    }

    pub fn try_ask<T>(&self, sql: &str) -> clickhouse::error::Result<T>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        self.runtime.block_on(self.client().query_raw(sql).fetch_one())
    }

    /// An answer in a format of ClickHouse's.
    pub fn fetch(&self, sql: &str, format: &str) -> Vec<u8> {
        let query = self.client().query_raw(sql);
        self.runtime
            .block_on(async { query.fetch_bytes(format).unwrap().collect().await })
            .unwrap()
            .to_vec()
    }

    /// Rows of a table; 0 while there is no such table or no ClickHouse.
    pub fn count(&self, table: &str) -> u64 {
        self.try_ask(&format!("SELECT count() FROM {table}")).unwrap_or(0)
    }

    pub fn await_count(&self, table: &str, expected: u64) {
        let enough = || self.count(table) >= expected;
        wait_until(&format!("{expected} rows in {table}"), enough);
        assert_eq!(self.count(table), expected, "rows in {table}");
    }

    /// Sends records in transactions of so many, as all our producers do, so that offsets have
    /// gaps; one more transaction than needed is aborted on the way.
    pub fn produce(&self, records: &[Outgoing<'_>], per_transaction: usize) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", devstack::shared_kafka())
            .set("transactional.id", format!("{}producer", self.topics.prefix))
            .create()
            .unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        for (number, chunk) in records.chunks(per_transaction).enumerate() {
            if number == 1 {
                producer.begin_transaction().unwrap();
                send(&producer, &chunk[0]);
                delivered(&producer);
                producer.abort_transaction(PATIENCE).unwrap();
            }
            producer.begin_transaction().unwrap();
            chunk.iter().for_each(|record| send(&producer, record));
            delivered(&producer);
            producer.commit_transaction(PATIENCE).unwrap();
        }
    }

    fn client(&self) -> clickhouse::Client {
        clickhouse::Client::default()
            .with_url(&self.url)
            .with_compression(clickhouse::Compression::None)
            .with_setting("database", &self.database)
    }
}

fn send(producer: &BaseProducer, record: &Outgoing<'_>) {
    let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(*value) })
    });
    let mut message = BaseRecord::<[u8], [u8]>::to(record.topic)
        .partition(record.partition)
        .key(&b"ada@example.com"[..])
        .payload(record.value)
        .headers(headers);
    while let Err((_, back)) = producer.send(message) {
        producer.poll(Duration::from_millis(5));
        message = back;
    }
}

/// Nobody else takes the delivery reports.
fn delivered(producer: &BaseProducer) {
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(5));
    }
}

pub fn connection() -> kafka::Connection {
    kafka::Connection {
        bootstrap: devstack::shared_kafka().to_owned(),
        instance: "test".into(),
        static_member: false,
        group_protocol: "consumer".into(),
        compression: "lz4".into(),
        ..Default::default()
    }
}

pub fn toml_settings(url: &str, database: &str) -> service::ClickHouseSettings {
    let mut settings: service::ClickHouseSettings =
        service::Settings::load(None, std::iter::empty()).unwrap().section("clickhouse").unwrap();
    settings.url = url.to_owned();
    settings.database = database.to_owned();
    settings
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The archive's process; killed when dropped.
pub struct Archive {
    child: Child,
    admin: String,
}

impl Archive {
    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// An answer of the admin port; empty when there is none.
    pub fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut socket) = TcpStream::connect(&self.admin) {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let _ = socket.write_all(request.as_bytes());
            let _ = socket.read_to_string(&mut answer);
        }
        answer
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
