//! `cargo xtask upgrade`: starts the services of this checkout on recorded installations.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use testkit::{Credentials, SignedRequest, sign};

use super::expected::{Cluster, Expected, Repeat};
use super::home::Home;
use super::installation::Installation;
use super::totals::Totals;
use super::{compare, names, old_settings, packing};
use crate::binaries;
use crate::chaos::{self, Balance};
use crate::demo::Sender;
use crate::phase::Phase;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The recording. Without it, all recordings of crates/dev/tasks/recordings are upgraded.
    archive: Option<PathBuf>,
}

/// How long the last offsets may take to be committed.
const NAMES_TIMEOUT: Duration = Duration::from_secs(30);

/// Upgrades one recording or all of them.
pub(crate) fn upgrade(arguments: &Arguments) -> anyhow::Result<()> {
    binaries::directory()?;
    let archives = match &arguments.archive {
        Some(archive) => vec![archive.clone()],
        None => recordings()?,
    };
    for archive in archives {
        upgrade_archive(&archive).with_context(|| format!("upgrade {}", archive.display()))?;
    }
    Ok(())
}

/// Returns the recordings in the repository.
fn recordings() -> anyhow::Result<Vec<PathBuf>> {
    let directory = devstack::fetch::workspace().join("crates/dev/tasks/recordings");
    let entries = std::fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
    let mut archives = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".tar.zst") {
            archives.push(path);
        }
    }
    archives.sort();
    ensure!(!archives.is_empty(), "{} contains no recording", directory.display());
    Ok(archives)
}

/// Unpacks a recording and compares what the services make of it.
fn upgrade_archive(archive: &Path) -> anyhow::Result<()> {
    let _phase = Phase::begin(&format!("upgrading {}", archive.display()), "1 min");
    let directory = tempfile::tempdir()?;
    packing::unpack(archive, directory.path())?;
    let rows = play(directory.path())?;
    let expected = std::fs::read_to_string(directory.path().join("expected-rows.tsv"))?;
    let mut balance = Balance::default();
    compare::same_rows(&mut balance, &rows, &expected);
    println!("{balance}");
    ensure!(balance.is_balanced(), "some rows differ from those of the recorded release");
    Ok(())
}

/// Starts the services on the installation in a directory, waits until everything is processed, and
/// compares the results. Returns the rows of all events.
pub(crate) fn play(directory: &Path) -> anyhow::Result<String> {
    let home = Home::open(directory)?;
    let expected: Expected = serde_json::from_slice(&std::fs::read(home.path("expected.json"))?)
        .context("parse expected.json")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut environment = expected.environment.clone();
    // The step that the changelog asks for: the receiver of the recording is in our own network.
    environment.insert("MAILPULSE__NOTIFY__ALLOW_PRIVATE".to_owned(), "true".to_owned());
    // The offsets of time records would have no rows.
    environment.insert("MAILPULSE__INGRESS__TIME_EVERY".to_owned(), "0s".to_owned());
    let mut running = Installation::start_servers(&home, &expected.addresses, environment)?;
    let recorded = running.inspect()?;
    let mut balance = Balance::default();
    runtime.block_on(compare::as_recorded(&mut balance, &running, &recorded, &expected))?;
    println!("{balance}");
    ensure!(balance.is_balanced(), "the servers do not have the recorded data");

    let expected = expected.with_undated_rows();
    let outcome = go_on(&mut running, &runtime, &home, &expected, &recorded);
    let balances = outcome.as_ref().is_ok_and(|(balance, _)| balance.is_balanced());
    if !balances {
        let logs = chaos::keep_logs("upgrade", &running.dirs.run)?;
        eprintln!("the logs are in {}", logs.display());
    }
    let (balance, rows) = outcome?;
    println!("{balance}");
    ensure!(balances, "the upgraded installation differs; see the lines marked with ←");
    Ok(rows)
}

