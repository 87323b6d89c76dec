//! Queries to a real HTTP server on this machine.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use clickhouse_http::{Client, Error, Limits};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use service::{ClickHouseSettings, Secret};
use tokio::net::TcpListener;

const LIMITS: Limits = Limits { timeout: Duration::from_secs(30), answer_bytes: 1000 };
const NO_PARAMETERS: &[(&str, &str)] = &[];

/// A received request.
#[derive(Debug, Clone)]
struct Received {
    method: String,
    path_and_query: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// A server that gives every request the same answer, and keeps the requests.
struct Server {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    /// Without a status, no request is answered.
    async fn start(status: Option<u16>, body: impl Into<Bytes>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (body, requests) = (body.into(), Arc::clone(&received));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (body, requests) = (body.clone(), Arc::clone(&requests));
                let serve = service_fn(move |request| {
                    let (body, requests) = (body.clone(), Arc::clone(&requests));
                    async move {
                        let request = read(request).await;
                        requests.lock().unwrap().push(request);
                        let Some(status) = status else { std::future::pending().await };
                        let response = Response::builder().status(status);
                        Ok::<_, Infallible>(response.body(Full::new(body)).unwrap())
                    }
                });
                let io = TokioIo::new(stream);
                tokio::spawn(http1::Builder::new().serve_connection(io, serve));
            }
        });
        Self { address, received }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn client(&self) -> Client {
        client(&self.url())
    }

    fn only_request(&self) -> Received {
        let received = self.received.lock().unwrap();
        assert_eq!(received.len(), 1, "{received:?}");
        received[0].clone()
    }
}

async fn read(request: Request<Incoming>) -> Received {
    let text = |value: &hyper::header::HeaderValue| value.to_str().unwrap().to_owned();
    let method = request.method().to_string();
    let path_and_query = request.uri().to_string();
    let headers = request.headers().iter().map(|(name, value)| (name.to_string(), text(value)));
    let headers = headers.collect();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Received { method, path_and_query, headers, body }
}

fn settings(url: &str) -> ClickHouseSettings {
    ClickHouseSettings {
        url: url.to_owned(),
        ca_file: String::new(),
        certificate_file: String::new(),
        key_file: String::new(),
        cluster: String::new(),
        database: "mail pulse".to_owned(),
        user: "reader".to_owned(),
        password: Secret::new("hunter2"),
    }
}

fn client(url: &str) -> Client {
    Client::new(&settings(url), "mailpulse-test/1", &[("default_format", "JSONEachRow")]).unwrap()
}

#[tokio::test]
async fn a_query_has_its_settings_its_parameters_and_the_user() {
    let server = Server::start(Some(200), "{\"n\":1}\n").await;
    let parameters = [("source".to_owned(), "a&b=\tc"), ("n".to_owned(), "1")];
    let answer = server.client().query("SELECT {n:UInt8}", &parameters, LIMITS).await.unwrap();
    assert_eq!(answer, b"{\"n\":1}\n");
    let request = server.only_request();
    assert_eq!((request.method.as_str(), request.body.as_str()), ("POST", "SELECT {n:UInt8}"));
    assert_eq!(
        request.path_and_query,
        "/?database=mail+pulse&cancel_http_readonly_queries_on_client_close=1\
         &default_format=JSONEachRow&param_source=a%26b%3D%5Ctc&param_n=1"
    );
    assert_eq!(request.headers["x-clickhouse-user"], "reader");
    assert_eq!(request.headers["x-clickhouse-key"], "hunter2");
    assert_eq!(request.headers["user-agent"], "mailpulse-test/1");
    assert!(!request.headers.contains_key("authorization"), "{request:?}");
}

/// A proxy in front of ClickHouse can need any of them.
#[tokio::test]
async fn path_query_and_user_of_the_url_are_kept() {
    let server = Server::start(Some(200), "").await;
    let url = format!("http://gate:secret@{}/clickhouse?cluster=mail", server.address);
    let answer = client(&url).query("SELECT 1", NO_PARAMETERS, LIMITS).await.unwrap();
    assert!(answer.is_empty());
    let request = server.only_request();
    let beginning = "/clickhouse?cluster=mail&database=mail+pulse&";
    assert!(request.path_and_query.starts_with(beginning), "{request:?}");
    assert!(request.headers["authorization"].starts_with("Basic "), "{request:?}");
    assert_eq!(request.headers["x-clickhouse-user"], "reader");
}

