//! HTTPS on the port for webhooks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod common;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Client, Posting};
use common::{Ingress, genuine, header_lines};
use event::Provider;
use harness::{DEADLINE, Launch, Response, eventually, layout, seen};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, SignatureAlgorithm, date_time_ymd,
};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion, version,
};

const FAILURES: &str = "mailpulse_ingress_tls_handshake_failures_total";
const EXPIRATION: &str = "mailpulse_ingress_tls_certificate_expiration_timestamp_seconds";
const SUCCESSFUL: &str = "mailpulse_ingress_last_reload_successful";
const OF_CERTIFICATE: &[(&str, &str)] = &[("part", "tls_certificate")];
/// 2080-01-01 and 2090-01-01 in unix seconds.
const IN_2080: f64 = 3_471_292_800.0;
const IN_2090: f64 = 3_786_912_000.0;

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// An authority, and the files of the server's certificate.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    /// Returns an authority whose server has a certificate that expires in 2080.
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, directory: tempfile::tempdir().unwrap() };
        authority.issue(2080, &PKCS_ECDSA_P256_SHA256);
        authority
    }

    /// Replaces the certificate and the key of the server, each by renaming another file.
    fn issue(&self, expires: i32, algorithm: &'static SignatureAlgorithm) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = date_time_ymd(expires, 1, 1);
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write("certificate.pem", &certificate.pem());
        self.write("key.pem", &key.serialize_pem());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    /// Returns the settings of the ingress.
    fn keys(&self) -> String {
        let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| self.path(name));
        format!("tls_certificate = {certificate:?}\ntls_key = {key:?}\n")
    }

    /// Returns the configuration of a client that trusts this authority.
    fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    fn any_version(&self) -> ClientConfig {
        self.client(&[&version::TLS12, &version::TLS13])
    }
}

