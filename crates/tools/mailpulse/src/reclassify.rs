//! `mailpulse reclassify`: classifies stored events again from the provider's bytes, after a fix of a parser or a table.

mod recount;
mod stored;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use archive::ArchiveSettings;
use enrich::{EnrichSettings, Enrichment, Loading, RawRecord};
use event::{Automation, AutomationReason, Provider, ReceivedAt};
use providers::{Envelope, Mappings};
use recount::NewValues;
use stored::{COLUMNS, Classification, StoredEvent};

use crate::args::Reclassify;
use crate::audit::Entry;
use crate::database::{literal, time_literal};
use crate::heal::check_archive_is_stopped;
use crate::installation::{Installation, note};
use crate::{InputError, Outcome};

/// The number of events that are read at once.
const EVENTS_AT_ONCE: usize = 5_000;
/// The number of messages that are counted again at once.
const MESSAGES_AT_ONCE: usize = 200;
/// The greatest number of events that one run corrects.
const MAX_CHANGES: usize = 1_000_000;
/// How long ClickHouse has to answer the queries of `enrich.lookup_query`.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(30);

/// What was found in the stored events.
#[derive(Debug, Default)]
struct Found {
    /// By row: the new classification.
    changed: HashMap<u64, Classification>,
    /// The messages of these rows.
    messages: std::collections::BTreeSet<Message>,
    /// By old and new classification: the number of events.
    differences: BTreeMap<(String, String), u64>,
    read: u64,
    /// Events that the parsers do not read any more.
    unreadable: u64,
    /// Events that would have another kind.
    of_another_kind: u64,
}

/// A message at a recipient.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    source: String,
    provider: String,
    message_id: String,
    recipient: String,
}

/// Classifies the events, prints the differences, and corrects rows, rollups and lives unless `--diff` is given.
///
/// # Errors
/// If the settings or arguments are invalid, archive runs while rows are to be corrected, or ClickHouse cannot be reached.
pub(crate) fn run(config: Option<&Path>, args: &Reclassify) -> anyhow::Result<Outcome> {
    let installation = Installation::open(config)?;
    if !args.diff {
        check_archive_is_stopped(&installation)?;
    }
    let found = Found::read(&installation, args)?;
    found.print()?;
    if args.diff || found.changed.is_empty() {
        let is_complete = found.of_another_kind == 0 && found.unreadable == 0;
        return Ok(if is_complete { Outcome::Done } else { Outcome::Incomplete });
    }
    let (mut values, mut skipped) = (Vec::new(), 0);
    let messages: Vec<&Message> = found.messages.iter().collect();
    for chunk in messages.chunks(MESSAGES_AT_ONCE) {
        let (of_chunk, not_recounted) = found.recount(&installation, chunk)?;
        skipped += not_recounted;
        values.extend(of_chunk);
    }
    if !values.is_empty() {
        let archive: ArchiveSettings = installation.settings.section("archive")?;
        write::write(&installation.database, archive.retention.of_rows_and_sums(), &values)?;
    }
    let corrected = values.len() as u64;
    let detail = format!(
        "{skipped} messages were left, because dedupe knew more than the table has; {} events would have another kind, \
         {} cannot be read",
        found.of_another_kind, found.unreadable
    );
    let is_done = skipped == 0 && found.of_another_kind == 0 && found.unreadable == 0;
    let detail = if is_done { "" } else { &detail };
    let counts = BTreeMap::from([("events".to_owned(), corrected)]);
    Entry { command: "reclassify", subject: "", counts: &counts, is_done, detail }
        .write(&installation.database)?;
    note(&format!("{corrected} events are corrected"))?;
    if is_done {
        return Ok(Outcome::Done);
    }
    note(detail)?;
    Ok(Outcome::Incomplete)
}

impl Found {
    /// Reads the events of the time, and classifies them again.
    fn read(installation: &Installation, args: &Reclassify) -> anyhow::Result<Self> {
        let settings = &installation.settings;
        let mut enrichment = Enrichment::open(&EnrichSettings::read(settings)?)?;
        if let Loading::Waiting(reason) = enrichment.load(LOOKUP_TIMEOUT) {
            anyhow::bail!("{reason}");
        }
        let mappings = Mappings::new(settings.list("source")?)?;
        let mut found = Self::default();
        let to = args.to.unwrap_or_else(crate::now);
        let mut conditions = vec![
            format!("events.received_at >= {}", time_literal(args.from.as_microsecond())),
            format!("events.received_at < {}", time_literal(to.as_microsecond())),
            // Expired, or erased.
            "raw NOT IN ('', '{}')".to_owned(),
        ];
        conditions.extend(args.source.iter().map(|name| format!("source = {}", literal(name))));
        let partitions: Vec<u16> = installation
            .database
            .rows("SELECT DISTINCT kafka_partition FROM events ORDER BY kafka_partition", &[])?;
        for partition in partitions {
            let mut after = None::<u64>;
            loop {
                let position =
                    after.map_or(String::new(), |after| format!(" AND kafka_offset > {after}"));
                let rows: Vec<StoredEvent> = installation.database.long_rows(&format!(
                    "SELECT {COLUMNS} FROM events WHERE kafka_partition = {partition} AND {}{position} \
                     ORDER BY kafka_offset LIMIT {EVENTS_AT_ONCE}",
                    conditions.join(" AND ")
                ))?;
                let Some(last) = rows.last() else { break };
                after = Some(last.kafka_offset);
                for row in &rows {
                    found.add(&mut enrichment, &mappings, row)?;
                }
            }
        }
        Ok(found)
    }

