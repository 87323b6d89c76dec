//! `mailpulse dead-letters redrive`.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::ops::{ControlFlow, RangeInclusive};
use std::time::Duration;

use record::{Origin, Reason, Stage, names};
use kafka::letters::{Entry, Letters, Redrive};
use kafka::{Outgoing, Output, OwnedRecord, StreamError};

use super::Site;
use super::book::{Book, State};
use super::letter::{Letter, written_at};
use super::route::Route;
use crate::args::{self, Filters};
use crate::letter_id::LetterId;
use crate::{Outcome, Unusable};

/// How long other members' transactions may hide what is decided: theirs time out after 10 s, and
/// the broker looks every 10 s.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// A transaction's worth: what is held in memory, and small enough to be through long before the
/// broker ends the transaction.
const BATCH_LETTERS: usize = 500;
/// Bytes of values, held or sent; one letter may be larger by itself.
const BATCH_BYTES: usize = 8 << 20;

/// Redrives, looks, or looks and asks.
pub(crate) fn run(site: &Site, what: &args::Redrive) -> anyhow::Result<Outcome> {
    let selection = Selection::of(what);
    if what.yes && !what.dry_run {
        return send(site, &selection);
    }
    if !what.dry_run && !io::stdin().is_terminal() {
        let mend = "say --yes to redrive without being asked, or --dry-run to look";
        return Err(Unusable(mend.to_owned()).into());
    }
    let (outcome, found) = look(site, &selection)?;
    if what.dry_run || found.is_empty() {
        return Ok(outcome);
    }
    if !confirm(found.len())? {
        return Ok(Outcome::Incomplete);
    }
    // What was shown, and not what came meanwhile.
    let sent = send(site, &Selection::Named(found))?;
    Ok(if sent == Outcome::Done { outcome } else { sent })
}

/// Which letters.
enum Selection<'a> {
    Named(BTreeSet<LetterId>),
    Filtered(&'a Filters),
}

impl<'a> Selection<'a> {
    fn of(what: &'a args::Redrive) -> Self {
        if what.ids.is_empty() {
            Self::Filtered(&what.filters)
        } else {
            Self::Named(what.ids.iter().copied().collect())
        }
    }

    /// The offsets to look at; `None` for a partition without any.
    fn offsets(&self, partition: i32) -> Option<RangeInclusive<i64>> {
        let id = |offset| LetterId { partition, offset };
        match self {
            Self::Named(ids) => {
                let mut there = ids.range(id(0)..=id(i64::MAX)).map(|id| id.offset);
                let first = there.next()?;
                Some(first..=there.next_back().unwrap_or(first))
            }
            Self::Filtered(_) => Some(0..=i64::MAX),
        }
    }

    fn has(&self, letter: &Letter<'_>, entry: &Entry<'_>) -> bool {
        match self {
            Self::Named(ids) => ids.contains(&letter.id),
            Self::Filtered(filters) => filters.let_pass(letter, written_at(entry)),
        }
    }
}