#[tokio::test]
async fn an_answer_may_have_exactly_as_many_bytes_as_the_limit() {
    let server = Server::start(Some(200), vec![b'x'; 1000]).await;
    let answer = server.client().query("SELECT 1", NO_PARAMETERS, LIMITS).await;
    assert_eq!(answer.unwrap().len(), 1000);

    let server = Server::start(Some(200), vec![b'x'; 1001]).await;
    let error = server.client().query("SELECT 1", NO_PARAMETERS, LIMITS).await.unwrap_err();
    assert_eq!(error, Error::TooLarge(1000));
    assert_eq!(error.code(), "answer_too_large");
    assert_eq!(error.to_string(), "the answer of ClickHouse has more than 1000 bytes");
}

#[tokio::test]
async fn another_status_is_an_error_with_the_text_of_clickhouse() {
    let text = "Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE)\n";
    let server = Server::start(Some(404), text).await;
    let error = server.client().query("SELECT 1", NO_PARAMETERS, LIMITS).await.unwrap_err();
    assert_eq!(error.code(), "clickhouse_refused");
    assert_eq!(error.to_string(), format!("ClickHouse answered 404: {}", text.trim_end()));
    assert!(matches!(error, Error::Refused { exception: Some(60), .. }), "{error:?}");
}

#[tokio::test]
async fn an_error_is_never_too_large() {
    let server = Server::start(Some(502), vec![b'x'; 1 << 20]).await;
    let error = server.client().query("SELECT 1", NO_PARAMETERS, LIMITS).await.unwrap_err();
    let message = "x".repeat(1024);
    assert_eq!(error, Error::Refused { status: 502, exception: None, message });
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = Server::start(Some(307), "elsewhere").await;
    let error = server.client().query("SELECT 1", NO_PARAMETERS, LIMITS).await.unwrap_err();
    assert_eq!(error.to_string(), "ClickHouse answered 307: elsewhere");
    server.only_request();
}

#[tokio::test]
async fn the_password_is_not_part_of_an_error() {
    let server = Server::start(Some(400), "cannot understand x-clickhouse-key: hunter2").await;
    let error = server.client().query("SELECT 1", NO_PARAMETERS, LIMITS).await.unwrap_err();
    assert_eq!(error.to_string(), "ClickHouse answered 400: cannot understand x-clickhouse-key: …");

    // The URL, which reqwest adds to its errors, has parameters and can have a password.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = client(&format!("http://reader:hunter2@{closed}"));
    let parameters = [("recipient", "ada@example.com")];
    let error = client.query("SELECT 1", &parameters, LIMITS).await.unwrap_err();
    assert_eq!(error.code(), "clickhouse_away");
    let text = format!("{error} {error:?}");
    assert!(text.contains("ClickHouse cannot be reached: Connection refused"), "{text}");
    for secret in ["hunter2", "ada", &closed.to_string()] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let server = Server::start(None, "").await;
    let limits = Limits { timeout: Duration::from_millis(100), ..LIMITS };
    let error = server.client().query("SELECT 1", NO_PARAMETERS, limits).await.unwrap_err();
    assert_eq!(error, Error::Timeout(limits.timeout));
    assert_eq!(error.code(), "clickhouse_timeout");
    assert_eq!(error.to_string(), "ClickHouse did not answer within 100ms");
}

/// Returns how many requests a server got.
fn requests(server: &Server) -> usize {
    server.received.lock().unwrap().len()
}

fn client_of(urls: &[&str]) -> Client {
    client(&urls.join(", "))
}

const AWAY: &str = "http://127.0.0.1:1";

