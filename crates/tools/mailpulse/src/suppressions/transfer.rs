//! `mailpulse suppressions import`, `export` and `drift`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use suppression::edit::{self, Addition, Edit};
use suppression::formats::{self, Format, Listed, Listing};
use suppression::standing::{self, Question};
use suppression::table::Table;
use suppression::{Purpose, Reason, RecipientDigest, State, wording};

use super::change::publish;
use super::{Keys, stored};
use crate::args::{DriftSuppressions, ExportSuppressions, ImportSuppressions, ProviderFile};
use crate::audit;
use crate::installation::{Installation, note};
use crate::text::escape_line;
use crate::{InputError, Outcome, input};

/// Recipients of the table `events` are read in this many parts, because all of them may not fit into memory.
const PARTS: u32 = 16;

/// Adds the entries of a provider's list.
pub(super) fn import(
    installation: &Installation,
    keys: &Keys,
    args: &ImportSuppressions,
) -> anyhow::Result<Outcome> {
    let theirs = read(keys, &args.file)?;
    let (table, _) = stored::read(installation, |_, _| false)?;
    let (now, who) = (crate::now().as_second(), audit::who());
    let (mut edits, mut known, mut lifted): (Vec<Edit>, u64, u64) = (Vec::new(), 0, 0);
    for ((recipient, _), listed) in &theirs {
        let list = &args.file.list;
        match state(&table, *recipient, list, listed.reason, now) {
            Some(State::Suppressed) => known += 1,
            // The provider does not know of the lift.
            Some(State::Lifted) => lifted += 1,
            None => edits.push(addition(*recipient, list, listed, now, &who)),
        }
    }
    note(&format!(
        "{} entries: {} are new, {known} are known, {lifted} were lifted here and stay so",
        theirs.len(),
        edits.len()
    ))?;
    if args.dry_run || edits.is_empty() {
        return Ok(Outcome::Done);
    }
    let (format, list) = (args.file.format.as_str(), &args.file.list);
    let detail =
        format!("import of {} in the format {format} to list {list:?}", args.file.file.display());
    publish(installation, keys, "suppressions import", "", &detail, edits)
}

fn addition(recipient: RecipientDigest, list: &str, listed: &Listed, now: i64, who: &str) -> Edit {
    let addition = Addition {
        list: list.to_owned(),
        reason: listed.reason,
        scope: String::new(),
        purpose: (listed.reason == Reason::Unsubscribe).then_some(Purpose::Marketing),
        expires_at: None,
        note: Some("import".to_owned()),
    };
    let at = listed.since.unwrap_or(now).min(now);
    // There is no lift that it has to be newer than.
    let (key, mut value) = edit::add(recipient, &[], &addition, at, who);
    let words = listed.wording.as_ref();
    value.evidence.wording = words.map(|it| wording::without_addresses(it, &listed.address));
    (key, value)
}

/// Returns the state of the entry of a recipient with a reason and any scope.
fn state(
    table: &Table,
    recipient: RecipientDigest,
    list: &str,
    reason: Reason,
    now: i64,
) -> Option<State> {
    let entries = standing::entries(&table.of(recipient), Some(list), now);
    let states = entries.iter().filter(|entry| entry.list == list && entry.reason == reason);
    states.map(|entry| entry.state).min() // suppressed if any scope is
}

/// Reads a provider's list by recipient and reason. What is no address is reported and left out.
fn read(
    keys: &Keys,
    file: &ProviderFile,
) -> anyhow::Result<BTreeMap<(RecipientDigest, Reason), Listed>> {
    let text = text(&file.file)?;
    let listed = formats::read(file.format, &text, file.reason)
        .map_err(|error| InputError(format!("{}: {error}", file.file.display())))?;
    let (mut found, mut unusable) = (BTreeMap::new(), 0);
    for entry in listed {
        match keys.recipients.of_address(&entry.address) {
            Some(recipient) => drop(found.insert((recipient, entry.reason), entry)),
            None => unusable += 1,
        }
    }
    if unusable > 0 {
        note(&format!("{unusable} entries are left out, because they name no address"))?;
    }
    Ok(found)
}

