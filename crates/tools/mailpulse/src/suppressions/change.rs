//! `mailpulse suppressions add` and `lift`, with their rows in the table `audit`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use record::{content_types, names};
use suppression::edit::{self, Addition, Edit, Selection};
use suppression::entry::EntryValue;
use suppression::{Author, EntryKey, Reason, State, wording};

use super::{Keys, list, stored};
use crate::args::{AddSuppression, LiftSuppressions};
use crate::audit::{self, Entry};
use crate::installation::{Installation, note};
use crate::{InputError, Outcome};

/// The headers of the records.
const HEADERS: &[(&str, &[u8])] = &[(names::CONTENT_TYPE, content_types::SUPPRESSION.as_bytes())];
/// How many records are published at once.
const CHUNK: usize = 5_000;

/// Adds an entry.
pub(super) fn add(
    installation: &Installation,
    keys: &Keys,
    args: &AddSuppression,
) -> anyhow::Result<Outcome> {
    let recipient = keys.digest(&args.address)?;
    let (table, _) = stored::read(installation, |_, _| false)?;
    let addition = Addition {
        list: args.list.clone(),
        reason: args.reason,
        scope: args.scope.clone(),
        purpose: args.purpose,
        expires_at: args.expires.map(|at| at.as_second()),
        note: args.note.as_ref().map(|note| wording::without_addresses(note, &args.address)),
    };
    let now = crate::now().as_second();
    if addition.expires_at.is_some_and(|at| at <= now) {
        return Err(InputError("--expires is in the past; write a later time".to_owned()).into());
    }
    let edit = edit::add(recipient, &table.of(recipient), &addition, now, &audit::who());
    let subject = recipient.to_string();
    publish(installation, keys, "suppressions add", &subject, "", vec![edit])
}

/// Lifts entries.
pub(super) fn lift(
    installation: &Installation,
    keys: &Keys,
    args: &LiftSuppressions,
) -> anyhow::Result<Outcome> {
    let Some(address) = &args.address else { return lift_batch(installation, keys, args) };
    let recipient = keys.digest(address)?;
    let (table, _) = stored::read(installation, |_, _| false)?;
    let selection =
        Selection { list: args.list.clone(), reason: args.reason, scope: args.scope.clone() };
    let why = args.note.as_ref().map(|note| wording::without_addresses(note, address));
    let (rows, now) = (table.of(recipient), crate::now().as_second());
    let edits = edit::lift(recipient, &rows, &selection, why.as_deref(), now, &audit::who());
    finish_lift(installation, keys, &recipient.to_string(), "", edits, args.dry_run)
}

