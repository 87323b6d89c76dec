//! Shows the progress of a chaos run.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::action::Action;
use super::post::Poster;
use crate::clickhouse::Database;

const INTERVAL: Duration = Duration::from_millis(500);
/// Without a terminal, a line is printed after this many intervals.
const INTERVALS_PER_LINE: u32 = 20;

/// The state of the run. The thread of the schedule writes it.
pub(crate) struct Progress {
    started: Instant,
    actions: usize,
    done: AtomicUsize,
    kills: AtomicU32,
    outages: AtomicU32,
    activity: Mutex<String>,
    bar: ProgressBar,
    is_live: bool,
    /// All actions were executed, or one has failed.
    pub(crate) is_over: AtomicBool,
}

impl Progress {
    pub(crate) fn new(actions: usize) -> Arc<Self> {
        let is_live = std::io::stderr().is_terminal();
        let bar = if is_live { ProgressBar::new(actions as u64) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template(
            "  {elapsed_precise} {bar:24.cyan/238} {pos}/{len} actions  {wide_msg}",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
        Arc::new(Self {
            started: Instant::now(),
            actions,
            done: AtomicUsize::new(0),
            kills: AtomicU32::new(0),
            outages: AtomicU32::new(0),
            activity: Mutex::default(),
            bar,
            is_live,
            is_over: AtomicBool::new(false),
        })
    }

    pub(crate) fn begin_action(&self, number: usize, action: &Action) {
        self.set_activity(&action.to_string());
        let at = self.started.elapsed().as_secs();
        self.print(&format!("  {:>2}:{:02}  {number:>3}  {action}", at / 60, at % 60));
    }

    pub(crate) fn end_action(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.bar.inc(1);
        self.set_activity("");
    }

    pub(crate) fn set_activity(&self, what: &str) {
        what.clone_into(&mut self.activity.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn count_kill(&self) {
        self.kills.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_outage(&self) {
        self.outages.fetch_add(1, Ordering::Relaxed);
    }

    /// Prints a line above the bar.
    pub(crate) fn print(&self, what: &str) {
        if self.is_live {
            self.bar.println(what);
        } else {
            eprintln!("{what}");
        }
    }

    /// Shows numbers until it is aborted.
    pub(crate) async fn show(self: Arc<Self>, poster: Arc<Poster>, database: Database) {
        let mut rows = 0;
        for interval in 0_u32.. {
            let count = database.count("SELECT count() FROM events");
            // A frozen server does not answer.
            if let Ok(Ok(now)) = tokio::time::timeout(INTERVAL, count).await {
                rows = now;
            }
            let line = self.line(&poster, rows);
            if self.is_live {
                self.bar.set_message(line);
            } else if interval.is_multiple_of(INTERVALS_PER_LINE) {
                let seconds = self.started.elapsed().as_secs();
                let (done, all) = (self.done.load(Ordering::Relaxed), self.actions);
                eprintln!("  {:>2}:{:02}  {done}/{all} · {line}", seconds / 60, seconds % 60);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn line(&self, poster: &Poster, rows: u64) -> String {
        let (events, repeated) = {
            let answers = poster.answers();
            (answers.events.len() as u64, answers.repeated)
        };
        let (kills, outages) =
            (self.kills.load(Ordering::Relaxed), self.outages.load(Ordering::Relaxed));
        let activity = self.activity.lock().unwrap_or_else(PoisonError::into_inner);
        let lag = events.saturating_sub(rows);
        format!(
            "{kills} kills · {outages} outages · {repeated} repeated · {events} events accepted · \
             {rows} rows · lag {lag} · {activity}"
        )
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
