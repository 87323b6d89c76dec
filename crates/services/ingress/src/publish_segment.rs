//! Publishes one segment of the spool, in windows.
//!
//! A window is a part of the segment that certainly fits into the queue of the producer. The next one
//! is sent when every record of this one is acknowledged, so an entry may have any number of events. If
//! Kafka rejects records for what they are, the others are published, and dead letters take the place of
//! the rejected ones. Errors of the cluster are retried. [`Progress`] remembers what is acknowledged, so
//! that a retry publishes nothing twice. After a crash the whole segment is published again, and
//! `dedupe` drops the duplicates.

use kafka::{Batch, PublishError};
use record::{RawHeaders, Reason};
use spool::{Cause, FRAME_BYTES, Part, Parts};

use crate::backlog::Backlog;
use crate::drain_backlog::DrainError;
use crate::raw_publisher::{RawPublisher, count_dead_letter};
use crate::raw_request::RawRequest;

/// The limits of a window. Together with the largest record, a window needs less than the queue of the
/// producer (32 MiB).
const WINDOW_BYTES: usize = 8 << 20;
const WINDOW_RECORDS: usize = 10_000;

/// How far the first segment is published.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    segment: u64,
    /// Where the next window begins.
    next: Position,
    /// The records of this window that are not acknowledged, in their order.
    window: Vec<WindowRecord>,
}

/// The position of a record in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Position {
    /// The offset of the entry in the segment.
    entry: usize,
    /// The number of the record in the entry.
    record: usize,
}

#[derive(Debug, Clone, Copy)]
struct WindowRecord {
    at: Position,
    /// The reason, if the record is a dead letter.
    dead_letter: Option<Reason>,
}

/// The records that have failed: their numbers in the window, and the reasons.
type Failures = Vec<(usize, PublishError)>;

/// A part of the segment that cannot be read.
struct Unreadable<'s> {
    offset: usize,
    bytes: &'s [u8],
    cause: Cause,
    /// The offset of the next part.
    after: usize,
}

impl Progress {
    /// Begins a segment, unless it was begun before.
    pub(crate) fn start(&mut self, segment: u64) {
        if self.segment != segment {
            *self = Self { segment, ..Self::default() };
        }
    }

    /// Begins again at an entry that can no longer be read, so that it goes to the quarantine.
    fn restart_at(&mut self, entry: usize) {
        self.window.clear();
        self.next = Position { entry, record: 0 };
    }
}

/// Publishes what is left of a segment in order, and returns when it is durable.
pub(crate) async fn publish_segment(
    publisher: &RawPublisher,
    backlog: &Backlog,
    segment: &[u8],
    progress: &mut Progress,
) -> Result<(), DrainError> {
    loop {
        let batch = publisher.backlog_publisher().batch();
        let mut failures = Failures::new();
        if progress.window.is_empty() {
            let next = send_next_window(publisher, segment, progress, &batch, &mut failures)?;
            if let Some(Unreadable { offset, bytes, cause, after }) = next {
                backlog.quarantine(progress.segment, offset, cause, bytes.to_vec()).await?;
                progress.next = Position { entry: after, record: 0 };
                continue;
            }
            if progress.window.is_empty() {
                return Ok(());
            }
        } else {
            resend_window(publisher, segment, progress, &batch, &mut failures);
        }
        failures.extend(patiently(publisher, backlog, batch.failures()).await);
        progress.keep_failed(&mut failures);
        if let Some((_, error)) = failures.iter().find(|(_, error)| !error.is_of_record()) {
            return Err((*error).into());
        }
        patiently(publisher, backlog, publish_alone(publisher, segment, progress)).await?;
    }
}

impl Progress {
    /// Removes the acknowledged records from the window, and counts the dead letters among them.
    fn keep_failed(&mut self, failures: &mut Failures) {
        failures.sort_unstable_by_key(|&(number, _)| number);
        let mut failed = failures.iter().map(|&(number, _)| number).peekable();
        let mut number = 0;
        self.window.retain(|record| {
            let has_failed = failed.next_if_eq(&number).is_some();
            number += 1;
            if !has_failed {
                record.dead_letter.iter().for_each(|reason| count_dead_letter(*reason));
            }
            has_failed
        });
    }
}

