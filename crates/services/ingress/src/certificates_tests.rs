//! The two requests that SNS needs in production, against a TLS server of the test's own authority.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use event::Provider;
use providers::Content;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use testkit::{Credentials, SignedRequest, sign};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::admission::{Admission, AdmissionControl, UnverifiedRequest};
use crate::heavy_work::HeavyWork;
use crate::problem::Problem;
use crate::settings::IngressSettings;
use crate::sources::Sources;

const HOST: &str = "sns.eu-west-1.amazonaws.com";
const NOW: i64 = 1_795_300_000;

/// A server that claims to be SNS, and the client that believes it.
struct FakeSns {
    client: reqwest::Client,
    /// The paths of all requests.
    paths: Arc<Mutex<Vec<String>>>,
}

impl FakeSns {
    /// Starts a server. `respond` returns the status and the body for a path.
    async fn start(respond: impl Fn(&str) -> (u16, Vec<u8>) + Send + 'static) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = authority.self_signed(&root_key).unwrap();
        let issuer = Issuer::from_params(&authority, &root_key);
        let own = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        let own = own.signed_by(&key, &issuer).unwrap();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], private)
            .unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let paths = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(serve(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            Arc::clone(&paths),
            respond,
        ));
        let root = reqwest::Certificate::from_der(root.der()).unwrap();
        let builder = resolving(address).tls_certs_only([root]);
        Self { client: https_client(builder).unwrap(), paths }
    }

    fn cache(&self) -> CertificateCache {
        CertificateCache::from_source(CertificateSource::Https(self.client.clone()))
    }

    fn paths(&self) -> Vec<String> {
        self.paths.lock().unwrap().clone()
    }
}

/// Sends requests for SNS to the address.
fn resolving(address: SocketAddr) -> reqwest::ClientBuilder {
    reqwest::Client::builder().resolve(HOST, address)
}

async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    paths: Arc<Mutex<Vec<String>>>,
    respond: impl Fn(&str) -> (u16, Vec<u8>),
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        // A client that does not trust the certificate ends the handshake.
        let Ok(mut stream) = tls.accept(stream).await else { continue };
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or(0) > 0 {}
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let (status, body) = respond(&path);
        paths.lock().unwrap().push(path);
        let head = format!(
            "HTTP/1.1 {status} Status\r\nlocation: https://{HOST}/elsewhere\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&body).await;
        let _ = stream.shutdown().await;
    }
}

/// Returns a source of these topics, and the control that verifies its requests.
fn admission(cache: CertificateCache, topic: &str) -> (AdmissionControl, Sources) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mailpulse.toml");
    let source = format!("[[source]]\nprovider = 'ses'\nname = 'news'\ntopics = ['{topic}']\n");
    std::fs::write(&path, source).unwrap();
    let settings = service::Settings::load(Some(&path), std::iter::empty()).unwrap();
    let sources = Sources::read(&settings).unwrap();
    let settings = IngressSettings::read(&settings).unwrap();
    (AdmissionControl::new(cache, HeavyWork::new(), &settings), sources)
}

fn unverified(request: &SignedRequest) -> UnverifiedRequest {
    UnverifiedRequest {
        headers: Arc::default(),
        body: request.body.clone(),
        client: "192.0.2.7".parse().unwrap(),
        now: NOW,
    }
}

async fn verify(
    (admission, sources): &(AdmissionControl, Sources),
    request: &SignedRequest,
) -> Result<Admission, Problem> {
    let source = sources.find("/webhooks/ses/news").unwrap();
    admission.verify(source, &unverified(request), "r").await
}

fn credentials() -> Credentials {
    Credentials::new("http://ingress.example.com")
}

/// A server with the certificate that verifies the messages of [`credentials`].
async fn genuine_sns() -> FakeSns {
    FakeSns::start(|path| match path.starts_with('/') && path.ends_with(".pem") {
        true => (200, credentials().sns_certificate_pem().as_bytes().to_vec()),
        false => (200, b"<ConfirmSubscriptionResponse/>".to_vec()),
    })
    .await
}

#[tokio::test]
async fn a_subscription_is_verified_and_confirmed_over_https() {
    let sns = genuine_sns().await;
    let credentials = credentials();
    let ingress = admission(sns.cache(), credentials.topic_arn());
    let request = sign::ses_subscription_confirmation(&credentials, "news", NOW);
    assert_eq!(verify(&ingress, &request).await, Ok(Admission::Authentic));
    assert_eq!(verify(&ingress, &request).await, Ok(Admission::Authentic), "from the cache");

    let split = providers::split(Provider::Ses, &request.body).unwrap();
    let Content::ConfirmSubscription { subscribe_url, .. } = split.content() else {
        panic!("the message asks for a confirmation");
    };
    let source = ingress.1.find("/webhooks/ses/news").unwrap();
    assert_eq!(ingress.0.confirm_subscription(source, subscribe_url).await, Ok(()));
    let [certificate, confirmation] = &sns.paths()[..] else { panic!("{:?}", sns.paths()) };
    assert!(certificate.starts_with("/SimpleNotificationService-"), "{certificate}");
    assert!(confirmation.starts_with("/?Action=ConfirmSubscription&TopicArn="), "{confirmation}");
}

