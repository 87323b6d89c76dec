//! Reads `mail.rates` and `mail.incidents` into the live state, each on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kafka::tail::{Next, Start, Tail};
use kafka::{Cluster, Connection, OwnedRecord};
use service::{Health, Shutdown};

use crate::live::{KEPT, Live};

const POLL: Duration = Duration::from_millis(200);

/// How often browsers get new numbers.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// How long after an error from which the client does not recover a new one is opened.
const REOPEN_AFTER: Duration = Duration::from_secs(5);

/// The number of topics that are read.
const TOPICS: usize = 2;

/// What every thread needs.
#[derive(Clone)]
struct Reader {
    live: Arc<Live>,
    connection: Connection,
    health: Health,
    shutdown: Shutdown,
    /// The number of topics whose end was reached once.
    caught_up: Arc<AtomicUsize>,
}

/// Starts the threads. The process is ready when both topics have been read to their end once.
///
/// # Errors
/// If a thread cannot be started.
pub fn start(
    live: &Arc<Live>,
    cluster: &Cluster,
    health: &Health,
    shutdown: &Shutdown,
    now: Timestamp,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let reader = Reader {
        live: Arc::clone(live),
        connection: cluster.connection.clone(),
        health: health.clone(),
        shutdown: shutdown.clone(),
        caught_up: Arc::default(),
    };
    let (rates, incidents) = (cluster.topics.rates.clone(), cluster.topics.incidents.clone());
    let since = Start::At(now.as_millisecond() - KEPT / 1_000);
    let (of_rates, of_incidents) = (reader.clone(), reader);
    Ok(vec![
        thread::Builder::new()
            .name("rates".to_owned())
            .spawn(move || of_rates.run(&rates, since, Live::add_rate))?,
        thread::Builder::new()
            .name("incidents".to_owned())
            .spawn(move || of_incidents.run(&incidents, Start::Beginning, Live::add_incident))?,
    ])
}

impl Reader {
    /// Reads until shutdown is requested.
    fn run(&self, topic: &str, start: Start, add: fn(&Live, &OwnedRecord)) {
        let mut has_caught_up = false;
        while !self.shutdown.requested() {
            let read = self.read(topic, start, add, &mut has_caught_up);
            let Err(error) = read else { return };
            tracing::warn!(%error, topic, "the topic cannot be read; trying again");
            self.live.set_away(topic, Some(error.to_string()));
            self.live.publish_changes();
            let until = Instant::now() + REOPEN_AFTER;
            while Instant::now() < until && !self.shutdown.requested() {
                self.health.mark_alive();
                thread::sleep(POLL);
            }
        }
    }

    fn read(
        &self,
        topic: &str,
        start: Start,
        add: fn(&Live, &OwnedRecord),
        has_caught_up: &mut bool,
    ) -> Result<(), kafka::Error> {
        let mut tail = Tail::open(&self.connection, "console", topic, start)?;
        let (mut published_at, mut is_away) = (Instant::now(), false);
        self.live.set_away(topic, None);
        while !self.shutdown.requested() {
            self.health.mark_alive();
            match tail.next(POLL)? {
                Next::Record(record) => add(&self.live, &record),
                Next::Nothing => {}
                Next::Away(reason) => {
                    is_away = true;
                    self.live.set_away(topic, Some(reason));
                }
            }
            if is_away && tail.answers(POLL) {
                is_away = false;
                self.live.set_away(topic, None);
            }
            if tail.has_caught_up() && !*has_caught_up {
                *has_caught_up = true;
                self.count_caught_up();
            }
            if *has_caught_up && published_at.elapsed() >= PUBLISH_EVERY {
                published_at = Instant::now();
                self.live.publish_changes();
            }
        }
        Ok(())
    }

    fn count_caught_up(&self) {
        self.live.publish_changes();
        if self.caught_up.fetch_add(1, Ordering::Relaxed) + 1 == TOPICS {
            self.health.ready();
        }
    }
}
