//! `mailpulse spool redrive`.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use anyhow::anyhow;
use spool::{Cause, QuarantinedItem, Spool, SpoolError, SpoolKeys};

use super::SpoolId;
use super::item::Item;
use crate::Outcome;
use crate::args::SpoolRedrive;

/// Moves the selected items from the quarantine to the end of the spool.
pub(crate) fn run(
    directory: &Path,
    keys: SpoolKeys,
    args: &SpoolRedrive,
) -> anyhow::Result<Outcome> {
    // Opening locks the spool: no ingress and no other redrive can run at the same time.
    let mut spool = if args.dry_run { None } else { Some(open(directory, keys.clone())?) };
    let mut missing: BTreeSet<SpoolId> = args.ids.iter().copied().collect();
    let (mut redriven, mut staying) = (0_u64, 0_u64);
    for found in QuarantinedItem::all(directory)? {
        let id = SpoolId { segment: found.segment, offset: found.offset };
        if !args.all && !missing.remove(&id) {
            continue;
        }
        let item = Item::from_quarantine(&found, &keys)?;
        match (redrivable(&item, args.accept_damage), &mut spool) {
            (Err(reason), _) => {
                staying += 1;
                report(id, &format!("stays: {reason}"));
            }
            (Ok(_), None) => {
                redriven += 1;
                report(id, "would be redriven");
            }
            (Ok(payload), Some(spool)) => {
                let moved = spool.readmit(&found, payload);
                moved.map_err(|error| anyhow!("{id} cannot be moved to the spool: {error}"))?;
                redriven += 1;
                report(id, "redriven: the ingress publishes it after its start");
            }
        }
    }
    for id in missing {
        staying += 1;
        report(id, "stays: it is not in quarantine");
    }
    let done = if args.dry_run { "would be redriven" } else { "redriven" };
    let _ = writeln!(io::stderr(), "{redriven} {done}, {staying} not redriven");
    Ok(if staying == 0 { Outcome::Done } else { Outcome::Incomplete })
}

fn open(directory: &Path, keys: SpoolKeys) -> anyhow::Result<Spool> {
    // The limit of the settings is for requests. The items are in the spool already.
    match Spool::open_sealed(directory, u64::MAX, keys) {
        Ok((spool, _)) => Ok(spool),
        Err(error @ SpoolError::InUse(_)) => {
            Err(anyhow!("{error}: stop the ingress first, and start it again afterwards"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the payload, or why it stays in quarantine.
fn redrivable(item: &Item, accept_damage: bool) -> Result<&[u8], &'static str> {
    if item.cause == Some(Cause::Damaged) && !accept_damage {
        return Err(
            "its bytes are damaged; if `show` prints what you expect, give --accept-damage",
        );
    }
    let payload = item.payload().filter(|_| item.request().is_some());
    payload.ok_or(match item.cause {
        Some(Cause::Sealed) => "no key of ingress.spool_keys decrypts it",
        _ => "this release cannot read its headers",
    })
}

/// Prints one line. Ignores errors of standard output, because the redrive must continue if the reader
/// of a pipe ends.
fn report(id: SpoolId, text: &str) {
    let _ = writeln!(io::stdout(), "{id:<16} {text}");
}
