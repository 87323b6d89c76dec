//! `cargo xtask record`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use serde_json::Value;
use testkit::{Credentials, SignedRequest};
use tokio::runtime::Runtime;

use super::expected::{Cluster, Expected, Spooled};
use super::home::{self, Home};
use super::installation::Installation;
use super::mail::{Mail, UNREADABLE};
use super::receiver::Delivery;
use super::settings::{OUT_OF_ORDERNESS, RULES};
use super::totals::Totals;
use super::{packing, tables, upgrade};
use crate::binaries::SERVICES;
use crate::chaos;
use crate::demo::Sender;
use crate::phase::Phase;
use crate::supervisor::Member;

/// The base of the URLs to which providers post. Mandrill signs it.
const PUBLIC_URL: &str = "https://hooks.example.com";
/// The highest number of requests per second.
const PACE: u32 = 150;
/// The percentages of the mail that are posted before each step: the first part while everything runs,
/// and the others between the steps that stop something.
const PARTS: [usize; 8] = [86, 88, 90, 92, 94, 96, 98, 100];
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(120);
/// After this time `archive` has closed its batches, recorded their ranges and sent its inserts.
const RANGES_RECORDED: Duration = Duration::from_millis(800);
/// After this time records are being processed.
const IN_FLIGHT: Duration = Duration::from_millis(50);
const POLL: Duration = Duration::from_millis(250);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The directory of the recording; it must not exist.
    directory: PathBuf,
}

const ARCHIVE_1: Member = Member { service: "archive", number: 1 };
/// The first member of `archive` is killed with rows that are inserted but not marked done, the second
/// with rows that are recorded but not inserted.
const ARCHIVE_2: Member = Member { service: "archive", number: 2 };

/// Runs an installation, stops it, and packs its directory.
pub(crate) fn record(arguments: &Arguments) -> anyhow::Result<()> {
    let directory = &arguments.directory;
    ensure!(!directory.exists(), "{} exists; choose a new directory", directory.display());
    std::fs::create_dir_all(directory)?;
    let credentials = Credentials::new(PUBLIC_URL);
    let home = Home::create(&directory.join("installation"), &credentials)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let expected = run(&home, &credentials, &runtime)?;
    let json = serde_json::to_string_pretty(&expected)?;
    std::fs::write(home.path("expected.json"), format!("{json}\n"))?;

    let _phase = Phase::begin("starting the services on a copy, and packing", "2 min");
    // The rows that this release itself writes from a copy are the ones that later releases must write.
    let copy = directory.join("copy");
    copy_directory(home.root(), &copy)?;
    let rows = upgrade::play(&copy)?;
    std::fs::remove_dir_all(&copy)?;
    std::fs::write(home.path("expected-rows.tsv"), rows)?;
    let archive = directory.join(format!("{}.tar.zst", expected.release));
    packing::pack(home.root(), &archive)?;
    let bytes = std::fs::metadata(&archive)?.len();
    println!(
        "{}: {bytes} bytes; copy it to crates/dev/tasks/recordings, and add it to the README there",
        archive.display()
    );
    Ok(())
}

/// Runs the installation and stops it in the middle of its work.
fn run(home: &Home, credentials: &Credentials, runtime: &Runtime) -> anyhow::Result<Expected> {
    let _phase = Phase::begin("recording", "1 min");
    let (written, environment) = (home::written_addresses(), home::environment(credentials));
    let mut running = Installation::start_servers(home, &written, environment.clone())?;
    running.start_services()?;
    running.start_member(ARCHIVE_2)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let mail = Mail::generate(credentials, i64::try_from(now.as_secs())?);
    let mut recorder = Recorder { running, runtime, credentials, mail: &mail, now };
    let recorded = recorder.run(home);
    if recorded.is_err() {
        let logs = chaos::keep_logs("record", &recorder.running.dirs.run)?;
        eprintln!("the logs are in {}", logs.display());
    }
    let Recorded { tables: (tables, migrations), episodes, cluster, spooled, deliveries } =
        recorded?;
    Ok(Expected {
        release: commit()?,
        recorded_at: i64::try_from(now.as_micros())?,
        addresses: written,
        environment,
        instances: SERVICES.map(|name| (name.to_owned(), format!("{name}-1"))).into(),
        posted: mail.counts,
        spooled,
        kinds: mail.kinds.clone(),
        sources: mail.sources.clone(),
        tables,
        migrations,
        cluster,
        episodes,
        deliveries,
        rules: toml::from_str::<Value>(RULES)?["monitor"]["rule"].clone(),
        closing_at: mail.closing_at,
        out_of_orderness: OUT_OF_ORDERNESS,
        repeats: mail.repeats.clone(),
    })
}

