//! `mailpulse heal`: compares the rollups with the rows of `events`, and corrects them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use archive::rollup;
use archive::{ArchiveSettings, ClickHouseError};
use kafka::inspect::committed_offsets;

use crate::args::Heal;
use crate::audit::Entry;
use crate::installation::{Installation, note};
use crate::{InputError, Outcome};

/// How long the offsets of archive must stay the same before anything is corrected. It commits several times a
/// second while it runs.
const QUIET: Duration = Duration::from_secs(3);

/// Compares, and corrects with `--repair`. The outcome is incomplete if there are differences.
///
/// # Errors
/// If the settings are invalid, archive runs while sums are to be corrected, or a server cannot be reached.
pub(crate) fn run(config: Option<&Path>, args: &Heal) -> anyhow::Result<Outcome> {
    let installation = Installation::open(config)?;
    let settings: ArchiveSettings = installation.settings.section("archive")?;
    if args.repair {
        check_archive_is_stopped(&installation)?;
    }
    let partitions: Vec<u16> = installation
        .database
        .rows("SELECT DISTINCT kafka_partition FROM events ORDER BY kafka_partition", &[])?;
    let before = differences(&installation, &settings, &partitions)?;
    print(&before)?;
    if before.is_empty() {
        note("every rollup equals the rows")?;
        return Ok(Outcome::Done);
    }
    if !args.repair {
        note("stop every archive and run `mailpulse heal --repair` to correct the sums")?;
        return Ok(Outcome::Incomplete);
    }
    let kept = settings.retention.of_rows_and_sums();
    for &partition in &partitions {
        let healed = installation
            .database
            .run_with(kept, async |server| rollup::heal(server, i32::from(partition)).await);
        healed?;
    }
    let after = differences(&installation, &settings, &partitions)?;
    let detail = if after.is_empty() { "" } else { "sums still differ" };
    let is_done = after.is_empty();
    let entry = Entry { command: "heal", subject: "", counts: &before, is_done, detail };
    entry.write(&installation.database)?;
    if is_done {
        note("the sums are corrected; every rollup equals the rows")?;
        return Ok(Outcome::Done);
    }
    print(&after)?;
    note("sums still differ after the repair; see that no archive runs, and repeat it")?;
    Ok(Outcome::Incomplete)
}

/// Returns the number of groups whose sums differ, by table.
fn differences(
    installation: &Installation,
    settings: &ArchiveSettings,
    partitions: &[u16],
) -> Result<BTreeMap<String, u64>, ClickHouseError> {
    let mut all = BTreeMap::new();
    // Earlier sums cannot be compared.
    let kept = settings.retention.of_rows_and_sums();
    for &partition in partitions {
        let found = installation.database.run_with(kept, async |server| {
            rollup::differences(server, i32::from(partition)).await
        })?;
        for difference in found {
            *all.entry(difference.table.to_owned()).or_default() += difference.groups;
        }
    }
    Ok(all)
}

fn print(differences: &BTreeMap<String, u64>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (table, groups) in differences {
        writeln!(out, "{table}\t{groups} groups differ")?;
    }
    Ok(())
}

/// Sums of a row that is being inserted would be added twice.
pub(crate) fn check_archive_is_stopped(installation: &Installation) -> anyhow::Result<()> {
    let (connection, topic) = (&installation.connection, &installation.topics.events);
    let group = installation.topics.group(record::Stage::Archive.code());
    let counts = kafka::topics::partition_counts(connection)?;
    let partitions = counts.get(topic).copied().unwrap_or(0);
    let first = committed_offsets(connection, &group, topic, partitions)?;
    std::thread::sleep(QUIET);
    if committed_offsets(connection, &group, topic, partitions)? != first {
        let text = "archive is running; stop every archive before sums are corrected";
        return Err(InputError(text.to_owned()).into());
    }
    Ok(())
}
