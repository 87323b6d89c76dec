//! How far it is, while it goes on.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::action::Action;
use super::post::Post;
use crate::check;

const EVERY: Duration = Duration::from_millis(500);
/// Where nobody looks at a terminal, a line every so many looks.
const LINE_EVERY: u32 = 20;

/// What the schedule has come to; written by its thread, read by the view.
pub(crate) struct Progress {
    started: Instant,
    actions: usize,
    done: AtomicUsize,
    kills: AtomicU32,
    outages: AtomicU32,
    doing: Mutex<String>,
    bar: ProgressBar,
    is_live: bool,
    /// The schedule has been carried out, or failed.
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
            doing: Mutex::default(),
            bar,
            is_live,
            is_over: AtomicBool::new(false),
        })
    }

    pub(crate) fn began(&self, number: usize, action: &Action) {
        self.doing(&action.to_string());
        let at = self.started.elapsed().as_secs();
        self.say(&format!("  {:>2}:{:02}  {number:>3}  {action}", at / 60, at % 60));
    }

    pub(crate) fn ended(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.bar.inc(1);
        self.doing("");
    }

    pub(crate) fn doing(&self, what: &str) {
        what.clone_into(&mut self.doing.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn kill(&self) {
        self.kills.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn outage(&self) {
        self.outages.fetch_add(1, Ordering::Relaxed);
    }

    /// A line of its own.
    pub(crate) fn say(&self, what: &str) {
        if self.is_live {
            self.bar.println(what);
        } else {
            eprintln!("{what}");
        }
    }

    /// Shows figures until it is aborted.
    pub(crate) async fn show(self: Arc<Self>, post: Arc<Post>, clickhouse: String) {
        let mut rows = 0;
        for look in 0_u32.. {
            let asked = check::count(&clickhouse, "SELECT count() FROM mailpulse.events");
            // A frozen server does not answer.
            if let Ok(Ok(now)) = tokio::time::timeout(EVERY, asked).await {
                rows = now;
            }
            let line = self.line(&post, rows);
            if self.is_live {
                self.bar.set_message(line);
            } else if look.is_multiple_of(LINE_EVERY) {
                let seconds = self.started.elapsed().as_secs();
                let (done, all) = (self.done.load(Ordering::Relaxed), self.actions);
                eprintln!("  {:>2}:{:02}  {done}/{all} · {line}", seconds / 60, seconds % 60);
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    fn line(&self, post: &Post, rows: u64) -> String {
        let (events, again) = {
            let taken = post.taken();
            (taken.events.len() as u64, taken.posted_again)
        };
        let (kills, outages) =
            (self.kills.load(Ordering::Relaxed), self.outages.load(Ordering::Relaxed));
        let doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        let lag = events.saturating_sub(rows);
        format!(
            "{kills} kills · {outages} outages · {again} posted again · {events} events taken · \
             {rows} rows · lag {lag} · {doing}"
        )
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
