//! `mailpulse backup` and `mailpulse restore`: what nothing else can bring back, in a file.
//!
//! Events can be read again from the raw topics, and sums follow from events. Who was erased, who must not be mailed,
//! and who is in which segment is only in compacted topics, partly by the hands of people.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use kafka::{Offset, OwnedRecord, Publisher, PublisherSettings, inspect, topics};
use record::Topics;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

use crate::args::{Backup, Restore};
use crate::installation::{Installation, note};
use crate::{InputError, Outcome};

/// The form of the file. Another form gets another name.
const FORMAT: &str = "mailpulse-backup-1";
/// The longest line that is read: a record of 64 MiB in base64, and its headers.
const MAX_LINE: u64 = 96 << 20;
/// How long reading a topic may take.
const READ_TIMEOUT: Duration = Duration::from_secs(3600);
/// How many records are acknowledged at once.
const CHUNK: usize = 5_000;
/// How long Kafka has to acknowledge a record.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// The first line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: String,
    taken_at: Timestamp,
    /// The number of partitions of each topic, by its name without `kafka.prefix`.
    topics: BTreeMap<String, i32>,
}

/// A further line: a record, in the order of its partition, so that the last one of a key counts. The last line has
/// only the number of records, which shows that the file is complete.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Record {
        topic: String,
        partition: i32,
        /// In base64, like the value and the values of the headers.
        key: String,
        /// `null` removes the key.
        value: Option<String>,
        headers: Vec<(String, String)>,
    },
    End {
        records: u64,
    },
}

/// The topics that are backed up.
fn backed_up(topics: &Topics) -> [&str; 3] {
    [&topics.erased, &topics.suppressions, &topics.segments]
}

/// The keys of a topic with their partitions, as digests: a topic can have ten million keys.
type Keys = HashSet<[u8; 16]>;

/// Writes the file. Services may run.
///
/// # Errors
/// If the settings are invalid, a topic cannot be read, or the file exists or cannot be written.
pub(crate) fn backup(config: Option<&Path>, args: &Backup) -> anyhow::Result<Outcome> {
    let installation = Installation::open(config)?;
    let Installation { connection, topics: names, .. } = &installation;
    let mut head =
        Head { format: FORMAT.to_owned(), taken_at: crate::now(), topics: BTreeMap::new() };
    for topic in backed_up(names) {
        head.topics.insert(own_name(names, topic), topics::partitions_of(connection, topic)?);
    }
    // Addresses are in it. Nobody else may read it, and a file that exists is another backup.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.file);
    let file = file.with_context(|| format!("cannot create {}", args.file.display()))?;
    let written = write(&installation, &head, &file);
    if written.is_err() {
        // A part of a backup must not look like one.
        let _ = fs::remove_file(&args.file);
    }
    let records = written?;
    note(&format!("{records} records are in {}", args.file.display()))?;
    Ok(Outcome::Done)
}

fn write(installation: &Installation, head: &Head, file: &File) -> anyhow::Result<u64> {
    let names = &installation.topics;
    let mut out = BufWriter::new(file);
    write_line(&mut out, head)?;
    let mut records = 0;
    for topic in backed_up(names) {
        let (before, own) = (records, own_name(names, topic));
        let mut written = Ok(());
        inspect::for_each_committed(&installation.connection, topic, READ_TIMEOUT, |record| {
            if written.is_ok() {
                written = write_line(&mut out, &line_of(own.clone(), &record.to_owned()));
                records += 1;
            }
        })?;
        written?;
        note(&format!("{topic}: {} records", records - before))?;
    }
    write_line(&mut out, &Line::End { records })?;
    out.flush()?;
    file.sync_all()?;
    Ok(records)
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    Ok(out.write_all(b"\n")?)
}

