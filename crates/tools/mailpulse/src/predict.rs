//! `mailpulse predict`: predicts the next engagement and the best time of every recipient, and scores what was predicted 30
//! days ago. The models are those of the library `predict`; docs/prediction.md explains them.

mod best_time;
mod deliveries;
mod engagement;
mod mails;
mod run;
mod sample;
mod scoring;
mod tables;

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use service::{ServiceSettings, Settings};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Predict;
use crate::database::Database;
use crate::{InputError, Outcome};
use run::Run;

/// Runs once, or with `--every` until SIGTERM.
///
/// # Errors
/// If the settings are invalid, or ClickHouse cannot be reached (with `--every`, that is logged).
pub(crate) fn run(config: Option<&Path>, args: &Predict) -> anyhow::Result<Outcome> {
    let settings = Settings::discover(config)?;
    let service: ServiceSettings = settings.section("service")?;
    service::init_log(&service).map_err(|error| InputError(format!("{error:#}")))?;
    if let Some(at) = args.at.filter(|at| *at > crate::now()) {
        return Err(InputError(format!(
            "--at {at:.0} is in the future, so there is no mail to predict from; write a time that has passed"
        ))
        .into());
    }
    let database = Database::open(&settings)?;
    match args.every {
        Some(every) => run_every(&database, args, every),
        None => Run::new(&database, args).all_sources(),
    }
}

fn run_every(database: &Database, args: &Predict, every: Duration) -> anyhow::Result<Outcome> {
    exit_on_signal()?;
    let mut next = Instant::now();
    loop {
        next += every;
        match Run::new(database, args).all_sources() {
            Ok(Outcome::Done) => tracing::info!(next_in = ?every, "predictions are written"),
            Ok(Outcome::Incomplete) => tracing::error!(
                next_in = ?every,
                "predictions of some sources could not be written; earlier ones stay in place, and the next run tries again"
            ),
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                next_in = ?every,
                "the run of predictions failed; check that ClickHouse runs and that `mailpulse migrate` was run. \
                 Earlier predictions stay in place, and the next run tries again"
            ),
        }
        // A run that took longer than the interval is followed by the next one at once.
        next = next.max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// Ends the process on SIGTERM or SIGINT, also in the middle of a run: readers see only complete fits. As the first process
/// of a container, the tool would not end without a handler.
fn exit_on_signal() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = {
        let _context = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        tracing::info!("signal received; ending. A fit that is not complete is not shown");
        std::process::exit(0);
    })?;
    Ok(())
}
