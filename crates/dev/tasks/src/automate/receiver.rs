//! The receivers of actions: an HTTP server with a path for each endpoint. It notes every request with the time of
//! its arrival, answers late at one path, and refuses some requests at another.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use standardwebhooks::Webhook;

use super::rules::{REFUSING, SECRET, SLOW};

/// How long the slow endpoint takes for an answer.
pub(super) const SLOW_ANSWER: Duration = Duration::from_secs(8);
/// The refusing endpoint answers 503 to one request in this many. With many more, one of several members would at some time
/// be refused five times in a row, which opens its circuit for 30 s.
const REFUSED: usize = 6;
/// A connection without a request is closed after this time.
const IDLE: Duration = Duration::from_secs(60);
/// Larger requests are not read.
const LARGEST: usize = 1 << 20;

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) path: String,
    /// The header `idempotency-key`; empty if there is none.
    pub(super) id: String,
    /// The id of the event in the body.
    pub(super) event_id: String,
    /// Whether the signature is right, and both headers and the body have the same id.
    pub(super) is_verified: bool,
    pub(super) arrived_at: Instant,
    /// When it was answered with 200.
    pub(super) accepted_at: Option<Instant>,
}

/// A running receiver.
#[derive(Clone)]
pub(super) struct Receiver {
    pub(super) address: String,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
}

impl Receiver {
    /// Starts threads that listen until this process ends.
    pub(super) fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let receiver = Self { address, deliveries: Arc::default() };
        let (server, webhook) = (receiver.clone(), Arc::new(Webhook::new(SECRET)?));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, webhook) = (server.clone(), Arc::clone(&webhook));
                // An incomplete request is delivered again.
                std::thread::spawn(move || drop(server.serve(stream, &webhook)));
            }
        });
        Ok(receiver)
    }

    /// Returns everything that was received so far, in the order of arrival.
    pub(super) fn deliveries(&self) -> Vec<Delivery> {
        self.lock().clone()
    }

    /// Returns the number of requests that were received at paths for which `is_meant` returns true.
    pub(super) fn count(&self, is_meant: impl Fn(&str) -> bool) -> usize {
        self.lock().iter().filter(|it| is_meant(&it.path)).count()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Delivery>> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the requests of a connection and answers them.
    fn serve(&self, mut stream: TcpStream, webhook: &Webhook) -> std::io::Result<()> {
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some((path, headers, body)) = read(&mut reader)? {
            let (is_slow, may_refuse) = (path == SLOW, path == REFUSING);
            let delivery = delivery(path, &headers, &body, webhook);
            let number = {
                let mut deliveries = self.lock();
                deliveries.push(delivery);
                deliveries.len() - 1
            };
            if may_refuse && self.count(|path| path == REFUSING).is_multiple_of(REFUSED) {
                answer(&mut stream, "503 Service Unavailable")?;
                continue;
            }
            if is_slow {
                std::thread::sleep(SLOW_ANSWER);
            }
            answer(&mut stream, "200 OK")?;
            if let Some(delivery) = self.lock().get_mut(number) {
                delivery.accepted_at = Some(Instant::now());
            }
        }
        Ok(())
    }
}

fn answer(stream: &mut TcpStream, status: &str) -> std::io::Result<()> {
    stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes())
}

/// Reads a request. Returns `None` at the end of the connection.
fn read(reader: &mut impl BufRead) -> std::io::Result<Option<(String, HeaderMap, Vec<u8>)>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = HeaderMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if let (Ok(name), Ok(value)) =
            (name.parse::<HeaderName>(), value.trim().parse::<HeaderValue>())
        {
            headers.insert(name, value);
        }
    }
    let length = text(&headers, "content-length").parse().unwrap_or(0);
    if length > LARGEST {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((path, headers, body)))
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn delivery(path: String, headers: &HeaderMap, body: &[u8], webhook: &Webhook) -> Delivery {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    // A webhook has the action in `data`, a task is the action.
    let action = json.get("data").unwrap_or(&json);
    let of_body = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let id = text(headers, "idempotency-key").to_owned();
    let is_one_id =
        id == text(headers, "webhook-id") && id == of_body(&action["action_id"]) && !id.is_empty();
    Delivery {
        path,
        id,
        event_id: of_body(&action["event"]["event_id"]),
        is_verified: is_one_id && webhook.verify(body, headers).is_ok(),
        arrived_at: Instant::now(),
        accepted_at: None,
    }
}
