//! The receiver of alerts: an HTTP server that answers 200 to every POST and stores it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// A POST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) path: String,
    /// The header `webhook-id`; empty if there is none.
    pub(crate) id: String,
    pub(crate) body: String,
    /// Whether the receiver has verified its signature.
    #[serde(skip)]
    pub(crate) is_verified: bool,
}

/// A running receiver.
#[derive(Clone, Default)]
pub(crate) struct Receiver(Arc<Mutex<Vec<Delivery>>>);

impl Receiver {
    /// Starts a thread that listens until this process ends.
    pub(crate) fn start(address: &str) -> anyhow::Result<Self> {
        Self::start_verifying(address, |_, _| false)
    }

    /// As [`start`](Self::start). `verify` gets the headers and the body of each request.
    pub(crate) fn start_verifying(
        address: &str,
        verify: impl Fn(&HeaderMap, &[u8]) -> bool + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (receiver, listener) = (Self::default(), TcpListener::bind(address)?);
        let to = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // An incomplete request is delivered again.
                if let Ok(delivery) = answer(stream, &verify) {
                    to.lock().push(delivery);
                }
            }
        });
        Ok(receiver)
    }

    /// Returns everything that was delivered so far.
    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Delivery>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a request and answers it.
fn answer(
    mut stream: TcpStream,
    verify: &impl Fn(&HeaderMap, &[u8]) -> bool,
) -> std::io::Result<Delivery> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
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
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let id = value("webhook-id").unwrap_or_default().to_owned();
    let length = value("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let is_verified = verify(&headers, &body);
    let body = String::from_utf8_lossy(&body).into_owned();
    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")?;
    Ok(Delivery { path, id, body, is_verified })
}