/// Waits for Kafka without limit: if we gave up on a record and sent it again, it would come after
/// later records. After the timeout, new requests go to the spool instead of waiting.
async fn patiently<T>(
    publisher: &RawPublisher,
    backlog: &Backlog,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    match tokio::time::timeout(publisher.ack_timeout(), &mut work).await {
        Ok(done) => done,
        Err(_) => {
            backlog.start_spooling(PublishError::Timeout.code());
            work.await
        }
    }
}

/// Sends records until the window is full, the segment ends, or a part cannot be read. Such a part is
/// returned only if it is the first, so that everything before it is durable.
fn send_next_window<'s>(
    publisher: &RawPublisher,
    segment: &'s [u8],
    progress: &mut Progress,
    batch: &Batch<'_>,
    failures: &mut Failures,
) -> Result<Option<Unreadable<'s>>, PublishError> {
    let Progress { next, window, .. } = progress;
    let mut bytes = 0;
    for (offset, part) in Parts::from_offset(segment, next.entry) {
        let (headers, body, after) = match read(offset, part) {
            Ok(entry) => entry,
            Err(_) if !window.is_empty() => return Ok(None),
            Err(unreadable) => return Ok(Some(unreadable)),
        };
        let split = publisher.split(headers.provider, headers.source, body);
        let request = RawRequest::new(&headers, &split);
        for (number, record) in request.records().enumerate().skip(next.record) {
            let length = record.queue_bytes(&request);
            let is_full = bytes + length > WINDOW_BYTES || window.len() >= WINDOW_RECORDS;
            if is_full && !window.is_empty() {
                return Ok(None);
            }
            match publisher.send(&request, window.len(), record, batch) {
                Ok(()) => {}
                // A window is smaller than the queue, so this is not expected.
                Err(PublishError::QueueFull) if !window.is_empty() => return Ok(None),
                Err(error @ PublishError::QueueFull) => return Err(error),
                Err(error) => failures.push((window.len(), error)),
            }
            bytes += length;
            let at = Position { entry: offset, record: number };
            window.push(WindowRecord { at, dead_letter: request.dead_letter_reason() });
            *next = Position { entry: offset, record: number + 1 };
        }
        *next = Position { entry: after, record: 0 };
    }
    Ok(None)
}

/// Sends what is left of the window after an error of the cluster.
fn resend_window(
    publisher: &RawPublisher,
    segment: &[u8],
    progress: &mut Progress,
    batch: &Batch<'_>,
    failures: &mut Failures,
) {
    let mut sent = 0;
    for records in progress.window.chunk_by(|a, b| a.at.entry == b.at.entry) {
        let entry = records[0].at.entry;
        let Some((headers, body)) = entry_at(segment, entry) else {
            return progress.restart_at(entry);
        };
        let split = publisher.split(headers.provider, headers.source, body);
        let request = RawRequest::new(&headers, &split);
        let mut wanted = records.iter().map(|record| record.at.record).peekable();
        for (number, record) in request.records().enumerate() {
            if wanted.next_if_eq(&number).is_some() {
                if let Err(error) = publisher.send(&request, sent, record, batch) {
                    failures.push((sent, error));
                }
                sent += 1;
            }
        }
    }
}

/// Publishes what is left of the window one by one, after Kafka has rejected these records for what
/// they are.
async fn publish_alone(
    publisher: &RawPublisher,
    segment: &[u8],
    progress: &mut Progress,
) -> Result<(), PublishError> {
    while let Some(first) = progress.window.first() {
        let entry = first.at.entry;
        let Some((headers, body)) = entry_at(segment, entry) else {
            progress.restart_at(entry);
            return Ok(());
        };
        let split = publisher.split(headers.provider, headers.source, body);
        let request = RawRequest::new(&headers, &split);
        for (number, record) in request.records().enumerate() {
            let next = progress.window.first().map(|record| record.at);
            if next == Some(Position { entry, record: number }) {
                publisher.publish_alone(publisher.backlog_publisher(), &request, record).await?;
                progress.window.remove(0);
            }
        }
    }
    Ok(())
}

