//! Attacks by strangers. They come from other loopback addresses than the mail, as strangers do. Each is
//! bounded in connections and in requests per second.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use event::{Kind, Provider};
use flate2::Compression;
use flate2::write::GzEncoder;
use rand::RngExt;
use testkit::{MailEvent, SOURCES, SignedRequest, sign};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Attacks, unix_seconds};

/// The addresses of the attackers.
const CERTIFICATES: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const SLOW: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 12);
const DEAF: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 13);
const BOMBS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 14);
const FORGED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 15);

/// The number of connections of each attack on connections.
const CONNECTIONS: usize = 8;
/// The pause between two connections or two requests of an attack.
const RECONNECT_PAUSE: Duration = Duration::from_secs(2);
const FORGED_PAUSE: Duration = Duration::from_millis(100);
const CERTIFICATE_PAUSE: Duration = Duration::from_millis(500);
const BOMB_PAUSE: Duration = Duration::from_secs(3);
/// The number of form fields of a bomb. With gzip they are a few kilobytes.
const BOMB_FIELDS: usize = 400_000;
/// How long a client that never reads keeps its connection.
const DEAF_FOR: Duration = Duration::from_secs(15);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Attacks until the attacks stop.
pub(super) async fn attack(attacks: &Arc<Attacks>) {
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        connections.spawn(repeat(Arc::clone(attacks), RECONNECT_PAUSE, slow_body));
        connections.spawn(repeat(Arc::clone(attacks), RECONNECT_PAUSE, deaf_pipeline));
    }
    connections.spawn(repeat(Arc::clone(attacks), CERTIFICATE_PAUSE, forged_certificate));
    connections.spawn(repeat(Arc::clone(attacks), BOMB_PAUSE, form_bomb));
    connections.spawn(repeat(Arc::clone(attacks), FORGED_PAUSE, forged_request));
    while !attacks.is_over() {
        sleep(RECONNECT_PAUSE).await;
    }
    connections.shutdown().await;
}

/// Repeats an attack. Its errors are what the ingress should cause, or the outages of the run.
async fn repeat<F, A>(attacks: Arc<Attacks>, pause: Duration, attack: A)
where
    A: Fn(Arc<Attacks>) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    loop {
        let _ = attack(Arc::clone(&attacks)).await;
        sleep(pause).await;
    }
}

/// Sends the head of a request at once and its body with one byte per second.
async fn slow_body(attacks: Arc<Attacks>) -> anyhow::Result<()> {
    attacks.count("slow bodies");
    let mut stream = connect(&attacks.ingress, SLOW).await?;
    let head = "POST /webhooks/sendgrid/acme HTTP/1.1\r\nhost: localhost\r\ncontent-length: 900000\r\n\
                x-twilio-email-event-webhook-signature: MEUCIQ==\r\n\
                x-twilio-email-event-webhook-timestamp: 1762787700\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    loop {
        stream.write_all(b"[").await?;
        // The answer, or the end of the connection.
        if timeout(Duration::from_secs(1), stream.read_u8()).await.is_ok() {
            return Ok(());
        }
    }
}

/// Sends requests without end and reads no response.
async fn deaf_pipeline(attacks: Arc<Attacks>) -> anyhow::Result<()> {
    attacks.count("pipelines that are never read");
    let mut stream = connect(&attacks.ingress, DEAF).await?;
    let request =
        "POST /webhooks/nobody/none HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    let requests = request.repeat(100);
    let sent = timeout(DEAF_FOR, async {
        loop {
            stream.write_all(requests.as_bytes()).await?;
        }
        #[expect(unreachable_code, reason = "gives the type of the error")]
        anyhow::Ok(())
    });
    sent.await.unwrap_or(Ok(()))
}

/// Posts an SNS message that names a certificate of its own.
async fn forged_certificate(attacks: Arc<Attacks>) -> anyhow::Result<()> {
    let name: u128 = rand::rng().random();
    let event = forged_event(Provider::Ses, "news", 0);
    let events = sign::events(&attacks.credentials.impostor(), &[event], unix_seconds());
    let mut request = events.into_iter().next().context("SES reports every kind")?;
    let body = String::from_utf8_lossy(&request.body).replace(
        attacks.credentials.sns_certificate_url(),
        &format!("https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-{name:032x}.pem"),
    );
    request.body = body.into_bytes().into();
    post(&attacks, "forged certificate addresses", CERTIFICATES, request).await
}

/// Posts a small gzipped form with very many fields to a source whose signature covers all of them.
async fn form_bomb(attacks: Arc<Attacks>) -> anyhow::Result<()> {
    let form = "a=&".repeat(BOMB_FIELDS);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(form.as_bytes())?;
    let mut request = sign::mandrill_value(&attacks.credentials.impostor(), "city-press", "[]");
    request.headers.push(("content-encoding".to_owned(), "gzip".to_owned()));
    request.body = encoder.finish()?.into();
    post(&attacks, "form bombs", BOMBS, request).await
}

/// Posts a request that is signed with an unknown key.
async fn forged_request(attacks: Arc<Attacks>) -> anyhow::Result<()> {
    let n: u32 = rand::rng().random();
    let (provider, source) = SOURCES[n as usize % SOURCES.len()];
    let event = forged_event(provider, source, n);
    let requests = sign::events(&attacks.credentials.impostor(), &[event], unix_seconds());
    match requests.into_iter().next() {
        Some(request) => post(&attacks, "forged requests", FORGED, request).await,
        None => Ok(()),
    }
}

fn forged_event(provider: Provider, source: &str, n: u32) -> MailEvent {
    MailEvent::new(provider, source, Kind::Bounced, "mallory@example.net", n)
}

/// Posts a request from an attacker's address. An answer 2xx is an error of the ingress.
async fn post(
    attacks: &Attacks,
    attack: &'static str,
    from: Ipv4Addr,
    request: SignedRequest,
) -> anyhow::Result<()> {
    attacks.count(attack);
    let client = reqwest::Client::builder()
        .timeout(REQUEST_TIMEOUT)
        .local_address(IpAddr::V4(from))
        .pool_max_idle_per_host(0)
        .build()?;
    let SignedRequest { path, headers, body } = request;
    let url = format!("http://{}{path}", attacks.ingress);
    let post = headers
        .iter()
        .fold(client.post(url).body(body), |request, (name, value)| request.header(name, value));
    let status = post.send().await?.status();
    if status.is_success() {
        attacks.results().admitted.add(|| format!("{attack}: {status}"));
    }
    Ok(())
}

async fn connect(ingress: &str, from: Ipv4Addr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    Ok(socket.connect(ingress.parse()?).await?)
}
