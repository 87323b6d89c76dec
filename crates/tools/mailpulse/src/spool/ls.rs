//! `mailpulse spool ls`.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use spool::{Parts, QuarantinedItem, SpoolKeys};

use super::item::{Item, received_at};
use crate::args::SpoolLs;
use crate::{Outcome, text};

/// Lists the pending segments, or their entries, and then the quarantine.
pub(crate) fn run(directory: &Path, keys: &SpoolKeys, args: &SpoolLs) -> anyhow::Result<Outcome> {
    let mut out = BufWriter::new(io::stdout().lock());
    let (mut pending, mut pending_bytes) = (0_u64, 0_u64);
    for number in spool::pending_segments(directory)? {
        // The ingress may have published it in the meantime.
        let Some(bytes) = spool::read_segment(directory, number)? else { continue };
        let mut entries = 0;
        for (offset, part) in Parts::of(&bytes) {
            entries += 1;
            if args.entries {
                print_item(&mut out, &Item::from_part(number, offset, part, keys), args.json)?;
            }
        }
        if !args.entries {
            print_segment(&mut out, number, entries, bytes.len(), args.json)?;
        }
        pending += entries;
        pending_bytes += bytes.len() as u64;
    }
    let (mut quarantined, mut quarantined_bytes) = (0_u64, 0_u64);
    for item in QuarantinedItem::all(directory)? {
        quarantined += 1;
        quarantined_bytes += item.bytes;
        print_item(&mut out, &Item::from_quarantine(&item, keys)?, args.json)?;
    }
    out.flush()?;
    writeln!(
        io::stderr(),
        "{pending} pending, {pending_bytes} bytes; {quarantined} in quarantine, {quarantined_bytes} bytes"
    )?;
    Ok(Outcome::Done)
}

fn print_segment(
    out: &mut impl Write,
    number: u64,
    entries: u64,
    bytes: usize,
    json: bool,
) -> io::Result<()> {
    if json {
        let row = serde_json::json!({
            "segment": number, "state": "pending", "entries": entries, "bytes": bytes,
        });
        return writeln!(out, "{row}");
    }
    writeln!(out, "{number:<16} pending     {bytes:>10} bytes, {entries} entries")
}

/// Prints one line. The field names of JSON are stable.
fn print_item(out: &mut impl Write, item: &Item, json: bool) -> io::Result<()> {
    let headers = item.request().map(|(headers, _)| headers);
    let cause = item.cause.map(spool::Cause::code);
    let received = headers.map(|headers| format!("{:.3}", received_at(&headers)));
    if json {
        let row = serde_json::json!({
            "id": item.id.to_string(),
            "state": item.state(),
            "cause": cause,
            "bytes": item.bytes().len(),
            "received_at": received,
            "moved_at": item.moved_at.map(|moved_at| format!("{moved_at:.3}")),
            "provider": headers.map(|headers| headers.provider.as_str()),
            "source": headers.map(|headers| headers.source),
            "request_id": headers.map(|headers| headers.request_id),
        });
        return writeln!(out, "{row}");
    }
    let line = |text: &str| text::escape_line(text.as_bytes());
    let request = headers.map_or_else(
        || "- -".to_owned(),
        |headers| {
            format!("{}/{} {}", headers.provider, line(headers.source), line(headers.request_id))
        },
    );
    writeln!(
        out,
        "{:<16} {:<11} {:>10} bytes, {} {request} {}",
        item.id,
        item.state(),
        item.bytes().len(),
        received.as_deref().unwrap_or("-"),
        cause.unwrap_or_default()
    )
}
