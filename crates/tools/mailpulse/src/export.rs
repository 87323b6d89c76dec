//! `mailpulse export`: writes everything that is stored about a recipient.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use crate::args::Export;
use crate::audit::Entry;
use crate::erase::tables::Table;
use crate::erase::target::{Target, Targets};
use crate::erase::targets;
use crate::installation::{Installation, note};
use crate::{InputError, Outcome};

/// The greatest number of rows of one table. A recipient with more is an address that no person has.
const MAX_ROWS: usize = 1_000_000;

/// Writes a JSON line for each row about the recipient: `{"table":"events","row":{…}}`.
///
/// # Errors
/// If the settings or the address are invalid, or ClickHouse cannot be reached.
pub(crate) fn run(config: Option<&Path>, args: &Export) -> anyhow::Result<Outcome> {
    let installation = Installation::open(config)?;
    let key = installation.erasure_key()?;
    let targets = targets(&installation, &key, std::slice::from_ref(&args.recipient))?;
    // What is left of a recipient who was erased has the pseudonym.
    let of_pseudonyms =
        targets.iter().map(|target| Target { address: target.pseudonym.clone(), ..target.clone() });
    // The table `suppressions` names a recipient by the first half of the keyed digest.
    let of_digests = targets.iter().map(|target| {
        let digest = target.digest.to_string().chars().take(32).collect();
        Target { address: digest, ..target.clone() }
    });
    let all: Vec<Target> = targets.iter().cloned().chain(of_pseudonyms).chain(of_digests).collect();
    let subject = targets.first().map(|target| target.digest.to_string()).unwrap_or_default();
    let mut counts = BTreeMap::new();
    entry(&subject, &counts).write_start(&installation.database)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for table in Table::all(&installation.database)? {
        let Some(recipient) = table.recipient() else { continue };
        let name = &table.name;
        // Where ClickHouse merges rows in the background, `final` merges them now.
        let sql = format!(
            "SELECT formatRowNoNewline('JSONEachRow', *) FROM {name} WHERE {} LIMIT {} SETTINGS final = 1",
            Targets(&all).is(recipient),
            MAX_ROWS + 1
        );
        let rows: Vec<String> = installation.database.long_rows(&sql)?;
        if rows.len() > MAX_ROWS {
            let text = format!("the table {name} has more than {MAX_ROWS} rows of this recipient");
            return Err(InputError(text).into());
        }
        for row in &rows {
            writeln!(out, "{{\"table\":\"{name}\",\"row\":{row}}}")?;
        }
        if !rows.is_empty() {
            counts.insert(name.clone(), rows.len() as u64);
        }
    }
    out.flush()?;
    entry(&subject, &counts).write(&installation.database)?;
    let rows: u64 = counts.values().sum();
    note(&format!("{rows} rows of {} tables", counts.len()))?;
    Ok(Outcome::Done)
}

fn entry<'e>(subject: &'e str, counts: &'e BTreeMap<String, u64>) -> Entry<'e> {
    Entry { command: "export", subject, counts, is_done: true, detail: "" }
}
