//! `mailpulse top`: what the installation does now, from Kafka and the admin ports of the services.

mod frame;
mod lag;
mod live;
mod members;

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::args::Top;
use crate::installation::Installation;
use crate::interrupt::Interrupt;
use crate::{Outcome, text};
use lag::Lags;
use live::Live;
use members::Members;

/// How long the topics may take to be read to their end at the beginning.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How often lag is computed. It takes a request for each partition.
const LAG_EVERY: Duration = Duration::from_secs(5);
/// Switches to the second screen of the terminal and hides the cursor, and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Draws a frame every few seconds until Ctrl-C, or one with `--once`.
///
/// # Errors
/// If the settings are invalid, or a topic cannot be read.
pub(crate) fn run(config: Option<&Path>, args: &Top) -> anyhow::Result<Outcome> {
    let installation = Installation::open(config)?;
    let interrupt = Interrupt::listen()?;
    let mut live = Live::open(&installation, crate::now())?;
    let mut members = Members::new(&installation.settings, &args.members)?;
    let mut lags = Lags::new(&installation)?;
    let until = Instant::now() + START_TIMEOUT;
    while !live.has_caught_up() && Instant::now() < until && !interrupt.is_requested() {
        live.read(Duration::from_millis(100))?;
    }
    if args.once {
        lags.refresh(&installation);
        members.refresh();
        let lines = frame::lines(&live, &lags, &members, crate::now());
        let mut out = io::stdout().lock();
        for line in lines {
            writeln!(out, "{}", text::escape_line(line.as_bytes()))?;
        }
        return Ok(Outcome::Done);
    }
    write!(io::stdout(), "{ENTER}")?;
    let result = follow(&installation, args, &interrupt, &mut live, &mut lags, &mut members);
    // The terminal must be usable again, also after an error.
    write!(io::stdout(), "{LEAVE}")?;
    io::stdout().flush()?;
    result.map(|()| Outcome::Done)
}

fn follow(
    installation: &Installation,
    args: &Top,
    interrupt: &Interrupt,
    live: &mut Live,
    lags: &mut Lags,
    members: &mut Members,
) -> anyhow::Result<()> {
    let mut computed_at: Option<Instant> = None;
    while !interrupt.is_requested() {
        if computed_at.is_none_or(|at| at.elapsed() >= LAG_EVERY) {
            lags.refresh(installation);
            computed_at = Some(Instant::now());
        }
        members.refresh();
        draw(&frame::lines(live, lags, members, crate::now()))?;
        let until = Instant::now() + args.every;
        while Instant::now() < until && !interrupt.is_requested() {
            live.read(Duration::from_millis(100))?;
        }
    }
    Ok(())
}

/// Writes a frame over the one before. What does not fit into the terminal is cut.
fn draw(lines: &[String]) -> io::Result<()> {
    let (columns, rows) = terminal_size::terminal_size()
        .map_or((120, 40), |(columns, rows)| (usize::from(columns.0), usize::from(rows.0)));
    let mut out = String::from("\x1b[H");
    for line in lines.iter().take(rows.saturating_sub(1)) {
        out.push_str(&text::truncate_line(line.as_bytes(), columns.max(20)));
        out.push_str("\x1b[K\r\n");
    }
    out.push_str("\x1b[J");
    let mut stdout = io::stdout().lock();
    stdout.write_all(out.as_bytes())?;
    stdout.flush()
}
