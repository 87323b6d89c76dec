//! `mailpulse suppressions ls` and `show`.

use std::io::{self, Write};

use jiff::Timestamp;
use suppression::entry::EntryValue;
use suppression::standing::{self, Question};
use suppression::{EntryKey, State};

use super::{Keys, stored};
use crate::Outcome;
use crate::args::{ListSuppressions, ShowSuppression};
use crate::installation::Installation;
use crate::text::escape_line;

/// Lists entries.
pub(super) fn ls(installation: &Installation, args: &ListSuppressions) -> anyhow::Result<Outcome> {
    let is_wanted = |key: &EntryKey<'_>, value: &EntryValue| {
        args.list.as_ref().is_none_or(|list| *list == key.list)
            && args.reason.is_none_or(|reason| reason == key.reason)
            && args.since.is_none_or(|since| value.since >= since.as_microsecond())
            && args.until.is_none_or(|until| value.since < until.as_microsecond())
            && args
                .provider
                .as_ref()
                .is_none_or(|name| value.evidence.mailbox_provider.as_ref() == Some(name))
    };
    let (table, records) = stored::read(installation, is_wanted)?;
    let now = crate::now().as_second();
    let mut out = io::stdout().lock();
    for (key, value) in &records {
        let entries = || standing::entries(&table.of(key.recipient), None, now);
        let is_in_force = value.state == State::Suppressed
            && entries().iter().any(|entry| {
                entry.state == State::Suppressed
                    && (&*key.list, key.reason, &*key.scope)
                        == (entry.list.as_str(), entry.reason, entry.scope.as_str())
            });
        if !is_in_force && !args.all {
            continue;
        }
        if args.json {
            writeln!(out, "{}", serde_json::to_string(value)?)?;
        } else {
            writeln!(out, "{}", line(value, if is_in_force { "suppressed" } else { "lifted" }))?;
        }
    }
    Ok(Outcome::Done)
}

/// Shows what is known of an address.
pub(super) fn show(
    installation: &Installation,
    keys: &Keys,
    args: &ShowSuppression,
) -> anyhow::Result<Outcome> {
    let recipient = keys.digest(&args.address)?;
    let (table, records) = stored::read(installation, |key, _| key.recipient == recipient)?;
    let mut out = io::stdout().lock();
    writeln!(out, "recipient {recipient}")?;
    for value in records.values() {
        writeln!(out, "{}", line(value, value.state.as_str()))?;
    }
    let (list, now) = (args.list.as_deref(), crate::now().as_second());
    let question = Question { list, purpose: args.purpose, scope: None, now };
    let stopping = standing::stopping(&table.of(recipient), &question);
    let of = escape_line(list.unwrap_or("any list").as_bytes());
    let what = format!("{} mail of {of}", args.purpose.as_str());
    if stopping.is_empty() {
        writeln!(out, "{what}: may be sent")?;
    }
    for entry in stopping {
        let (reason, list) = (entry.reason.as_str(), escape_line(entry.list.as_bytes()));
        let provisional = if entry.provisional { ", provisional" } else { "" };
        writeln!(out, "{what}: must not be sent: {reason} on {list}{provisional}")?;
    }
    Ok(Outcome::Done)
}

/// Returns an entry as fields that are separated by tabs. They cannot control a terminal.
pub(super) fn line(value: &EntryValue, state: &str) -> String {
    let since = Timestamp::from_microsecond(value.since).map_or_else(
        |_| value.since.to_string(),
        |since| since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    );
    let evidence = &value.evidence;
    let evidence = [
        &evidence.mailbox_provider,
        &evidence.status,
        &evidence.wording,
        &evidence.event_id,
        &evidence.who,
        &evidence.note,
    ];
    let mut evidence: Vec<&str> = evidence.into_iter().flatten().map(String::as_str).collect();
    let provisional = if value.provisional { "provisional: incident" } else { "incident" };
    let incident = value.evidence.incident.as_ref().map(|id| format!("{provisional} {id}"));
    evidence.extend(incident.as_deref());
    let scope = if value.scope.is_empty() { "-" } else { &value.scope };
    [
        &value.list,
        &value.recipient,
        value.reason.as_str(),
        scope,
        state,
        &since,
        value.author.as_str(),
        &evidence.join("; "),
    ]
    .map(|field| escape_line(field.as_bytes()))
    .join("\t")
}