#[tokio::test]
async fn a_server_without_a_trusted_certificate_and_a_redirect_are_refused() {
    let sns = genuine_sns().await;
    let url = credentials().sns_certificate_url().to_owned();
    // Production settings trust the certificates of the system, which do not include the test's.
    let address = "127.0.0.1:9".parse().unwrap();
    let untrusting = https_client(resolving(address)).unwrap();
    let cache = CertificateCache::from_source(CertificateSource::Https(untrusting));
    cache.fetch(&url).await;
    assert!(cache.cached(&url).is_none());
    assert!(cache.confirm_subscription("http://127.0.0.1:9/").await.is_err(), "only HTTPS");

    let redirecting = FakeSns::start(|_| (302, Vec::new())).await;
    let cache = redirecting.cache();
    cache.fetch(&url).await;
    assert!(cache.cached(&url).is_none());
    assert!(cache.confirm_subscription(&format!("https://{HOST}/?x")).await.is_err());
    assert_eq!(redirecting.paths().len(), 2, "redirects are not followed");
    let endless = FakeSns::start(|_| (200, vec![b'x'; MAX_BYTES + 1])).await;
    assert!(endless.cache().confirm_subscription(&format!("https://{HOST}/?x")).await.is_err());
    assert!(sns.paths().is_empty());
}

#[tokio::test]
async fn nothing_is_fetched_for_topics_and_regions_that_are_not_configured() {
    let sns = genuine_sns().await;
    let credentials = credentials();
    let request = sign::ses_subscription_confirmation(&credentials, "news", NOW);
    let other = admission(sns.cache(), "arn:aws:sns:eu-west-1:123456789012:another");
    let code = |result: Result<Admission, Problem>| result.unwrap_err().code();
    assert_eq!(code(verify(&other, &request).await), "topic_not_allowed");

    let ingress = admission(sns.cache(), credentials.topic_arn());
    let body = String::from_utf8(request.body.to_vec()).unwrap();
    for elsewhere in ["sns.us-east-1.amazonaws.com", "sns.eu-west-10.amazonaws.com"] {
        let body = body.replace(&format!("{HOST}/Simple"), &format!("{elsewhere}/Simple")).into();
        let request = SignedRequest { body, ..request.clone() };
        assert_eq!(code(verify(&ingress, &request).await), "untrusted_certificate_url");
    }
    assert!(sns.paths().is_empty());
}

#[tokio::test]
async fn many_forged_urls_do_not_keep_a_genuine_certificate_from_being_fetched() {
    let pem = credentials().sns_certificate_pem().as_bytes().to_vec();
    let sns = FakeSns::start(move |path| match path.contains("-7e57") {
        true => (200, pem.clone()),
        false => (403, Vec::new()),
    })
    .await;
    let cache = sns.cache();
    let forged = |n: usize| format!("https://{HOST}/SimpleNotificationService-{n:032x}.pem");
    for n in 0..70 {
        cache.fetch(&forged(n)).await;
    }
    cache.fetch(&forged(69)).await;
    assert_eq!(sns.paths().len(), 70, "a URL that has failed is not tried again at once");
    let genuine = credentials().sns_certificate_url();
    cache.fetch(genuine).await;
    assert!(cache.cached(genuine).is_some());
    for n in 0..2 * MAX_FAILED.get() {
        lock(&cache.failed).put(forged(n), Instant::now());
    }
    assert_eq!(lock(&cache.failed).len(), MAX_FAILED.get(), "the memory is bounded");
    assert!(!cache.has_failed_recently(genuine));
    // An entry expires on its own.
    let long_ago = Instant::now().checked_sub(RETRY_AFTER).unwrap();
    lock(&cache.failed).put(forged(0), long_ago);
    assert!(!cache.has_failed_recently(&forged(0)));
}

#[tokio::test]
async fn messages_that_arrive_together_cause_one_request() {
    static REQUESTS: AtomicUsize = AtomicUsize::new(0);
    let sns = FakeSns::start(|_| {
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        (200, credentials().sns_certificate_pem().as_bytes().to_vec())
    })
    .await;
    let cache = Arc::new(sns.cache());
    let url = credentials().sns_certificate_url().to_owned();
    let fetches: Vec<_> = (0..20)
        .map(|_| {
            let (cache, url) = (Arc::clone(&cache), url.clone());
            tokio::spawn(async move { cache.fetch(&url).await })
        })
        .collect();
    for fetch in fetches {
        fetch.await.unwrap();
    }
    assert_eq!(REQUESTS.load(Ordering::Relaxed), 1);
    assert!(cache.cached(&url).is_some());
    assert!(lock(&cache.fetching).is_empty());
}

#[tokio::test]
async fn the_least_recently_used_certificate_is_removed_first() {
    let sns = genuine_sns().await;
    let cache = sns.cache();
    let url = |n: usize| format!("https://{HOST}/SimpleNotificationService-{n:032x}.pem");
    for n in 0..MAX_CACHED.get() {
        cache.fetch(&url(n)).await;
    }
    assert!(cache.cached(&url(0)).is_some());
    cache.fetch(&url(MAX_CACHED.get())).await;
    assert!(cache.cached(&url(0)).is_some() && cache.cached(&url(1)).is_none());
}