/// Finds the way of every selected letter that waits, and hands them to `take`; tells `report` of
/// the others.
fn survey(
    site: &Site,
    letters: &Letters,
    selection: &Selection<'_>,
    report: &mut Report,
    mut take: impl FnMut(&Entry<'_>, Route, &mut Report) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let is_named = matches!(selection, Selection::Named(_));
    let mut unseen = match selection {
        Selection::Named(ids) => ids.clone(),
        Selection::Filtered(_) => BTreeSet::new(),
    };
    for partition in 0..letters.partitions() {
        let Some(offsets) = selection.offsets(partition) else { continue };
        let book = Book::read(letters, partition)?;
        letters.read(partition, *offsets.start(), |entry| -> anyhow::Result<_> {
            let letter = Letter::read(entry);
            if !letter.is_marker() && selection.has(&letter, entry) {
                unseen.remove(&letter.id);
                match (book.state(letter.id), Route::of(&letter, &site.topics)) {
                    (State::Open, Ok(route)) => take(entry, route, report)?,
                    (State::Open, Err(stays)) => {
                        report.stays(letter.id, &format!("{stays} ({})", stays.code()));
                    }
                    (State::Redriven, _) if is_named => report.was_redriven(letter.id),
                    (State::CopyOf(first), _) if is_named => {
                        report.stays(letter.id, &format!("it is a copy of {first}; redrive that"));
                    }
                    (State::Redriven | State::CopyOf(_), _) => {}
                }
            }
            let is_last = letter.id.offset >= *offsets.end();
            Ok(if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
    }
    for id in unseen {
        report.stays(id, "there is no such letter");
    }
    Ok(())
}

/// Says what would be done. Returns the letters that can go.
fn look(site: &Site, selection: &Selection<'_>) -> anyhow::Result<(Outcome, BTreeSet<LetterId>)> {
    let letters = Letters::committed(&site.connection, &site.topics.dead_letters)?;
    let (mut report, mut found) = (Report::default(), BTreeSet::new());
    survey(site, &letters, selection, &mut report, |entry, route, report| {
        let id = Letter::read(entry).id;
        report.would_go(id, &route);
        found.insert(id);
        Ok(())
    })?;
    report.close("would be redriven");
    Ok((report.outcome(), found))
}

fn confirm(count: usize) -> io::Result<bool> {
    let mut terminal = io::stderr();
    write!(terminal, "Redrive {count} letter(s)? [y/N] ")?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Sends them back, batch by batch.
fn send(site: &Site, selection: &Selection<'_>) -> anyhow::Result<Outcome> {
    let redrive = Redrive::open(&site.connection, &site.topics, SETTLED_WITHIN)?;
    let (mut report, mut batch) = (Report::default(), Batch::default());
    let surveyed =
        survey(site, redrive.letters(), selection, &mut report, |entry, route, report| {
            batch.add(entry.record.to_owned(), route);
            if batch.is_full() { batch.commit(site, &redrive, report) } else { Ok(()) }
        });
    let done = surveyed.and_then(|()| batch.commit(site, &redrive, &mut report));
    report.close("redriven");
    done.map(|()| report.outcome())
}

/// The letters of one transaction.
#[derive(Default)]
struct Batch {
    letters: Vec<(OwnedRecord, Route)>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, record: OwnedRecord, route: Route) {
        let letter = Letter::of(&record);
        self.bytes += letter.value.len().max(route.bytes(&letter));
        self.letters.push((record, route));
    }

    fn is_full(&self) -> bool {
        self.letters.len() >= BATCH_LETTERS || self.bytes >= BATCH_BYTES
    }

    /// Sends all of them with their markers, and then says so.
    fn commit(
        &mut self,
        site: &Site,
        redrive: &Redrive,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let letters = std::mem::take(self).letters;
        redrive.commit(|out| {
            for (record, route) in &letters {
                let letter = Letter::of(record);
                route.send(&letter, &site.topics, out)?;
                mark(&letter, route, &site.topics.dead_letters, out)?;
            }
            Ok(())
        })?;
        for (record, route) in &letters {
            report.went(Letter::of(record).id, route);
        }
        Ok(())
    }
}

/// Says that the letter was redriven: behind it, on its partition.
fn mark(
    letter: &Letter<'_>,
    route: &Route,
    dead_letters: &str,
    out: &mut Output<'_>,
) -> Result<(), StreamError> {
    let LetterId { partition, offset } = letter.id;
    let origin = Origin { topic: dead_letters, partition, offset }.to_string();
    let detail = route.to_string();
    out.send(Outgoing {
        topic: dead_letters,
        partition: Some(partition),
        key: letter.key,
        value: Some(&[]),
        headers: &[
            (names::REASON, Reason::Redriven.code().as_bytes()),
            (names::DETAIL, detail.as_bytes()),
            (names::STAGE, Stage::Redrive.code().as_bytes()),
            (names::ORIGIN, origin.as_bytes()),
        ],
    })
}

/// Tells of each letter on standard output, and at the end of all on standard error. Whoever reads
/// along may leave; the work goes on.
#[derive(Default)]
struct Report {
    going: u64,
    redriven_before: u64,
    staying: u64,
}

impl Report {
    fn would_go(&mut self, id: LetterId, route: &Route) {
        self.going += 1;
        line(id, &format!("would be redriven: {route}"));
    }

    fn went(&mut self, id: LetterId, route: &Route) {
        self.going += 1;
        line(id, &format!("redriven: {route}"));
    }

    fn was_redriven(&mut self, id: LetterId) {
        self.redriven_before += 1;
        line(id, "was redriven before");
    }

    fn stays(&mut self, id: LetterId, why: &str) {
        self.staying += 1;
        line(id, &format!("stays: {why}"));
    }

    fn close(&self, done: &str) {
        let mut all = format!("{} {done}", self.going);
        for (count, what) in [(self.redriven_before, "before"), (self.staying, "not")] {
            if count > 0 {
                all += &format!(", {count} {what}");
            }
        }
        let _ = writeln!(io::stderr(), "{all}");
    }

    fn outcome(&self) -> Outcome {
        if self.staying == 0 { Outcome::Done } else { Outcome::Incomplete }
    }
}

fn line(id: LetterId, fate: &str) {
    let _ = writeln!(io::stdout(), "{id:<10} {}", crate::text::line(fate.as_bytes()));
}