/// Opens a connection and completes the handshake.
fn connect(address: &str, config: &Arc<ClientConfig>) -> io::Result<Tls> {
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let mut stream = StreamOwned::new(session, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Sends an authentic request and returns the response.
fn post(ingress: &Ingress, mut stream: Tls, further_headers: &str) -> String {
    let request = genuine(ingress, Provider::Postmark);
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\
         {further_headers}{}\r\n",
        request.path,
        request.body.len(),
        header_lines(&request.headers)
    );
    stream.write_all(&[head.as_bytes(), &request.body].concat()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn await_failure(ingress: &Ingress, reason: &str) {
    ingress.service.await_metric(FAILURES, &[("reason", reason)], |failures| failures >= 1.0);
}

#[test]
fn webhooks_are_accepted_over_tls_1_2_and_1_3() {
    let authority = Authority::new();
    let ingress = Ingress::start_with(&authority.keys());
    for (version, negotiated) in
        [(&version::TLS12, ProtocolVersion::TLSv1_2), (&version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        for protocols in [vec![], vec!["h2", "http/1.1"]] {
            let mut config = authority.client(&[version]);
            config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
            let stream = connect(&ingress.address, &Arc::new(config)).unwrap();
            assert_eq!(stream.conn.protocol_version(), Some(negotiated));
            let expected = (!protocols.is_empty()).then_some(&b"http/1.1"[..]);
            assert_eq!(stream.conn.alpn_protocol(), expected);
            let response = post(&ingress, stream, "");
            assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        }
    }
    assert_eq!(ingress.service.metric(EXPIRATION, &[]), IN_2080);
    assert_eq!(ingress.service.metric(FAILURES, &[]), 0.0);
}

#[test]
fn a_certificate_is_replaced_under_load_without_a_failure() {
    let authority = Authority::new();
    let ingress = Ingress::start_with(&authority.keys());
    let config = Arc::new(authority.any_version());
    let clients = (0..3).map(|_| {
        let (address, config) = (ingress.address.clone(), Arc::clone(&config));
        let connect = move || connect(&address, &config).map(|stream| Box::new(stream) as _);
        Client::through(&ingress.address, Box::new(connect))
    });
    let posting = Posting::start(&ingress.credentials, clients.collect(), 5);
    assert!(!ingress.service.log().contains("certificate reloaded"), "the start is no reload");
    let served = || {
        let stream = connect(&ingress.address, &config).unwrap();
        stream.conn.peer_certificates().unwrap()[0].clone()
    };
    for (round, expires) in [2090, 2080, 2090, 2080].into_iter().enumerate() {
        let (before, former) = (posting.posted(), served());
        let algorithm = if round % 2 == 0 { &PKCS_RSA_SHA256 } else { &PKCS_ECDSA_P256_SHA256 };
        authority.issue(expires, algorithm);
        eventually("another certificate", DEADLINE, || {
            if served() == former { Err("the former one") } else { Ok(()) }
        });
        let expected = if expires == 2090 { IN_2090 } else { IN_2080 };
        ingress.service.await_metric(EXPIRATION, &[], |value| value == expected);
        eventually("requests to be accepted", DEADLINE, || {
            seen(posting.posted(), |posted| *posted >= before + 20)
        });
    }
    let (posted, failures) = posting.stop();
    assert!(failures.is_empty(), "{} of {posted}: {:?}", failures.len(), failures.first());
    assert_eq!(ingress.service.metric(SUCCESSFUL, OF_CERTIFICATE), 1.0);
    ingress.service.await_log("certificate reloaded");
}

#[test]
fn an_invalid_certificate_does_not_replace_the_former_one() {
    let authority = Authority::new();
    let ingress = Ingress::start_with(&authority.keys());
    let config = Arc::new(authority.any_version());
    let certificate = std::fs::read_to_string(authority.path("certificate.pem")).unwrap();
    let key = std::fs::read_to_string(authority.path("key.pem")).unwrap();
    let is_successful = |expected| {
        ingress.service.await_metric(SUCCESSFUL, OF_CERTIFICATE, |value| value == expected)
    };
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    for (name, text, code) in [
        ("key.pem", &*other_key, "tls_key_mismatch"),
        ("key.pem", "", "tls_no_key"),
        ("certificate.pem", "nothing\n", "tls_no_certificate"),
    ] {
        authority.write(name, text);
        is_successful(0.0);
        ingress.service.await_log(code);
        let response = post(&ingress, connect(&ingress.address, &config).unwrap(), "");
        assert!(response.starts_with("HTTP/1.1 200 "), "{code}: {response}");
        authority.write("certificate.pem", &certificate);
        authority.write("key.pem", &key);
        is_successful(1.0);
    }
    authority.issue(2020, &PKCS_ECDSA_P256_SHA256);
    ingress.service.await_log("tls_certificate_expired");
    is_successful(0.0);
    assert_eq!(ingress.service.metric(EXPIRATION, &[]), IN_2080);
    let response = post(&ingress, connect(&ingress.address, &config).unwrap(), "");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    // The sources are another part.
    assert_eq!(ingress.service.metric(SUCCESSFUL, &[("part", "sources")]), 1.0);
}

#[test]
fn a_client_with_another_protocol_is_refused_and_counted() {
    let authority = Authority::new();
    let ingress = Ingress::start_with(&authority.keys());
    let plain = ingress.connect_and_send(b"GET /webhooks/ HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(Response::read(plain).status, 0, "no answer in plain text");
    await_failure(&ingress, "not_tls");
    ingress.service.await_log("TLS handshake failed");

    let mut config = authority.any_version();
    config.alpn_protocols = vec![b"h2".to_vec()];
    assert!(connect(&ingress.address, &Arc::new(config)).is_err(), "HTTP/2 is not spoken");
    await_failure(&ingress, "incompatible");

    let stranger = Authority::new();
    let config = Arc::new(stranger.client(&[&version::TLS12]));
    assert!(connect(&ingress.address, &config).is_err(), "the certificate is not trusted");
    await_failure(&ingress, "rejected");

    drop(ingress.connect());
    await_failure(&ingress, "closed");
    assert!(!ingress.service.log().contains("reason=\"closed\""), "as load balancers check");

    let config = Arc::new(authority.any_version());
    let response = post(&ingress, connect(&ingress.address, &config).unwrap(), "");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

#[test]
fn a_slow_handshake_is_closed_and_delays_nobody() {
    let authority = Authority::new();
    let keys = format!("read_timeout = \"2s\"\nmax_connections = 3\n{}", authority.keys());
    let ingress = Ingress::start_with(&keys);
    let begun = Instant::now();
    // One sends nothing, and one sends the beginning of a record now and then.
    let silent = ingress.connect();
    let mut slow = ingress.connect_and_send(&[0x16, 3, 1, 2, 0, 1]);
    let config = Arc::new(authority.any_version());
    let response = post(&ingress, connect(&ingress.address, &config).unwrap(), "");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    while slow.write_all(&[0]).is_ok() && begun.elapsed() < DEADLINE {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(Response::read(silent).status, 0);
    ingress.service.await_metric(FAILURES, &[("reason", "timeout")], |failures| failures == 2.0);
    let limit = [("limit", "head_timeout")];
    assert_eq!(ingress.service.metric("mailpulse_ingress_limit_hits_total", &limit), 2.0);
    assert!(begun.elapsed() >= Duration::from_secs(2) && begun.elapsed() < DEADLINE);

    // Handshakes are connections: when there is no room, the one that has waited longest is closed.
    let waiting: Vec<_> = (0..3).map(|_| ingress.connect()).collect();
    let response = post(&ingress, connect(&ingress.address, &config).unwrap(), "");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    drop(waiting);
    let limit = [("limit", "connections")];
    ingress.service.await_metric("mailpulse_ingress_limit_hits_total", &limit, |hits| hits >= 1.0);
}

#[test]
fn the_client_behind_a_proxy_is_known_over_tls_too() {
    let authority = Authority::new();
    let keys = format!(
        "trusted_proxies = [\"127.0.0.0/8\"]\n{}[[source]]\nprovider = \"postmark\"\n\
         name = \"listed\"\nallow_ips = [\"192.0.2.0/24\"]\n",
        authority.keys()
    );
    let ingress = Ingress::start_with(&keys);
    let config = Arc::new(authority.any_version());
    for (from, status) in [("192.0.2.7", "200"), ("198.51.100.7", "403")] {
        let mut stream = connect(&ingress.address, &config).unwrap();
        let body = "{\"RecordType\":\"Delivery\",\"MessageID\":\"m-1\",\"Recipient\":\"ada@example.com\",\
                    \"DeliveredAt\":\"2026-11-21T10:00:00Z\"}";
        let request = format!(
            "POST /webhooks/postmark/listed HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {from}\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{from}: {text}");
    }
}

#[test]
fn a_certificate_that_cannot_be_used_prevents_the_start() {
    let authority = Authority::new();
    let cluster = harness::Cluster::existing("127.0.0.1:1", "t.", layout(2, 1));
    authority.write("key.pem", &KeyPair::generate().unwrap().serialize_pem());
    let check = |keys: &str| {
        let launch = Launch::new("ingress", env!("CARGO_BIN_EXE_ingress"), &cluster)
            .config(&format!("[ingress]\n{keys}"));
        launch.argument("--check").run()
    };
    let (status, log) = check(&authority.keys());
    assert!(!status.success(), "{log}");
    assert!(log.contains("ingress.tls_certificate") && log.contains("does not belong"), "{log}");
    let (status, log) = check("tls_key = \"key.pem\"\n");
    assert!(!status.success() && log.contains("set both"), "{log}");
    authority.issue(2080, &PKCS_ECDSA_P256_SHA256);
    let (status, log) = check(&authority.keys());
    assert!(status.success(), "{log}");
}