/// Publishes the records of the file whose keys the topics do not have. What they have is newer.
///
/// # Errors
/// If the file is no complete backup, a topic has another number of partitions, or Kafka does not acknowledge.
pub(crate) fn restore(config: Option<&Path>, args: &Restore) -> anyhow::Result<Outcome> {
    let installation = Installation::open(config)?;
    let (head, last) = check(&args.file)?;
    let Installation { connection, topics: names, .. } = &installation;
    for (own, partitions) in &head.topics {
        let topic = format!("{}{own}", names.prefix);
        if !backed_up(names).contains(&topic.as_str()) {
            bail!(InputError(format!("the backup has a topic that is not restored: {own}")));
        }
        let found = topics::partitions_of(connection, &topic)?;
        if found != *partitions {
            bail!(InputError(format!(
                "{topic} has {found} partitions, and the backup was taken of {partitions}; create the topic with as \
                 many, because the records must be where their readers expect them"
            )));
        }
    }
    note(&format!("the backup of {} has {} keys", head.taken_at, last.len()))?;
    let mut restoring = Restoring::new(&installation, head.topics.keys())?;
    read(&args.file, |number, own, record| {
        // Only the last record of a key: an earlier one of an interrupted restore would hide it the next time.
        if last.get(&digest(&own, record.partition, &record.key)) == Some(&number) {
            restoring.add(own, record, args.dry_run)?;
        }
        Ok(())
    })?;
    restoring.finish(args.dry_run)?;
    if !args.dry_run {
        note(
            "start archive now; if you have restored ClickHouse too, run `mailpulse erase --reapply` then",
        )?;
    }
    Ok(Outcome::Done)
}

/// Publishes records to topics that have no record of their keys.
struct Restoring<'a> {
    installation: &'a Installation,
    publisher: Publisher,
    runtime: Runtime,
    /// By the name of the topic without the prefix.
    topics: BTreeMap<String, Target>,
    /// What has not been published yet, of the topic with this name.
    chunk: Vec<(String, OwnedRecord)>,
}

#[derive(Default)]
struct Target {
    existing: Keys,
    restored: u64,
    kept: u64,
}

impl<'a> Restoring<'a> {
    fn new<'t>(
        installation: &'a Installation,
        topics: impl Iterator<Item = &'t String>,
    ) -> anyhow::Result<Self> {
        let settings = PublisherSettings {
            linger: Duration::from_millis(5),
            queue_bytes: 256 << 20,
            ack_timeout: Some(ACK_TIMEOUT),
        };
        let publisher = Publisher::open(&installation.connection, "operator", settings)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let targets = topics.map(|own| {
            let topic = format!("{}{own}", installation.topics.prefix);
            let existing = keys(installation, own, &topic)?;
            anyhow::Ok((own.clone(), Target { existing, ..Target::default() }))
        });
        let topics = targets.collect::<Result<_, _>>()?;
        Ok(Self { installation, publisher, runtime, topics, chunk: Vec::new() })
    }

    fn add(&mut self, own: String, record: OwnedRecord, dry_run: bool) -> anyhow::Result<()> {
        let target = self.topics.entry(own.clone()).or_default();
        if target.existing.contains(&digest(&own, record.partition, &record.key)) {
            target.kept += 1;
            return Ok(());
        }
        target.restored += 1;
        self.chunk.push((own, record));
        if self.chunk.len() >= CHUNK { self.publish(dry_run) } else { Ok(()) }
    }

    fn publish(&mut self, dry_run: bool) -> anyhow::Result<()> {
        let batch = self.publisher.batch();
        for (own, record) in self.chunk.drain(..).filter(|_| !dry_run) {
            batch.send_copy(&format!("{}{own}", self.installation.topics.prefix), &record)?;
        }
        Ok(self.runtime.block_on(batch.acknowledged())?)
    }

    fn finish(mut self, dry_run: bool) -> anyhow::Result<()> {
        self.publish(dry_run)?;
        let done = if dry_run { "would be restored" } else { "are restored" };
        for (own, Target { restored, kept, .. }) in &self.topics {
            note(&format!(
                "{own}: {restored} records {done}, {kept} have a newer one of their key"
            ))?;
        }
        Ok(())
    }
}

