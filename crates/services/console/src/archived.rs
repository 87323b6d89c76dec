//! How far archive is, as Kafka knows it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::Connection;
use kafka::inspect::committed_offsets;
use record::Topics;
use tokio::sync::Mutex;

/// How long an answer is used. Each question connects to Kafka twice, so it is not asked for every request.
const FRESH: Duration = Duration::from_secs(5);

/// How long a request waits for the answer to a question that another one has asked.
const WAIT: Duration = Duration::from_secs(5);

/// What archive has committed for each partition of `mail.events`: the offset and the metadata, or `None` before the
/// first commit.
pub type Committed = Vec<Option<(i64, String)>>;

/// Asks Kafka, one question at a time.
#[derive(Debug, Clone)]
pub struct Archived {
    connection: Connection,
    topics: Topics,
    latest: Latest<Committed>,
}

impl Archived {
    pub fn new(connection: Connection, topics: Topics) -> Self {
        Self { connection, topics, latest: Latest::new(WAIT) }
    }

    /// Returns what archive has committed, at most 5 s ago. `None`: Kafka does not tell.
    pub async fn committed(&self) -> Option<Committed> {
        let (connection, topics) = (self.connection.clone(), self.topics.clone());
        self.latest.get(move || ask(&connection, &topics)).await
    }
}

fn ask(connection: &Connection, topics: &Topics) -> Option<Committed> {
    let asked = kafka::topics::partition_counts(connection).and_then(|partitions| {
        let partitions = partitions.get(&topics.events).copied().unwrap_or(0);
        let group = topics.group(record::Stage::Archive.code());
        committed_offsets(connection, &group, &topics.events, partitions)
    });
    asked.inspect_err(|error| tracing::warn!(%error, "the offsets of archive cannot be read")).ok()
}

/// The latest answer to a question, and when it came.
#[derive(Debug, Clone)]
struct Latest<T> {
    known: Arc<Mutex<Option<Answer<T>>>>,
    wait: Duration,
}

/// An answer and its time. `None`: there was none.
type Answer<T> = (Instant, Option<T>);

impl<T: Clone + Send + 'static> Latest<T> {
    fn new(wait: Duration) -> Self {
        Self { known: Arc::default(), wait }
    }

    /// Returns an answer that is fresh, or asks. While another request asks, waits for its answer, but not longer than
    /// `wait`.
    async fn get(&self, ask: impl FnOnce() -> Option<T> + Send + 'static) -> Option<T> {
        let lock = tokio::time::timeout(self.wait, Arc::clone(&self.known).lock_owned());
        let mut known = lock.await.ok()?;
        if let Some((at, answer)) = &*known
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        // The thread has the lock until it has the answer, also if the browser that asked is gone.
        let asked = tokio::task::spawn_blocking(move || {
            let answer = ask();
            *known = Some((Instant::now(), answer.clone()));
            answer
        });
        asked.await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Answers slowly with the number of questions so far.
    fn slow(asked: &Arc<AtomicU32>) -> impl FnOnce() -> Option<u32> + Send + 'static {
        let asked = Arc::clone(asked);
        move || {
            let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
            std::thread::sleep(Duration::from_millis(300));
            Some(number)
        }
    }

    #[tokio::test]
    async fn many_requests_ask_once() {
        let (latest, asked) = (Latest::new(WAIT), Arc::new(AtomicU32::new(0)));
        let requests: Vec<_> = (0..20)
            .map(|_| {
                let (latest, ask) = (latest.clone(), slow(&asked));
                tokio::spawn(async move { latest.get(ask).await })
            })
            .collect();
        for request in requests {
            assert_eq!(request.await.unwrap(), Some(1));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_browser_that_goes_away_does_not_make_another_one_ask_too() {
        let (latest, asked) = (Latest::new(WAIT), Arc::new(AtomicU32::new(0)));
        let gone = tokio::time::timeout(Duration::from_millis(50), latest.get(slow(&asked))).await;
        assert!(gone.is_err(), "{gone:?}");
        assert_eq!(latest.get(slow(&asked)).await, Some(1));
    }

    #[tokio::test]
    async fn a_request_does_not_wait_long_for_the_question_of_another_one() {
        let (latest, asked) = (Latest::new(Duration::from_millis(20)), Arc::new(AtomicU32::new(0)));
        let first = tokio::spawn({
            let (latest, ask) = (latest.clone(), slow(&asked));
            async move { latest.get(ask).await }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(latest.get(slow(&asked)).await, None);
        assert_eq!(first.await.unwrap(), Some(1));
    }

    #[tokio::test]
    async fn the_answer_that_there_is_none_is_kept_too() {
        let (latest, asked) = (Latest::new(WAIT), Arc::new(AtomicU32::new(0)));
        assert_eq!(latest.get(|| None).await, None);
        assert_eq!(latest.get(slow(&asked)).await, None);
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    }
}