#[tokio::test]
async fn a_query_goes_to_the_first_server_that_answers() {
    let readonly = "Code: 242. DB::Exception: Table is in readonly mode. (TABLE_IS_READ_ONLY)\n";
    for first in [Some((503, "starting")), Some((500, readonly)), None] {
        let second = Server::start(Some(200), "2").await;
        let first = match first {
            Some((status, text)) => Some(Server::start(Some(status), text).await),
            None => None,
        };
        let url = first.as_ref().map_or_else(|| AWAY.to_owned(), Server::url);
        let client = client_of(&[&url, &second.url()]);
        for _ in 0..3 {
            assert_eq!(client.query("SELECT 1", NO_PARAMETERS, LIMITS).await.unwrap(), b"2");
        }
        assert_eq!(requests(&second), 3);
        assert_eq!(first.as_ref().map_or(1, requests), 1, "it is left alone for a while");
    }
}

#[tokio::test]
async fn a_query_that_is_refused_is_not_repeated_elsewhere() {
    let text = "Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE)\n";
    let (first, second) =
        (Server::start(Some(404), text).await, Server::start(Some(200), "").await);
    let client = client_of(&[&first.url(), &second.url()]);
    for _ in 0..2 {
        let error = client.query("SELECT 1", NO_PARAMETERS, LIMITS).await.unwrap_err();
        assert_eq!(error.code(), "clickhouse_refused");
    }
    assert_eq!((requests(&first), requests(&second)), (2, 0));
}

#[tokio::test]
async fn a_server_that_hangs_costs_one_query() {
    let (first, second) = (Server::start(None, "").await, Server::start(Some(200), "2").await);
    let client = client_of(&[&first.url(), &second.url()]);
    let limits = Limits { timeout: Duration::from_millis(100), ..LIMITS };
    let error = client.query("SELECT 1", NO_PARAMETERS, limits).await.unwrap_err();
    assert_eq!(error.code(), "clickhouse_timeout");
    assert_eq!(client.query("SELECT 1", NO_PARAMETERS, LIMITS).await.unwrap(), b"2");
    assert_eq!((requests(&first), requests(&second)), (1, 1));
}

/// It would be stored twice.
#[tokio::test]
async fn an_insert_is_not_repeated_if_a_server_may_have_run_it() {
    let (first, second) = (Server::start(Some(503), "").await, Server::start(Some(200), "").await);
    let client = client_of(&[AWAY, &first.url(), &second.url()]);
    let insert = "\ninsert INTO audit SELECT 1";
    let error = client.query(insert, NO_PARAMETERS, LIMITS).await.unwrap_err();
    assert!(matches!(error, Error::Refused { status: 503, .. }), "{error:?}");
    assert_eq!((requests(&first), requests(&second)), (1, 0));
    client.query(insert, NO_PARAMETERS, LIMITS).await.unwrap();
    assert_eq!((requests(&first), requests(&second)), (1, 1));
}

#[tokio::test]
async fn the_error_of_the_last_server_is_returned_if_none_answers() {
    let first = Server::start(Some(503), "starting").await;
    let client = client_of(&[&first.url(), AWAY]);
    let error = client.query("SELECT 1", NO_PARAMETERS, LIMITS).await.unwrap_err();
    assert_eq!(error.code(), "clickhouse_away");
    // All are asked again.
    client.query("SELECT 1", NO_PARAMETERS, LIMITS).await.unwrap_err();
    assert_eq!(requests(&first), 2);
}

#[tokio::test]
async fn a_proxy_may_require_a_certificate_of_the_client() {
    let server = Server::start(Some(200), "1").await;
    let dirs = devstack::Dirs::new().unwrap();
    let authority = devstack::Authority::new(&dirs).unwrap();
    let identity = authority.server().unwrap();
    let upstream = server.address.to_string();
    let front = devstack::TlsFront::start_mutual(&upstream, &identity, &authority).unwrap();
    let client = authority.client("console").unwrap();
    let path = |path: &std::path::Path| path.display().to_string();
    let mut settings = settings(&format!("https://{}", front.address()));
    settings.ca_file = path(authority.ca_file());
    let ask = async |settings: &ClickHouseSettings| {
        let client = Client::new(settings, "mailpulse-test/1", &[]).unwrap();
        client.query("SELECT 1", NO_PARAMETERS, LIMITS).await
    };
    assert_eq!(ask(&settings).await.unwrap_err().code(), "clickhouse_away");
    settings.certificate_file = path(&client.certificate);
    settings.key_file = path(&client.key);
    assert_eq!(ask(&settings).await.unwrap(), b"1");
}
