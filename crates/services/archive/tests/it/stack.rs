//! Topics and a database of one test, and archive as a process.

use archive::server::Server;
use archive::tables::Table;
use harness::{Cluster, Database, Launch, Outgoing, Service, layout};

/// Topics with two partitions each (one for scopes), and a database.
pub struct Stack {
    pub cluster: Cluster,
    pub database: Database,
    runtime: tokio::runtime::Runtime,
}

impl Stack {
    /// Creates topics, and uses the shared ClickHouse.
    pub fn new() -> Self {
        Self::on(harness::shared_clickhouse())
    }

    /// Creates topics, and uses another ClickHouse.
    pub fn on(url: &str) -> Self {
        let stack = Self::with(Database::on(url, "archive"));
        stack.cluster.create_topics();
        stack
    }

    /// Leaves the topics to archive.
    pub fn without_topics() -> Self {
        Self::with(Database::new("archive"))
    }

    fn with(database: Database) -> Self {
        let cluster = Cluster::without_topics("archive", layout(2, 1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { cluster, database, runtime }
    }

    /// Returns the launch of archive. Its batches are small, and it has the same name at every start,
    /// so that a killed member's partitions come back at once.
    pub fn launch(&self) -> Launch {
        let Database { url, name, .. } = &self.database;
        Launch::new("archive", env!("CARGO_BIN_EXE_archive"), &self.cluster)
            .config(&format!(
                "[clickhouse]\nurl = {url:?}\ndatabase = {name:?}\n\
                 [archive]\nbatch_rows = 500\nbatch_wait = \"50ms\"\nretry_max = \"1s\"\n"
            ))
            .instance("one")
            .env("MAILPULSE__SERVICE__LOG", "archive=info,error")
    }

    /// Starts archive and returns at once.
    pub fn start(&self) -> Service {
        self.launch().spawn()
    }

    /// Creates the tables without starting archive.
    pub fn migrate(&self) {
        migrate(&self.runtime, &self.database);
    }

    /// Inserts rows without Kafka.
    pub fn insert(&self, table: Table, block: &archive::native::Block) {
        let server = server(&self.database);
        self.runtime.block_on(server.insert(table, "rows of a test", block)).unwrap();
    }

    /// Produces records in transactions of `size` records, as all producers of the pipeline do, so
    /// that offsets have gaps.
    pub fn produce(&self, records: &[Outgoing], size: usize) {
        let id = self.cluster.name("producer");
        self.cluster.transactional_producer(&id).produce_in_transactions(records, size);
    }
}

/// Creates the tables of a database.
pub fn migrate(runtime: &tokio::runtime::Runtime, database: &Database) {
    runtime.block_on(archive::schema::migrate(&server(database))).unwrap();
}

fn server(database: &Database) -> Server {
    let mut settings: service::ClickHouseSettings =
        service::Settings::load(None, std::iter::empty()).unwrap().section("clickhouse").unwrap();
    settings.url.clone_from(&database.url);
    settings.database.clone_from(&database.name);
    Server::new(&settings).unwrap()
}

/// Returns a record with the key that all records of these tests have.
pub fn record(topic: &str, partition: i32, value: &[u8], headers: &[(&str, &[u8])]) -> Outgoing {
    Outgoing::new(topic, "ada@example.com", value).on(partition).headers(headers)
}