/// Writes the suppressed addresses in the form that a provider imports.
pub(super) fn export(
    installation: &Installation,
    keys: &Keys,
    args: &ExportSuppressions,
) -> anyhow::Result<Outcome> {
    let (table, _) = stored::read(installation, |_, _| false)?;
    let now = crate::now().as_second();
    let question =
        Question { list: args.list.as_deref(), purpose: Purpose::Marketing, scope: None, now };
    let mut listings = BTreeMap::new();
    for_each_address(installation, args.addresses.as_deref(), |address| {
        if address.chars().any(char::is_control) {
            return; // no provider has such an address
        }
        let Some(recipient) = keys.recipients.of_address(address) else { return };
        let mut stopping = standing::stopping(&table.of(recipient), &question);
        stopping.retain(|entry| args.reason.is_none_or(|reason| reason == entry.reason));
        if let Some(entry) = stopping.first() {
            let (reason, since) = (entry.reason, entry.since);
            let address = event::recipient_key(address).into_owned();
            listings.insert(recipient, Listing { address, reason, since });
        }
    })?;
    let listings: Vec<Listing> = listings.into_values().collect();
    let text = formats::write(args.format, args.reason, &listings)
        .map_err(|error| InputError(error.to_string()))?;
    io::stdout().write_all(text.as_bytes())?;
    note(&format!("{} addresses", listings.len()))?;
    let most = formats::SES_IMPORT_JOB_ADDRESSES;
    if args.format == Format::Ses && listings.len() > most {
        note(&format!(
            "CreateImportJob takes {most} addresses at a time; split the file, for example with `split -l {most}`"
        ))?;
    }
    Ok(Outcome::Done)
}

fn for_each_address(
    installation: &Installation,
    file: Option<&Path>,
    mut visit: impl FnMut(&str),
) -> anyhow::Result<()> {
    if let Some(file) = file {
        text(file)?.lines().for_each(visit);
        return Ok(());
    }
    for part in 0..PARTS {
        let sql = format!(
            "SELECT DISTINCT recipient FROM events \
             WHERE kind IN ('bounced', 'complained', 'unsubscribed', 'dropped') AND recipient != '' \
             AND cityHash64(recipient) % {PARTS} = {part}"
        );
        let recipients: Vec<String> = installation.database.long_rows(&sql)?;
        recipients.iter().for_each(|recipient| visit(recipient));
    }
    Ok(())
}

/// Compares a provider's list with ours.
pub(super) fn drift(
    installation: &Installation,
    keys: &Keys,
    args: &DriftSuppressions,
) -> anyhow::Result<Outcome> {
    let theirs = read(keys, &args.file)?;
    let (table, _) = stored::read(installation, |_, _| false)?;
    let (list, now) = (&args.file.list, crate::now().as_second());
    let mut out = io::stdout().lock();
    let (mut same, mut differences) = (0_u64, 0_u64);
    for ((recipient, _), listed) in &theirs {
        let what = match state(&table, *recipient, list, listed.reason, now) {
            Some(State::Suppressed) => {
                same += 1;
                continue;
            }
            Some(State::Lifted) => "lifted here",
            None => "only theirs",
        };
        differences += 1;
        let address = escape_line(listed.address.as_bytes());
        writeln!(out, "{what}\t{address}\t{}", listed.reason.as_str())?;
    }
    // Only reasons that their file can have.
    let reasons = theirs.keys().map(|(_, reason)| *reason).chain(args.file.reason);
    let reasons: BTreeSet<Reason> = reasons.collect();
    let mut ours = BTreeSet::new();
    table.for_each(|recipient, form, _| {
        if *form.list == **list && reasons.contains(&form.reason) {
            ours.insert((recipient, form.reason));
        }
    });
    for (recipient, reason) in ours.iter().filter(|key| !theirs.contains_key(key)) {
        if state(&table, *recipient, list, *reason, now) == Some(State::Suppressed) {
            differences += 1;
            writeln!(out, "only ours\t{recipient}\t{}", reason.as_str())?;
        }
    }
    note(&format!("{same} entries are the same, {differences} differ"))?;
    Ok(if differences == 0 { Outcome::Done } else { Outcome::Incomplete })
}

fn text(path: &Path) -> Result<String, InputError> {
    String::from_utf8(input::read(path)?)
        .map_err(|_| InputError(format!("{} is not UTF-8 text", path.display())))
}
