//! Clients without a login cannot keep others from the console.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alerting::RuleSet;
use console::access::Access;
use console::archived::Archived;
use console::audit::Audit;
use console::live::Live;
use console::pages::Pages;
use console::routes::Routes;
use console::store::{Limits, Store};
use kafka::Connection;
use record::Topics;
use service::connections::{ConnectionLimits, Server};
use service::timed_stream::StreamTimeouts;
use service::{Settings, Shutdown};
use tokio::sync::Semaphore;

const TIMEOUT: Duration = Duration::from_millis(500);

/// How long a test waits for what must happen.
const DEADLINE: Duration = Duration::from_secs(30);

const GET: &str = "GET /login HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Serves an open console on this machine until the process ends. Neither Kafka nor ClickHouse is there.
fn start(limits: ConnectionLimits) -> SocketAddr {
    let clickhouse = Settings::load(None, std::iter::empty()).unwrap().section("clickhouse");
    let store = Limits { timeout: Duration::from_secs(1), queries: 1 };
    let routes = Routes {
        access: Access::new(Vec::new(), None, true, 3600, false),
        pages: Pages {
            store: Store::new(&clickhouse.unwrap(), store).unwrap(),
            live: Arc::new(Live::default()),
            page_settings: alerting::page::PageSettings::default(),
            archived: Archived::new(Connection::default(), Topics::new("")),
            audit: Audit::default(),
            rules_by_weekday: recount::rules_by_weekday(&RuleSet::defaults()),
        },
        live_turns: Arc::new(Semaphore::new(10)),
        shutdown: Shutdown::new(),
    };
    let (sender, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server =
                Server::open("127.0.0.1:0".parse().unwrap(), "console.listen").await.unwrap();
            sender.send(server.address()).unwrap();
            server.serve(Arc::new(routes), limits, &Shutdown::new()).await;
        });
    });
    address.recv().unwrap()
}

fn limits(connections: usize, per_client: usize) -> ConnectionLimits {
    let timeouts = StreamTimeouts { head: TIMEOUT, idle: TIMEOUT, write: TIMEOUT };
    ConnectionLimits { connections, per_client, timeouts, ..console::server::limits(0) }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Returns whether a request on a connection is answered.
fn is_answered(mut stream: &TcpStream) -> bool {
    let mut beginning = [0; 12];
    let answered =
        stream.write_all(GET.as_bytes()).and_then(|()| stream.read_exact(&mut beginning));
    answered.is_ok() && beginning == *b"HTTP/1.1 200"
}

#[test]
fn clients_that_send_requests_and_read_nothing_are_given_up() {
    let address = start(limits(3, 100));
    let script = "GET /assets/uplot.js HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1000);
    let greedy: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = connect(address);
            stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            // The console does not take all of them.
            let _ = stream.write_all(script.as_bytes());
            stream
        })
        .collect();
    let started = Instant::now();
    assert!(is_answered(&connect(address)), "after {:?}", started.elapsed());
    drop(greedy);
}

#[test]
fn clients_that_send_nothing_are_given_up() {
    let address = start(limits(3, 100));
    let silent: Vec<_> = (0..3).map(|_| connect(address)).collect();
    let idle = connect(address);
    assert!(is_answered(&idle));
    let further: Vec<_> = (0..2).map(|_| connect(address)).collect();
    assert!(is_answered(&connect(address)));
    drop((silent, idle, further));
}

#[test]
fn one_client_cannot_take_all_connections() {
    let timeouts = StreamTimeouts { head: DEADLINE, idle: DEADLINE, write: DEADLINE };
    let patient = ConnectionLimits { timeouts, ..limits(100, 2) };
    let address = start(patient.clone());
    let mut first = vec![connect(address), connect(address)];
    assert!(first.iter().all(is_answered));
    assert!(!is_answered(&connect(address)), "it is the third one");
    first.pop();
    let started = Instant::now();
    while !is_answered(&connect(address)) {
        assert!(started.elapsed() < DEADLINE, "a connection was closed");
        std::thread::sleep(Duration::from_millis(10));
    }

    let proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let address = start(ConnectionLimits { proxies, ..patient });
    let many: Vec<_> = (0..10).map(|_| connect(address)).collect();
    assert!(many.iter().all(is_answered), "a proxy carries everybody");
}

#[test]
fn live_numbers_are_no_idle_connection() {
    let address = start(limits(3, 100));
    let mut stream = connect(address);
    stream.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut buffer = [0; 4096];
    let read = stream.read(&mut buffer).unwrap();
    assert!(buffer[..read].starts_with(b"HTTP/1.1 200"), "{:?}", &buffer[..read]);
    stream.set_read_timeout(Some(4 * TIMEOUT)).unwrap();
    let ended = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
                break false;
            }
        }
    };
    assert!(!ended, "the stream goes on");
}