    fn add(
        &mut self,
        enrichment: &mut Enrichment,
        mappings: &Mappings,
        stored: &StoredEvent,
    ) -> anyhow::Result<()> {
        self.read += 1;
        let Some(now) = classify(enrichment, mappings, stored) else {
            self.unreadable += 1;
            return Ok(());
        };
        let before = stored.classification()?;
        let now = keep_what_dedupe_found(&before, now);
        if now == before {
            return Ok(());
        }
        *self.differences.entry((before.describe(), now.describe())).or_default() += 1;
        if now.kind != before.kind {
            self.of_another_kind += 1;
            return Ok(());
        }
        if self.changed.len() >= MAX_CHANGES {
            let text = format!("more than {MAX_CHANGES} events differ; choose a shorter time");
            return Err(InputError(text).into());
        }
        self.messages.insert(Message {
            source: stored.source.clone(),
            provider: stored.provider.clone(),
            message_id: stored.message_id.clone(),
            recipient: stored.recipient.clone(),
        });
        self.changed.insert(stored.row(), now);
        Ok(())
    }

    /// Prints a line for each difference, the most frequent one first.
    fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let mut lines: Vec<_> = self.differences.iter().collect();
        lines.sort_by_key(|(_, events)| std::cmp::Reverse(**events));
        for ((before, now), events) in lines {
            writeln!(out, "{events}\t{before}\t{now}")?;
        }
        note(&format!(
            "{} events read, {} differ, {} would have another kind (not corrected: the kind is part of the sorting key), {} \
             cannot be read",
            self.read,
            self.changed.len(),
            self.of_another_kind,
            self.unreadable
        ))
    }

    /// Counts messages again. Returns the values of their rows, and how many messages cannot be counted again.
    fn recount(
        &self,
        installation: &Installation,
        messages: &[&Message],
    ) -> anyhow::Result<(Vec<NewValues>, u64)> {
        let keys: Vec<String> = messages
            .iter()
            .map(|it| {
                let parts = [&it.source, &it.provider, &it.message_id, &it.recipient];
                format!("({})", parts.map(|part| literal(part)).join(", "))
            })
            .collect();
        let ids: Vec<String> = messages.iter().map(|it| literal(&it.message_id)).collect();
        let rows: Vec<StoredEvent> = installation.database.long_rows(&format!(
            "SELECT {COLUMNS} FROM events WHERE message_id IN ({}) \
             AND (source, provider, message_id, recipient) IN ({}) \
             ORDER BY source, provider, message_id, recipient, kafka_partition, kafka_offset",
            ids.join(", "),
            keys.join(", ")
        ))?;
        let (mut values, mut skipped) = (Vec::new(), 0);
        for events in rows.chunk_by(|a, b| key(a) == key(b)) {
            // Without the id of a message, nothing connects its events.
            let of_message = if events.first().is_some_and(|event| event.message_id.is_empty()) {
                None
            } else {
                recount::recount(events, &self.changed)
            };
            match of_message {
                Some(of_message) => values.extend(of_message),
                None => skipped += 1,
            }
        }
        Ok((values, skipped))
    }
}

fn key(event: &StoredEvent) -> [&str; 4] {
    [&event.source, &event.provider, &event.message_id, &event.recipient]
}

/// Returns how this release classifies an event, or `None` if it cannot read it.
fn classify(
    enrichment: &mut Enrichment,
    mappings: &Mappings,
    stored: &StoredEvent,
) -> Option<Classification> {
    let provider: Provider = stored.provider.parse().ok()?;
    let envelope = Envelope {
        source: &stored.source,
        recipient: &stored.recipient,
        received_at: ReceivedAt(stored.received_at),
        request_id: &stored.request_id,
    };
    let record = RawRecord {
        provider,
        envelope,
        value: stored.raw.as_bytes(),
        is_mapped: mappings.has(provider, &stored.source),
        is_authentic: stored.authentic,
    };
    enrichment.read(&record, |event, _| Classification::of(event)).ok()
}

/// Returns the new classification with the machines that only `dedupe` finds, by their timing.
fn keep_what_dedupe_found(before: &Classification, now: Classification) -> Classification {
    let by_timing = |found: &Automation| {
        matches!(found.reason, AutomationReason::Immediate | AutomationReason::LinkBurst)
    };
    let automation = now.automation.or_else(|| before.automation.filter(by_timing));
    Classification { automation, ..now }
}
