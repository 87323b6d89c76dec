use event::{Kind, Provider};
use metrics::{Counter, counter};
use record::{EnrichedHeaders, FirstSight, Reason, Topics, names};
use state::{Hour, Sight, StateError, Store};
use stream::step::Step;
use stream::{Outgoing, Output, Record, StreamError, TopicPartition};

/// Lets the first sight of every event pass.
pub struct Dedupe<'a> {
    store: Store,
    events: &'a str,
    changelog: &'a str,
    /// Called while a restore goes on, which may take longer than a stuck process is given.
    alive: &'a dyn Fn(),
    meters: Meters,
    round: Round,
}

/// What the open round will have counted once it is committed.
#[derive(Default)]
struct Round {
    /// By provider, as [`Meters::duplicates`].
    duplicates: [u64; Provider::ALL.len() + 1],
    beyond_horizon: u64,
}

impl<'a> Dedupe<'a> {
    /// With the ids in `store`; `alive` is called during long restores.
    pub fn new(store: Store, topics: &'a Topics, alive: &'a dyn Fn()) -> Self {
        Self {
            store,
            events: &topics.events,
            changelog: &topics.dedupe_changelog,
            alive,
            meters: Meters::new(),
            round: Round::default(),
        }
    }

    /// Looks the event up. `None` is a repeat; else what it is the first of, where that is asked.
    fn sight(
        &mut self,
        record: &Record<'_>,
        event: &EnrichedHeaders,
    ) -> Result<Option<Passes>, StateError> {
        let hour = Hour::of(event.occurred_at);
        let partition = self.store.partition(record.partition())?;
        Ok(match (partition.sight(&event.event_id, hour)?, event.engagement_id) {
            (Sight::Repeat, _) => {
                self.round.duplicates[provider_slot(record)] += 1;
                None
            }
            (Sight::First, Some(engagement)) if event.kind.is_engagement() => {
                Some(Passes(Some(partition.engage(&engagement, event.kind, hour)?)))
            }
            (Sight::First, _) => Some(Passes(None)),
            (Sight::BeyondHorizon, _) => {
                self.round.beyond_horizon += 1;
                Some(Passes::unknown(event.kind))
            }
        })
    }
}

/// An event that passes, and what it is the first of: opens and clicks of a known engagement only.
struct Passes(Option<FirstSight>);

impl Passes {
    /// Beyond the horizon nobody knows, and a repeat must not count as a first.
    fn unknown(kind: Kind) -> Self {
        Self(kind.is_engagement().then(FirstSight::default))
    }
}

impl Step for Dedupe<'_> {
    fn assigned(
        &mut self,
        partition: &TopicPartition,
        restore: &stream::Restore<'_>,
    ) -> Result<(), StreamError> {
        let number = partition.partition;
        let read = |from, apply: &mut dyn FnMut(&[u8]) -> Result<(), StateError>| {
            let restored = restore.changelog(self.changelog, number, from, |_, value| {
                (self.alive)();
                apply(value.unwrap_or_default()).map_err(StreamError::state)
            })?;
            tracing::info!(partition = number, from, records = restored.records, "restored");
            Ok::<_, Failed>(restored.next_offset)
        };
        self.store.take_over(number, read).map_err(|Failed(error)| error)
    }

    fn revoked(&mut self, partition: &TopicPartition) {
        self.store.give_up(partition.partition);
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), StreamError> {
        let event = match EnrichedHeaders::read(&|name| record.header(name)) {
            Ok(event) => event,
            Err(error) => return out.dead_letter(record, Reason::BadHeaders, &error.to_string()),
        };
        let Some(Passes(first)) = self.sight(record, &event).map_err(StreamError::state)? else {
            return Ok(());
        };
        let first = first.map(|first| (names::FIRST, first.as_header().as_bytes()));
        out.forward(record, self.events, record.partition(), first.as_slice())
    }

    fn end_of_round(&mut self, out: &mut Output<'_>) -> Result<(), StreamError> {
        for (partition, value) in self.store.changelog() {
            out.send(Outgoing {
                topic: self.changelog,
                partition: Some(partition),
                key: &[],
                value: Some(&value),
                headers: &[],
            })?;
        }
        Ok(())
    }

    fn committed(&mut self) -> Result<(), StreamError> {
        self.meters.add(std::mem::take(&mut self.round));
        self.store.commit().map_err(StreamError::state)
    }

    fn rolled_back(&mut self) {
        self.round = Round::default();
        self.store.roll_back();
    }
}

/// An error on its way through a restore: of the stream, or of the store.
struct Failed(StreamError);

impl From<StreamError> for Failed {
    fn from(error: StreamError) -> Self {
        Self(error)
    }
}

impl From<StateError> for Failed {
    fn from(error: StateError) -> Self {
        Self(StreamError::state(error))
    }
}

struct Meters {
    /// By the place of the provider in [`Provider::ALL`]; the last is of records that name none.
    duplicates: Vec<Counter>,
    beyond_horizon: Counter,
}

impl Meters {
    fn new() -> Self {
        let providers = Provider::ALL.iter().map(|provider| provider.as_str());
        Self {
            duplicates: providers
                .chain(["unknown"])
                .map(|provider| counter!("mailpulse_duplicates_total", "provider" => provider))
                .collect(),
            beyond_horizon: counter!("mailpulse_beyond_horizon_total"),
        }
    }

    fn add(&self, round: Round) {
        for (counter, more) in self.duplicates.iter().zip(round.duplicates) {
            counter.increment(more);
        }
        self.beyond_horizon.increment(round.beyond_horizon);
    }
}

fn provider_slot(record: &Record<'_>) -> usize {
    let name = record.header(names::PROVIDER).unwrap_or_default();
    let known = Provider::ALL.iter().position(|provider| provider.as_str().as_bytes() == name);
    known.unwrap_or(Provider::ALL.len())
}
