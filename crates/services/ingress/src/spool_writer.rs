//! The thread that writes requests to the spool.

use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, counter, gauge};
use spool::{Cause, Spool, SpoolError};
use tokio::sync::{mpsc, oneshot};

use crate::backlog::SpoolErrorCode;
use crate::lock::lock;

/// The size in bytes from which a group of requests is written without waiting for more.
const GROUP_BYTES: usize = 4 << 20;

/// Sends entries to the thread.
pub(crate) struct SpoolWriter(mpsc::UnboundedSender<Write>);

struct Write {
    entry: Vec<u8>,
    done: oneshot::Sender<Result<(), SpoolErrorCode>>,
}

impl SpoolWriter {
    pub(crate) fn start(spool: Arc<Mutex<Spool>>, metrics: SpoolMetrics) -> std::io::Result<Self> {
        let (sender, writes) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("spool".into())
            .spawn(move || write_groups(&spool, writes, &metrics))?;
        Ok(Self(sender))
    }

    /// Returns when the entry is durable.
    pub(crate) async fn write(&self, entry: Vec<u8>) -> Result<(), SpoolErrorCode> {
        let (done, written) = oneshot::channel();
        match self.0.send(Write { entry, done }) {
            Ok(()) => written.await.unwrap_or(Err("spool_failed")),
            Err(_) => Err("spool_failed"), // the thread has panicked
        }
    }
}

/// Writes all waiting entries with one sync.
fn write_groups(
    spool: &Mutex<Spool>,
    mut writes: mpsc::UnboundedReceiver<Write>,
    metrics: &SpoolMetrics,
) {
    while let Some(first) = writes.blocking_recv() {
        let mut bytes = first.entry.len();
        let mut group = vec![first];
        while bytes < GROUP_BYTES
            && let Ok(next) = writes.try_recv()
        {
            bytes += next.entry.len();
            group.push(next);
        }
        let mut spool = lock(spool);
        let entries: Vec<&[u8]> = group.iter().map(|write| write.entry.as_slice()).collect();
        match spool.append(&entries) {
            Ok(()) => group.into_iter().for_each(|write| metrics.complete(write, Ok(()))),
            // The group does not fit, or one of its entries is too long. The others may be written.
            Err(SpoolError::Full { .. } | SpoolError::InvalidLength(_)) => {
                for write in group {
                    let written = spool.append(&[&write.entry]);
                    metrics.complete(write, written.map_err(|error| error.code()));
                }
            }
            Err(error) => {
                tracing::error!(%error, requests = group.len(), "writing to the spool failed");
                let code = error.code();
                group.into_iter().for_each(|write| metrics.complete(write, Err(code)));
            }
        }
        metrics.update(&spool);
    }
}

#[derive(Clone)]
pub(crate) struct SpoolMetrics {
    pub(crate) spooling: Gauge,
    bytes: Gauge,
    requests: Gauge,
    spooled: Counter,
    quarantined_items: Gauge,
    quarantined_bytes: Gauge,
    quarantined: [Counter; Cause::ALL.len()],
}

impl SpoolMetrics {
    pub(crate) fn new(limit: u64) -> Self {
        gauge!("mailpulse_ingress_spool_limit_bytes").set(limit as f64);
        Self {
            spooling: gauge!("mailpulse_ingress_spooling"),
            bytes: gauge!("mailpulse_ingress_spool_bytes"),
            requests: gauge!("mailpulse_ingress_spool_requests"),
            spooled: counter!("mailpulse_ingress_spooled_requests_total"),
            quarantined_items: gauge!("mailpulse_ingress_quarantined_items"),
            quarantined_bytes: gauge!("mailpulse_ingress_quarantined_bytes"),
            quarantined: Cause::ALL.map(
                |cause| counter!("mailpulse_ingress_quarantined_total", "cause" => cause.code()),
            ),
        }
    }

    pub(crate) fn update(&self, spool: &Spool) {
        self.bytes.set(spool.bytes() as f64);
        self.requests.set(spool.entries() as f64);
        self.quarantined_items.set(spool.quarantined().items as f64);
        self.quarantined_bytes.set(spool.quarantined().bytes as f64);
    }

    pub(crate) fn count_quarantined(&self, cause: Cause) {
        self.quarantined[cause as usize].increment(1);
    }

    fn complete(&self, write: Write, written: Result<(), SpoolErrorCode>) {
        if written.is_ok() {
            self.spooled.increment(1);
        }
        // Sending fails if the client has closed its connection. Then the client will retry.
        let _ = write.done.send(written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_cannot_be_written_does_not_fail_the_others_of_its_group() {
        let directory = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(directory.path(), 1 << 20).unwrap();
        let (sender, writes) = mpsc::unbounded_channel();
        let results = [b"first".to_vec(), Vec::new(), b"third".to_vec()].map(|entry| {
            let (done, written) = oneshot::channel();
            sender.send(Write { entry, done }).unwrap();
            written
        });
        drop(sender);
        // All entries wait, so that they are one group.
        write_groups(&Mutex::new(spool), writes, &SpoolMetrics::new(1 << 20));
        let codes = results.map(|written| written.blocking_recv().unwrap());
        assert_eq!(codes, [Ok(()), Err("spool_unfit"), Ok(())]);
    }
}