/// Reads the whole file, so that nothing is published of one that is damaged. Returns the head and the number of the last
/// line of each key.
fn check(path: &Path) -> anyhow::Result<(Head, HashMap<[u8; 16], u64>)> {
    let mut last = HashMap::new();
    let head = read(path, |number, own, record| {
        last.insert(digest(&own, record.partition, &record.key), number);
        Ok(())
    })?;
    Ok((head, last))
}

/// Passes the number of every line with a record, the name of its topic, and the record to `receive`.
fn read(
    path: &Path,
    mut receive: impl FnMut(u64, String, OwnedRecord) -> anyhow::Result<()>,
) -> anyhow::Result<Head> {
    let file = File::open(path)
        .map_err(|error| InputError(format!("cannot read {}: {error}", path.display())))?;
    let mut input = BufReader::new(file);
    let wrong = |number: u64, problem: &str| {
        InputError(format!("{} line {number}: {problem}", path.display()))
    };
    let head = next_line(&mut input)?.unwrap_or_default();
    let head: Head =
        serde_json::from_str(&head)
            .ok()
            .filter(|head: &Head| head.format == FORMAT)
            .ok_or_else(|| wrong(1, "this is no backup of mailpulse, or one of another release"))?;
    for number in 2.. {
        let Some(line) = next_line(&mut input)? else {
            bail!(wrong(number, "the backup is not complete; its end is missing"));
        };
        let line = serde_json::from_str(&line)
            .map_err(|error| wrong(number, &format!("this is no record: {error}")))?;
        match line {
            Line::End { records } if records == number - 2 => break,
            Line::End { .. } => {
                bail!(wrong(number, "the backup is not complete; records are missing"))
            }
            Line::Record { .. } => {
                let (topic, record) =
                    record_of(line).ok_or_else(|| wrong(number, "the base64 is invalid"))?;
                let partitions = head.topics.get(&topic).copied().unwrap_or_default();
                if !(0..partitions).contains(&record.partition) {
                    bail!(wrong(number, "the head does not name this topic and partition"));
                }
                receive(number, topic, record)?;
            }
        }
    }
    Ok(head)
}

fn next_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    let length = input.take(MAX_LINE).read_line(&mut line)?;
    Ok((length > 0).then_some(line))
}

fn line_of(topic: String, record: &OwnedRecord) -> Line {
    let text = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    Line::Record {
        topic,
        partition: record.partition,
        key: text(&record.key),
        value: record.value.as_deref().map(text),
        headers: record.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
    }
}

fn record_of(line: Line) -> Option<(String, OwnedRecord)> {
    let Line::Record { topic, partition, key, value, headers } = line else { return None };
    let bytes = |text: &str| BASE64_STANDARD.decode(text).ok();
    let headers: Option<Vec<_>> =
        headers.into_iter().map(|(name, value)| Some((name, bytes(&value)?))).collect();
    let record = OwnedRecord {
        topic: topic.clone(),
        partition,
        offset: Offset(0),
        key: bytes(&key)?,
        value: match value {
            Some(value) => Some(bytes(&value)?),
            None => None,
        },
        headers: headers?,
    };
    Some((topic, record))
}

/// Returns the keys that a topic has, those that were removed too.
fn keys(installation: &Installation, own: &str, topic: &str) -> anyhow::Result<Keys> {
    let mut keys = Keys::new();
    inspect::for_each_committed(&installation.connection, topic, READ_TIMEOUT, |record| {
        let record = record.to_owned();
        keys.insert(digest(own, record.partition, &record.key));
    })?;
    Ok(keys)
}

fn digest(own: &str, partition: i32, key: &[u8]) -> [u8; 16] {
    // The name has no zero byte, so no two places give the same bytes.
    let place =
        Sha256::new().chain_update(own).chain_update([0]).chain_update(partition.to_be_bytes());
    let digest = place.chain_update(key).finalize();
    std::array::from_fn(|at| digest[at])
}

fn own_name(names: &Topics, topic: &str) -> String {
    topic.strip_prefix(&names.prefix).unwrap_or(topic).to_owned()
}