/// The open episodes, as last published.
const EPISODES: &str = "
    SELECT toString(episode_id) AS episode_id, any(toString(rule)) AS rule,
        any(toString(provider)) AS provider, any(toString(source)) AS source,
        any(toString(scope)) AS scope, argMax(toString(severity), at) AS severity,
        toUnixTimestamp64Micro(any(started_at)) AS started_at
    FROM alerts GROUP BY episode_id HAVING argMax(toString(state), at) = 'firing'";

/// The state of the installation when it was stopped.
struct Recorded {
    tables: tables::Tables,
    episodes: Vec<Value>,
    cluster: Cluster,
    spooled: Spooled,
    deliveries: Vec<Delivery>,
}

struct Recorder<'a> {
    running: Installation,
    runtime: &'a Runtime,
    credentials: &'a Credentials,
    mail: &'a Mail,
    now: Duration,
}

impl Recorder<'_> {
    /// Posts all mail, and kills all processes on the way.
    fn run(&mut self, home: &Home) -> anyhow::Result<Recorded> {
        let before = self.post_while_all_runs()?;
        let database = &self.running.database;
        let episodes: Vec<Value> = self.runtime.block_on(database.rows(EPISODES))?;
        ensure!(!episodes.is_empty(), "no episode is open");
        let (during, tables) = self.post_while_stopping()?;
        let cluster = self.running.inspect()?;
        let spooled = self.post_without_kafka()?;
        let deliveries = self.running.receiver.deliveries();
        self.running.kill(|_| true)?;
        let spooled = Spooled { bytes: bytes_under(&home.path("state/spool"))?, ..spooled };
        ensure!(spooled.bytes > 0, "the spool is empty");
        let (accepted, all) = (before + during + spooled.accepted, self.mail.counts.accepted);
        ensure!(accepted == all, "{accepted} of {all} events were accepted");
        Ok(Recorded { tables, episodes, cluster, spooled, deliveries })
    }

    /// Posts most of the mail and waits until all of it is archived and an alert is delivered. Returns
    /// the number of accepted events.
    fn post_while_all_runs(&self) -> anyhow::Result<u64> {
        eprintln!("    posting {} requests", self.mail.requests.len());
        let mut requests = self.unreadable(0..UNREADABLE / 2);
        requests.extend_from_slice(self.part(0));
        let posted = self.post(&requests)?;
        let deadline = Instant::now() + ARCHIVE_TIMEOUT;
        loop {
            let totals = self.runtime.block_on(Totals::read(&self.running.members))?;
            let deliveries = self.running.receiver.deliveries();
            let delivered = deliveries.iter().any(|delivery| delivery.path.contains("hooks"));
            if totals.enriched == posted && totals.missing == 0 && delivered {
                break;
            }
            ensure!(
                Instant::now() < deadline,
                "not exactly {posted} events are archived, or no alert is delivered; run this on an \
                 idle machine: {totals:?}, {deliveries:?}"
            );
            sleep(POLL);
        }
        // Monitor, archive and notify commit what they have done.
        sleep(Duration::from_secs(3));
        Ok(posted)
    }

    /// Posts while the consumers are killed, the last ones first, so that every topic has unread
    /// records. Returns the number of accepted events, and the state of the tables.
    fn post_while_stopping(&mut self) -> anyhow::Result<(u64, tables::Tables)> {
        eprintln!("    killing one process after the other");
        let mut sender = self.sender()?;
        let tables = self.stop_archive(&mut sender)?;
        self.send(&mut sender, self.part(3))?;
        for (number, service) in [(4, "monitor"), (5, "dedupe"), (6, "enrich")] {
            sleep(IN_FLIGHT);
            self.running.kill(|member| member.service == service)?;
            self.send(&mut sender, self.part(number))?;
        }
        let unreadable = self.unreadable(UNREADABLE / 2..UNREADABLE);
        self.send(&mut sender, &unreadable)?;
        let posted = self.runtime.block_on(sender.finish())?;
        ensure!(posted.repeated == 0, "a request was not answered at once");
        Ok((posted.accepted, tables))
    }

    /// Kills both members of `archive` and stops ClickHouse. Some rows are inserted and not marked
    /// done, others are recorded and not inserted.
    fn stop_archive(&mut self, sender: &mut Sender) -> anyhow::Result<tables::Tables> {
        self.running.clickhouse.freeze()?;
        self.send(sender, self.part(1))?;
        sleep(RANGES_RECORDED);
        self.running.kill(|member| member == ARCHIVE_1)?;
        self.running.clickhouse.thaw()?;
        // ClickHouse executes the inserts that it has received.
        sleep(RANGES_RECORDED);
        self.running.supervisor.freeze(ARCHIVE_2)?;
        sleep(Duration::from_millis(300));
        let database = &self.running.database;
        let tables = self.runtime.block_on(tables::read(database))?;
        let merged = self.runtime.block_on(tables::merged_parts(database))?;
        self.running.clickhouse.stop()?;
        merged.iter().filter(|part| part.exists()).try_for_each(std::fs::remove_dir_all)?;
        self.running.supervisor.thaw(ARCHIVE_2)?;
        self.send(sender, self.part(2))?;
        sleep(RANGES_RECORDED);
        self.running.kill(|member| member == ARCHIVE_2)?;
        Ok(tables)
    }

    /// Stops Kafka and posts the rest, which goes to the spool.
    fn post_without_kafka(&mut self) -> anyhow::Result<Spooled> {
        eprintln!("    stopping Kafka, and posting the rest");
        self.running.kafka.stop()?;
        let mut sender = self.sender()?;
        self.send(&mut sender, self.part(7))?;
        let posted = self.runtime.block_on(sender.finish())?;
        ensure!(posted.repeated == 0, "a request was not answered at once");
        Ok(Spooled {
            requests: posted.requests() - posted.rejected,
            accepted: posted.accepted,
            malformed: posted.dead_lettered,
            bytes: 0,
        })
    }

    /// Returns the requests of a part; see [`PARTS`].
    fn part(&self, number: usize) -> &'_ [SignedRequest] {
        let requests = &self.mail.requests;
        let index = |percent: usize| requests.len() * percent / 100;
        let from = number.checked_sub(1).map_or(0, |before| index(PARTS[before]));
        &requests[from..index(PARTS[number])]
    }

    fn unreadable(&self, numbers: std::ops::Range<usize>) -> Vec<SignedRequest> {
        let now = self.now.as_secs().cast_signed();
        numbers.map(|n| Mail::unreadable(self.credentials, n, now)).collect()
    }

    fn sender(&self) -> anyhow::Result<Sender> {
        Sender::new(self.running.webhooks())
    }

    /// Posts requests and waits for their answers. Returns the number of accepted events.
    fn post(&self, requests: &[SignedRequest]) -> anyhow::Result<u64> {
        let mut sender = self.sender()?;
        self.send(&mut sender, requests)?;
        Ok(self.runtime.block_on(sender.finish())?.accepted)
    }

    /// Posts requests. The last ones may have no answer yet when it returns.
    fn send(&self, sender: &mut Sender, requests: &[SignedRequest]) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let mut pace = tokio::time::interval(Duration::from_secs(1) / PACE);
            for request in requests {
                pace.tick().await;
                sender.send(request.clone()).await?;
            }
            Ok(())
        })
    }
}

/// Returns the short id of the commit that is checked out.
fn commit() -> anyhow::Result<String> {
    let mut git = Command::new("git");
    git.current_dir(devstack::fetch::workspace()).args(["rev-parse", "--short=7", "HEAD"]);
    let output = git.output().context("cannot start git")?;
    ensure!(output.status.success(), "git rev-parse failed: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn copy_directory(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp").arg("--archive").arg(from).arg(to).status()?;
    ensure!(status.success(), "cp failed: {status}");
    Ok(())
}

fn bytes_under(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}