/// Returns the headers and the body of an entry, and the offset after it.
fn read<'s>(
    offset: usize,
    part: Part<'s>,
) -> Result<(RawHeaders<'s>, &'s [u8], usize), Unreadable<'s>> {
    match part {
        Part::Entry(payload) => {
            let after = offset + FRAME_BYTES + payload.len();
            let decoded = spool::request::decode(payload);
            let (headers, body) = decoded.ok_or(Unreadable {
                offset,
                bytes: payload,
                cause: if spool::is_sealed(payload) { Cause::Sealed } else { Cause::BadHeaders },
                after,
            })?;
            Ok((headers, body, after))
        }
        Part::Damaged(bytes) => {
            Err(Unreadable { offset, bytes, cause: Cause::Damaged, after: offset + bytes.len() })
        }
    }
}

fn entry_at(segment: &[u8], offset: usize) -> Option<(RawHeaders<'_>, &[u8])> {
    let (offset, part) = Parts::from_offset(segment, offset).next()?;
    read(offset, part).ok().map(|(headers, body, _)| (headers, body))
}

#[cfg(test)]
mod tests {
    use event::{Kind, Provider, ReceivedAt};
    use harness::{DEADLINE, eventually, layout};
    use providers::Mappings;
    use service::Settings;

    use super::*;
    use crate::settings::IngressSettings;

    fn payload(kind: Kind) -> Vec<u8> {
        let headers = RawHeaders {
            provider: Provider::Generic,
            source: "s",
            received_at: ReceivedAt(1),
            request_id: "r",
            authentic: true,
        };
        spool::request::encode(&headers, format!("{{\"event\":\"{kind}\"}}").as_bytes()).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_retry_publishes_nothing_again_that_is_acknowledged() {
        let cluster = harness::Cluster::without_topics("segment", layout(1, 1));
        let topic = |kind: Kind| format!("mail.raw.{kind}");
        tokio::task::block_in_place(|| cluster.create_plain(&[(&topic(Kind::Delivered), 1)]));
        let connection = kafka::Connection {
            bootstrap: cluster.bootstrap.clone(),
            instance: "test".into(),
            compression: "none".into(),
            // How long a producer waits for a topic that is missing.
            properties: [("topic.metadata.propagation.max.ms".into(), "100".into())].into(),
            ..kafka::Connection::default()
        };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mailpulse.toml");
        let source = "[[source]]\nprovider = 'generic'\nname = 's'\nsecrets = ['k']\n";
        std::fs::write(&file, source).unwrap();
        let settings = Settings::load(Some(&file), std::iter::empty()).unwrap();
        let mappings = Mappings::new(settings.list("source").unwrap()).unwrap();
        let settings = IngressSettings::read(&settings);
        let runtime = tokio::runtime::Handle::current();
        let topics = cluster.topics.clone();
        let publisher =
            RawPublisher::open(&connection, topics, &settings.unwrap(), mappings, &runtime)
                .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (mut spool, _) = spool::Spool::open(directory.path(), 1 << 20).unwrap();
        spool.append(&[Kind::Delivered, Kind::Opened, Kind::Delivered].map(payload)).unwrap();
        let (number, segment) = spool.first_segment().unwrap().unwrap();
        drop(spool);
        let backlog =
            Backlog::open(directory.path(), 1 << 20, spool::SpoolKeys::default()).unwrap();

        let mut progress = Progress::default();
        progress.start(number);
        for _ in 0..3 {
            let failed = publish_segment(&publisher, &backlog, &segment, &mut progress).await;
            assert!(matches!(failed, Err(DrainError::Publish(_))), "the topic is missing");
            assert_eq!(progress.window.len(), 1, "{progress:?}");
        }
        tokio::task::block_in_place(|| cluster.create_plain(&[(&topic(Kind::Opened), 1)]));
        eventually("the topic to be found", DEADLINE, || {
            tokio::task::block_in_place(|| {
                let work = publish_segment(&publisher, &backlog, &segment, &mut progress);
                runtime.block_on(work).map_err(|error| error.to_string())
            })
        });
        assert_eq!(cluster.read(&cluster.name(&topic(Kind::Delivered))).len(), 2);
        assert_eq!(cluster.read(&cluster.name(&topic(Kind::Opened))).len(), 1);
    }
}
