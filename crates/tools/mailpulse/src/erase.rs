//! `mailpulse erase`: removes recipients from everything that is stored.
//!
//! A tombstone comes first, so that nothing new is stored and no replay brings the recipient back. Then what is stored is
//! overwritten. Rows keep their place, so that sums, offsets and the evidence of alerts stay right.

mod barrier;
mod proof;
pub(crate) mod rewrite;
pub(crate) mod tables;
pub(crate) mod target;
mod tombstones;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use privacy::ErasureKey;
use proof::Left;
use tables::Table;
use target::{Target, Targets};

use crate::args::Erase;
use crate::audit::Entry;
use crate::installation::{Installation, note};
use crate::{InputError, Outcome};

/// How many recipients are erased with one statement. Each needs a few kilobytes of SQL.
const RECIPIENTS_AT_ONCE: usize = 20;

/// The table that views read again and again. [`Table::all`] returns it before the tables that they fill.
const LIVES: &str = "message_life";

/// Erases the recipients, proves it, and writes it to `audit`.
///
/// # Errors
/// If the settings or an address are invalid, or Kafka, archive or ClickHouse do not do their part.
pub(crate) fn run(config: Option<&Path>, args: &Erase) -> anyhow::Result<Outcome> {
    let installation = Installation::open(config)?;
    let key = installation.erasure_key()?;
    let targets = if args.reapply {
        tombstones::stored_targets(&installation, &key)?
    } else {
        targets(&installation, &key, &args.recipients)?
    };
    let tables = Table::all(&installation.database)?;
    if args.dry_run {
        return count(&installation, &tables, &targets);
    }
    if !args.reapply {
        tombstones::publish(&installation, &key, &targets)?;
    }
    barrier::wait(&installation, args.wait)?;
    let mut outcome = Outcome::Done;
    for chunk in targets.chunks(RECIPIENTS_AT_ONCE) {
        if erase(&installation, &tables, chunk, args)? == Outcome::Incomplete {
            outcome = Outcome::Incomplete;
        }
    }
    if targets.is_empty() {
        note("nobody who was erased is named in the tables")?;
    }
    kafka_expires(&installation)?;
    Ok(outcome)
}

/// Returns the addresses, and what the ingress makes of them if it replaces addresses.
pub(crate) fn targets(
    installation: &Installation,
    key: &ErasureKey,
    addresses: &[String],
) -> anyhow::Result<Vec<Target>> {
    let pseudonymizer = installation.pseudonymizer()?;
    let mut targets = Vec::new();
    for address in addresses {
        let target = Target::new(key, address).ok_or_else(|| {
            InputError(format!("`{address}` is not an address; write it as ada@example.com"))
        })?;
        let published = pseudonymizer.as_ref().and_then(|it| it.pseudonym(&target.address));
        targets.push(target);
        targets.extend(published.and_then(|published| Target::new(key, &published)));
    }
    Ok(targets)
}

/// Prints how many rows name the recipients.
fn count(
    installation: &Installation,
    tables: &[Table],
    targets: &[Target],
) -> anyhow::Result<Outcome> {
    let mut out = io::stdout().lock();
    for table in tables {
        let mut rows = 0;
        for chunk in targets.chunks(RECIPIENTS_AT_ONCE) {
            rows += rewrite::count(&installation.database, table, &Targets(chunk))?;
        }
        if rows > 0 {
            writeln!(out, "{}\t{rows}", table.name)?;
        }
    }
    note("these rows would be changed; nothing was")?;
    Ok(Outcome::Done)
}

/// Erases a few recipients from all tables.
fn erase(
    installation: &Installation,
    tables: &[Table],
    chunk: &[Target],
    args: &Erase,
) -> anyhow::Result<Outcome> {
    let (database, targets) = (&installation.database, Targets(chunk));
    let mut counts = BTreeMap::new();
    for table in tables {
        let rows = rewrite::erase(database, table, &targets)?;
        if rows > 0 {
            writeln!(io::stdout(), "{}\t{rows}", table.name)?;
            counts.insert(table.name.clone(), rows);
        }
        if table.name == LIVES {
            rewrite::cancel_refreshes(database)?;
        }
    }
    let changed: Vec<&Table> =
        tables.iter().filter(|table| counts.contains_key(&table.name)).collect();
    let old_parts = proof::await_old_parts(database, &changed, args.wait)?;
    let left = proof::search(database, tables, &targets)?;
    let detail = detail(&left, old_parts);
    let is_done = detail.is_empty();
    for target in chunk {
        let subject = &target.digest.to_string();
        let entry = Entry { command: "erase", subject, counts: &counts, is_done, detail: &detail };
        entry.write(database)?;
    }
    if is_done {
        note("no part or projection of any table names the recipient")?;
        return Ok(Outcome::Done);
    }
    note(&format!("not everything is erased: {detail}"))?;
    Ok(Outcome::Incomplete)
}

/// Describes what is left. Empty: nothing.
fn detail(left: &[Left], old_parts: u64) -> String {
    let mut parts: Vec<String> =
        left.iter().map(|it| format!("{} rows of {}", it.rows, it.place)).collect();
    if old_parts > 0 {
        parts.push(format!(
            "{old_parts} old parts that ClickHouse removes after old_parts_lifetime (8 minutes by default)"
        ));
    }
    parts.join(", ")
}

/// Prints when the last record of Kafka that can name the recipients expires.
fn kafka_expires(installation: &Installation) -> anyhow::Result<()> {
    let topics = &installation.topics;
    let specs = crate::topics::specs(&installation.settings)?;
    let others =
        [&topics.enriched, &topics.events, &topics.intents, &topics.actions, &topics.dead_letters];
    let named: Vec<&str> = topics.all_raw().chain(others.map(String::as_str)).collect();
    let specs: Vec<_> = specs.into_iter().filter(|spec| named.contains(&&*spec.name)).collect();
    let retentions = kafka::survey::retentions(&installation.connection, &specs)?;
    let now = crate::now();
    let shown = std::iter::once(topics.raw(event::Kind::Bounced)).chain(others.map(String::as_str));
    for topic in shown {
        let name = if topic.contains("mail.raw.") { "mail.raw.*" } else { topic };
        let text = match retentions.get(topic) {
            Some(milliseconds) if *milliseconds >= 0 => {
                let until: Option<Timestamp> =
                    now.checked_add(SignedDuration::from_millis(*milliseconds)).ok();
                let until = until.map(|it| it.strftime("%Y-%m-%d").to_string());
                format!("expire by {}", until.unwrap_or_else(|| "the end of time".to_owned()))
            }
            Some(_) => "never expire: the topic has no retention".to_owned(),
            None => {
                "expire by the retention of the topic, which the broker does not tell".to_owned()
            }
        };
        note(&format!("records of {name} that were written before {text}"))?;
    }
    Ok(())
}