/// Starts the services and compares everything. Returns the rows of all events.
fn go_on(
    running: &mut Installation,
    runtime: &tokio::runtime::Runtime,
    home: &Home,
    expected: &Expected,
    recorded: &Cluster,
) -> anyhow::Result<(Balance, String)> {
    let mut balance = Balance::default();
    old_settings::check(&mut balance, running)?;
    if !balance.is_balanced() {
        return Ok((balance, String::new()));
    }
    running.start_services()?;
    let rows = runtime.block_on(process(&mut balance, running, expected))?;
    settle_names(&mut balance, running, recorded)?;
    let old_names = old_settings::old_names(&home.settings()?)?;
    old_settings::warnings(&mut balance, running, &old_names)?;
    Ok((balance, rows))
}

/// Compares names and formats. Repeats it until they are equal: offsets are committed after the results
/// are visible.
fn settle_names(
    balance: &mut Balance,
    running: &Installation,
    recorded: &Cluster,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + NAMES_TIMEOUT;
    loop {
        let mut found = Balance::default();
        names::compare(&mut found, recorded, &running.inspect()?)?;
        if found.is_balanced() || Instant::now() > deadline {
            balance.0.extend(found.0);
            return Ok(());
        }
    }
}

/// Waits until the recorded events are processed, posts some of them again, and closes all windows.
/// Returns the rows of all events, or nothing if something differs: then it does not continue.
async fn process(
    balance: &mut Balance,
    running: &Installation,
    expected: &Expected,
) -> anyhow::Result<String> {
    let posted = &expected.posted;
    let recorded = Totals {
        enriched: posted.accepted,
        unreadable: posted.unreadable,
        duplicates: posted.duplicates,
        archived: posted.distinct,
        folded: posted.distinct,
        missing: 0,
    };
    if !settle(balance, running, "everything processed", recorded).await? {
        return Ok(String::new());
    }
    compare::events(balance, &running.database, expected).await?;

    let repeated = post_repeats(running, &expected.repeats).await?;
    balance.line("repeated requests", "events accepted", repeated, expected.repeated_events());
    let repeated = Totals {
        enriched: recorded.enriched + repeated,
        duplicates: recorded.duplicates + repeated,
        ..recorded
    };
    if !settle(balance, running, "repeated requests", repeated).await? {
        return Ok(String::new());
    }
    compare::events(balance, &running.database, expected).await?;
    let rows = running.database.text(compare::ROWS).await?;

    let closing = post_closing(running, expected).await?;
    let all = posted.distinct + closing;
    let closed =
        Totals { enriched: repeated.enriched + closing, archived: all, folded: all, ..repeated };
    if settle(balance, running, "closing events", closed).await? {
        compare::windows_and_alerts(balance, running, expected).await?;
    }
    Ok(rows)
}

/// Waits for totals and compares them. Returns whether everything balances so far.
async fn settle(
    balance: &mut Balance,
    running: &Installation,
    part: &'static str,
    expected: Totals,
) -> anyhow::Result<bool> {
    Totals::settle(&running.members, expected).await?.compare(balance, part, expected);
    Ok(balance.is_balanced())
}

/// Posts the recorded requests unchanged. Returns the number of accepted events.
async fn post_repeats(running: &Installation, repeats: &[Repeat]) -> anyhow::Result<u64> {
    let mut sender = Sender::new(running.webhooks())?;
    for Repeat { path, headers, body, .. } in repeats {
        let body = STANDARD.decode(body)?.into();
        sender.send(SignedRequest { path: path.clone(), headers: headers.clone(), body }).await?;
    }
    Ok(sender.finish().await?.accepted)
}

/// Posts events that are so late that every window of the other events closes. Returns their number.
async fn post_closing(running: &Installation, expected: &Expected) -> anyhow::Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().cast_signed();
    let credentials = Credentials::new("");
    let mut sender = Sender::new(running.webhooks())?;
    for batch in chaos::closing(expected.closing_at) {
        for request in sign::events(&credentials, &batch, now) {
            sender.send(request).await?;
        }
    }
    Ok(sender.finish().await?.accepted)
}
