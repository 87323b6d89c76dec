//! An ingress for one test: the real binary, real requests over TCP, real Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use std::io::Write;
use std::net::TcpStream;

use event::Provider;
use harness::{Cluster, Launch, Record, Response, Service, free_port, http, layout};
use testkit::{Credentials, Plan, SignedRequest, Traffic};

/// Longer than a request takes on a machine whose cores are all loaded. A request that Kafka does not
/// acknowledge within `ack_timeout` is spooled and may be published twice.
///
/// Tests that count records do without time records.
const DEFAULTS: &str = "read_timeout = \"20s\"\nack_timeout = \"20s\"\ntime_every = \"0s\"\n";

/// An ingress with its own topics, spool and sources.
pub struct Ingress {
    pub service: Service,
    pub address: String,
    pub credentials: Credentials,
    pub cluster: Cluster,
}

impl Ingress {
    /// Starts an ingress on the shared Kafka.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts an ingress on the shared Kafka, with further keys of `[ingress]` and, after them,
    /// further tables. Requests go to Kafka at once.
    pub fn start_with(keys: &str) -> Self {
        let ingress = Self::launch(cluster(harness::shared_kafka()), keys);
        // On a slow machine the first answer of Kafka comes after the service is ready.
        ingress.service.await_metric("mailpulse_ingress_spooling", &[], |spooling| spooling == 0.0);
        ingress
    }

    /// Starts an ingress on a Kafka that the test stops. Requests soon go to the spool.
    pub fn start_on(kafka: &str, keys: &str) -> Self {
        Self::launch(cluster(kafka), &format!("ack_timeout = \"2s\"\n{keys}"))
    }

    fn launch(cluster: Cluster, keys: &str) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let credentials = Credentials::new(&format!("http://{address}"));
        let home = tempfile::tempdir().unwrap();
        credentials.write_certificates(home.path()).unwrap();
        let defaults = DEFAULTS.lines().filter(|line| {
            let (key, _) = line.split_once(' ').unwrap();
            !keys.contains(key)
        });
        let defaults: Vec<&str> = defaults.collect();
        let settings = format!(
            "[ingress]\nlisten = {address:?}\ndrain_delay = \"200ms\"\nsns_certificates = {:?}\n\
             spool_directory = {:?}\n{}\n{keys}\n{}",
            home.path(),
            home.path().join("spool"),
            defaults.join("\n"),
            credentials.sources_toml()
        );
        let service = Launch::new("ingress", env!("CARGO_BIN_EXE_ingress"), &cluster)
            .config(&settings)
            .spawn_in(home);
        service.await_ready();
        Self { service, address, credentials, cluster }
    }

    /// Kills the process with SIGKILL and starts it again on the files it left.
    pub fn kill_and_start(&mut self) {
        self.service.kill();
        self.service.restart();
    }

    /// Returns every byte in the spool.
    pub fn spooled(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.service.home().join("spool")).unwrap();
        files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }

    pub fn post(&self, request: &SignedRequest) -> Response {
        self.send("POST", &request.path, &request.headers, &request.body)
    }

    /// Posts a body with these headers.
    pub fn post_body(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        self.send("POST", path, &headers.iter().map(owned).collect::<Vec<_>>(), body)
    }

    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Response {
        http::send(&self.address, method, path, headers, body).unwrap()
    }

    /// Opens a connection.
    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).unwrap()
    }

    /// Opens a connection and sends these bytes.
    pub fn connect_and_send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        stream
    }

    /// Returns all records of these topics, once there are `count` and a second has passed without
    /// a further one.
    pub fn records(&self, topics: &[&str], count: usize) -> Vec<Record> {
        self.cluster.reader(topics).records(count)
    }

    /// Returns the topics that the ingress publishes to.
    pub fn all_topics(&self) -> Vec<&str> {
        let topics = &self.cluster.topics;
        topics.all_raw().chain([topics.dead_letters.as_str()]).collect()
    }
}

fn cluster(kafka: &str) -> Cluster {
    Cluster::on(kafka, "ingress", layout(2, 1))
}

/// Returns the status and the code of a problem; the code is empty if the request was accepted.
pub fn outcome(response: &Response) -> (u16, String) {
    (response.status, response.json()["code"].as_str().unwrap_or_default().to_owned())
}

#[allow(clippy::disallowed_methods, reason = "signatures are valid for a limited time")]
pub fn now_unix() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// Returns headers as they are sent, such as the credentials of a request.
pub fn header_lines(headers: &[(String, String)]) -> String {
    headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

/// Returns the configured source of the generic provider.
pub fn generic_source() -> &'static str {
    let named = |(provider, name)| (provider == Provider::Generic).then_some(name);
    testkit::SOURCES.into_iter().find_map(named).unwrap()
}

pub fn traffic(ingress: &Ingress) -> Traffic {
    Traffic::new(1, Plan::small(&ingress.credentials, now_unix()))
}

/// Returns the first authentic request of a provider.
pub fn genuine(ingress: &Ingress, provider: Provider) -> SignedRequest {
    let path = format!("/webhooks/{provider}/");
    let traffic = traffic(ingress);
    traffic.requests().find(|request| request.path.starts_with(&path)).unwrap()
}
