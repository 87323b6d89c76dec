//! `mailpulse spool drain`.

use std::io::{self, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use spool::{Parts, QuarantinedItem};

use crate::Outcome;
use crate::args::SpoolDrain;

/// How often the spool is looked at.
const POLL: Duration = Duration::from_secs(1);
/// How often the number of entries is reported.
const REPORT: Duration = Duration::from_secs(10);
/// The spool must be empty this many times in a row, because the ingress spools a request for as long as Kafka does
/// not acknowledge it.
const LOOKS: u32 = 2;

/// Waits until the ingress has published every pending entry. What is in quarantine is never published by itself.
pub(crate) fn run(directory: &Path, args: &SpoolDrain) -> anyhow::Result<Outcome> {
    let (began, mut reported, mut empty) = (Instant::now(), None::<Instant>, 0);
    let mut err = io::stderr();
    loop {
        let pending = pending(directory)?;
        empty = if pending == 0 { empty + 1 } else { 0 };
        if empty == LOOKS {
            break;
        }
        if began.elapsed() >= args.wait {
            writeln!(
                err,
                "{pending} entries are still in the spool after {} s; see that the ingress of this spool runs and that it \
                 reaches Kafka, and keep the directory",
                args.wait.as_secs()
            )?;
            return Ok(Outcome::Incomplete);
        }
        if pending > 0 && reported.is_none_or(|reported| reported.elapsed() >= REPORT) {
            writeln!(err, "waiting until the ingress has published {pending} entries")?;
            reported = Some(Instant::now());
        }
        sleep(POLL);
    }
    let quarantined = QuarantinedItem::all(directory)?.len();
    if quarantined > 0 {
        writeln!(
            err,
            "nothing is pending, but {quarantined} items are in quarantine; redrive them with `mailpulse spool redrive` \
             before the directory is removed"
        )?;
        return Ok(Outcome::Incomplete);
    }
    writeln!(err, "the spool is empty")?;
    Ok(Outcome::Done)
}

/// Returns the number of pending entries.
fn pending(directory: &Path) -> anyhow::Result<usize> {
    let mut entries = 0;
    for number in spool::pending_segments(directory)? {
        // The ingress may have published it in the meantime.
        let Some(bytes) = spool::read_segment(directory, number)? else { continue };
        entries += Parts::of(&bytes).count();
    }
    Ok(entries)
}