/// Lifts what the answers of a mailbox provider have caused: in a time, or during an incident.
fn lift_batch(
    installation: &Installation,
    keys: &Keys,
    args: &LiftSuppressions,
) -> anyhow::Result<Outcome> {
    let reason = args.reason.unwrap_or(Reason::HardBounce);
    let named = args.incident.as_ref();
    let incidents = named.map(|id| stored::with_merged(installation, id)).transpose()?;
    if let Some(whole) = incidents.as_ref().and_then(|it| it.part_of.as_ref()) {
        note(&format!(
            "the incident is part of incident {whole} now; `mailpulse suppressions lift --incident {whole}` takes back the \
             entries of both, and of all others that are part of it"
        ))?;
    }
    let incidents = incidents.map(|it| it.ids);
    let is_of_incident = |incident: Option<&String>| {
        incidents.as_ref().is_none_or(|ids| incident.is_some_and(|id| ids.contains(id)))
    };
    let wanted = args.wording.as_deref().unwrap_or_default().to_lowercase();
    let is_wanted = |key: &EntryKey<'_>, value: &EntryValue| {
        let evidence = &value.evidence;
        (key.author, key.reason, value.state) == (Author::Event, reason, State::Suppressed)
            && args
                .provider
                .as_ref()
                .is_none_or(|it| evidence.mailbox_provider.as_ref() == Some(it))
            && is_of_incident(evidence.incident.as_ref())
            && args.list.as_ref().is_none_or(|list| *list == key.list)
            && args.since.is_none_or(|since| value.since >= since.as_microsecond())
            && args.until.is_none_or(|until| value.since < until.as_microsecond())
            && evidence.wording.as_deref().unwrap_or_default().to_lowercase().contains(&wanted)
    };
    let (table, records) = stored::read(installation, is_wanted)?;
    let (now, who) = (crate::now().as_second(), audit::who());
    // A note about many recipients must not contain an address.
    let why = args.note.as_deref().map(scrubbed);
    let mut edits = Vec::new();
    for (key, value) in &records {
        let selection = Selection {
            list: Some(key.list.to_string()),
            reason: Some(reason),
            scope: Some(key.scope.to_string()),
        };
        let rows = table.of(key.recipient);
        let lifts = edit::lift(key.recipient, &rows, &selection, why.as_deref(), now, &who);
        if args.dry_run && !lifts.is_empty() {
            writeln!(io::stdout(), "{}", list::line(value, value.state.as_str()))?;
        }
        edits.extend(lifts);
    }
    let detail = match named {
        Some(_) => format!("batch: incidents {incidents:?}, wording {:?}", scrubbed(&wanted)),
        None => format!(
            "batch: mailbox provider {:?}, since {:?}, until {:?}, wording {:?}",
            args.provider,
            args.since,
            args.until,
            scrubbed(&wanted)
        ),
    };
    finish_lift(installation, keys, "", &detail, edits, args.dry_run)
}

/// Returns a text of an operator without the addresses in it.
fn scrubbed(text: &str) -> String {
    wording::without_addresses(text, "")
}

fn finish_lift(
    installation: &Installation,
    keys: &Keys,
    subject: &str,
    detail: &str,
    edits: Vec<Edit>,
    is_dry_run: bool,
) -> anyhow::Result<Outcome> {
    if is_dry_run {
        note(&format!("{} entries would be lifted; nothing was", edits.len()))?;
        return Ok(Outcome::Done);
    }
    if edits.is_empty() {
        note("no entry that suppresses matches; nothing was lifted")?;
        return Ok(Outcome::Done);
    }
    publish(installation, keys, "suppressions lift", subject, detail, edits)
}

/// Publishes records, after the row of `audit` that says so. Prints how many there were.
pub(super) fn publish(
    installation: &Installation,
    keys: &Keys,
    command: &'static str,
    subject: &str,
    detail: &str,
    edits: Vec<Edit>,
) -> anyhow::Result<Outcome> {
    // Records under another key than that of the installation would suppress nobody.
    let timeout = std::time::Duration::from_secs(120);
    erasure::all(&installation.connection, &installation.topics, &keys.erasure, timeout)?;
    let topic = &installation.topics.suppressions;
    let write = |published: u64, is_done| {
        let counts = BTreeMap::from([("mail.suppressions".to_owned(), published)]);
        let counts = &counts;
        Entry { command, subject, counts, is_done, detail }.write(&installation.database)
    };
    let nothing = &BTreeMap::new();
    let start = Entry { command, subject, counts: nothing, is_done: false, detail };
    start.write_start(&installation.database)?;
    let mut published = 0;
    for chunk in edits.chunks(CHUNK) {
        let records: Result<Vec<_>, serde_json::Error> = chunk
            .iter()
            .map(|(key, value)| Ok((key.to_string(), serde_json::to_vec(value)?)))
            .collect();
        if let Err(error) = installation.publish(topic, HEADERS, &records?) {
            write(published, false)?;
            return Err(error);
        }
        published += chunk.len() as u64;
    }
    write(published, true)?;
    note(&format!("{published} records were written to {topic}"))?;
    Ok(Outcome::Done)
}
