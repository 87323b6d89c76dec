//! `mailpulse spool show`.

use std::io::{self, Write};
use std::path::Path;

use spool::{Cause, SpoolKeys};

use super::item::{Item, received_at};
use crate::args::SpoolShow;
use crate::{Outcome, text};

/// How many bytes of the body are shown; `--raw` prints all of them.
const SHOWN_BYTES: usize = 4 << 10;

pub(crate) fn run(directory: &Path, keys: &SpoolKeys, args: &SpoolShow) -> anyhow::Result<Outcome> {
    let Some(item) = Item::find(directory, args.id, keys)? else {
        writeln!(
            io::stderr(),
            "mailpulse: the spool has nothing at {}; the ingress may have published it",
            args.id
        )?;
        return Ok(Outcome::Incomplete);
    };
    let mut out = io::stdout().lock();
    if args.raw {
        out.write_all(item.request().map_or(item.bytes(), |(_, body)| body))?;
    } else {
        out.write_all(description(&item).as_bytes())?;
    }
    out.flush()?;
    Ok(Outcome::Done)
}

fn description(item: &Item) -> String {
    let mut rows = vec![("id", item.id.to_string()), ("state", item.state().to_owned())];
    rows.extend(item.moved_at.map(|moved_at| ("moved", format!("{moved_at:.3}"))));
    rows.extend(item.cause.map(|cause| ("cause", cause.code().to_owned())));
    rows.push(("meaning", meaning(item).to_owned()));
    rows.push(("fix", fix(item).to_owned()));
    let mut description: String =
        rows.iter().map(|(name, text)| format!("{name:<9}{text}\n")).collect();
    let (what, bytes) = match item.request() {
        Some((headers, body)) => {
            description += "\nheaders\n";
            for (name, value) in headers.headers() {
                description += &format!("  {name:<12} {}\n", text::escape_line(&value));
            }
            description += &format!("  received     {:.3}\n", received_at(&headers));
            ("body", body)
        }
        None => ("bytes", item.bytes()),
    };
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
    let value = text::format_value(shown);
    let more = if shown.len() < bytes.len() { "\n… (--raw prints all of it)" } else { "" };
    description + &format!("\n{what}, {} bytes\n{value}{more}\n", bytes.len())
}

const fn meaning(item: &Item) -> &'static str {
    match item.cause {
        None => "an accepted request that waits for Kafka",
        Some(Cause::Damaged) => {
            "the disk has lost or changed some of these bytes: the checksum does not match"
        }
        Some(Cause::BadHeaders) => {
            "the bytes are as they were written, but this release cannot read the headers of the entry"
        }
        Some(Cause::Sealed) => {
            "the entry is encrypted with a key that is not in ingress.spool_keys, or was changed after that"
        }
    }
}

fn fix(item: &Item) -> &'static str {
    match (item.cause, item.moved_at, item.request()) {
        (None, ..) => "nothing; the ingress publishes it when Kafka answers",
        (Some(_), None, _) => "nothing; the ingress moves it to the quarantine when it gets there",
        (Some(Cause::Damaged), _, Some(_)) => {
            "compare the bytes with what the provider sent. If they look right, stop the ingress and \
             run `mailpulse spool redrive ID --accept-damage`. Otherwise let the provider post the \
             events again, and delete the file"
        }
        (Some(Cause::Damaged), _, None) => {
            "the headers are damaged too, so it cannot be redriven: let the provider post the events \
             again, keep the file as evidence somewhere else, and delete it"
        }
        (Some(Cause::Sealed), _, None) => {
            "add the key that encrypted it to the end of ingress.spool_keys, stop the ingress, and run `mailpulse spool \
             redrive ID`"
        }
        (Some(Cause::BadHeaders | Cause::Sealed), _, Some(_)) => {
            "this release can read it now: stop the ingress and run `mailpulse spool redrive ID`"
        }
        (Some(Cause::BadHeaders), _, None) => {
            "another release wrote it: run `mailpulse spool redrive ID` of a release that can read it"
        }
    }
}
