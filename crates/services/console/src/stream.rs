//! `GET /live`: the live numbers as server-sent events. Every event is a whole snapshot, so a browser that misses
//! some has lost nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use service::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use crate::response::{Content, Response, response};

/// How often a comment is sent if nothing changes, so that proxies keep the connection and a browser that is gone
/// is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a browser may take to read an event.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// After this time the browser connects again, and shows again that it may.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Returns a response that goes on until the browser is gone, the longest time is over, or shutdown is requested.
pub fn open(
    updates: watch::Receiver<Arc<str>>,
    permit: OwnedSemaphorePermit,
    shutdown: Shutdown,
) -> Response {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        metrics::gauge!("mailpulse_console_live_clients").increment(1.0);
        tokio::select! {
            () = send_all(updates, &sender) => {}
            () = tokio::time::sleep(LONGEST) => {}
            () = sender.closed() => {}
            () = shutdown.wait() => {}
        }
        metrics::gauge!("mailpulse_console_live_clients").decrement(1.0);
        drop(permit);
    });
    response(StatusCode::OK, "text/event-stream", Content::Stream(receiver))
}

async fn send_all(mut updates: watch::Receiver<Arc<str>>, sender: &mpsc::Sender<Bytes>) {
    loop {
        let snapshot = Arc::clone(&updates.borrow_and_update());
        if !send(sender, format!("data: {snapshot}\n\n")).await {
            return;
        }
        while let Err(_elapsed) = tokio::time::timeout(HEARTBEAT, updates.changed()).await {
            if !send(sender, ":\n\n".to_owned()).await {
                return;
            }
        }
    }
}

/// Returns false if the browser is gone or does not read.
async fn send(sender: &mpsc::Sender<Bytes>, event: String) -> bool {
    sender.send_timeout(Bytes::from(event), READ_TIMEOUT).await.is_ok()
}
