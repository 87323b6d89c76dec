//! `mailpulse dead-letters redrive`.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::ops::{ControlFlow, RangeInclusive};
use std::time::Duration;

use kafka::dead_letters::{DeadLetterView, Entry, Redrive};
use kafka::{Outgoing, Output, OwnedRecord};
use providers::Mappings;
use record::{DeadLetter, Offset, Origin, Reason, Stage, Topics};

use super::Installation;
use super::dead_letter_record::{DeadLetterRecord, written_at};
use super::redrive_states::{RedriveState, RedriveStates};
use super::route::Route;
use crate::args::{self, Filters};
use crate::dead_letter_id::DeadLetterId;
use crate::{InputError, Outcome};

/// How long to wait for open transactions of other members. They time out after 10 s, and the
/// broker checks every 10 s.
const OPEN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// The limits of one transaction. A batch is kept in memory, and is committed long before the
/// transaction times out.
const BATCH_RECORDS: usize = 500;
/// Bytes of values, stored or published. A single dead letter may exceed the limit.
const BATCH_BYTES: usize = 8 << 20;

/// Redrives, only previews, or previews and asks.
pub(crate) fn run(installation: &Installation, args: &args::Redrive) -> anyhow::Result<Outcome> {
    let selection = Selection::new(args);
    if args.yes && !args.dry_run {
        return redrive(installation, &selection);
    }
    if !args.dry_run && !io::stdin().is_terminal() {
        let text = "give --yes to redrive without a question, or --dry-run for a preview";
        return Err(InputError(text.to_owned()).into());
    }
    let (outcome, redrivable) = preview(installation, &selection)?;
    if args.dry_run || redrivable.is_empty() {
        return Ok(outcome);
    }
    if !confirm(redrivable.len())? {
        return Ok(Outcome::Incomplete);
    }
    // Only what the preview listed. More may match the filters by now.
    let redriven = redrive(installation, &Selection::Ids(redrivable))?;
    Ok(if redriven == Outcome::Done { outcome } else { redriven })
}

enum Selection<'a> {
    Ids(BTreeSet<DeadLetterId>),
    Filters(&'a Filters),
}

impl<'a> Selection<'a> {
    fn new(args: &'a args::Redrive) -> Self {
        if args.ids.is_empty() {
            Self::Filters(&args.filters)
        } else {
            Self::Ids(args.ids.iter().copied().collect())
        }
    }

    /// Returns the offsets to read, or `None` if the selection has none in this partition.
    fn offsets(&self, partition: i32) -> Option<RangeInclusive<i64>> {
        let id = |offset| DeadLetterId { partition, offset };
        match self {
            Self::Ids(ids) => {
                let mut offsets = ids.range(id(0)..=id(i64::MAX)).map(|id| id.offset);
                let first = offsets.next()?;
                Some(first..=offsets.next_back().unwrap_or(first))
            }
            Self::Filters(_) => Some(0..=i64::MAX),
        }
    }

    fn contains(&self, dead_letter: &DeadLetterRecord<'_>, entry: &Entry<'_>) -> bool {
        match self {
            Self::Ids(ids) => ids.contains(&dead_letter.id),
            Self::Filters(filters) => filters.matches(dead_letter, written_at(entry)),
        }
    }
}

/// Calls `redrivable` with every selected dead letter that can be redriven, and reports the others.
fn for_each_redrivable(
    installation: &Installation,
    view: &DeadLetterView,
    selection: &Selection<'_>,
    report: &mut Report,
    mut redrivable: impl FnMut(&Entry<'_>, Route, &mut Report) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let is_by_id = matches!(selection, Selection::Ids(_));
    let mut missing = match selection {
        Selection::Ids(ids) => ids.clone(),
        Selection::Filters(_) => BTreeSet::new(),
    };
    for partition in 0..view.partitions() {
        let Some(offsets) = selection.offsets(partition) else { continue };
        let states = RedriveStates::read(view, partition)?;
        view.read(partition, *offsets.start(), |entry| -> anyhow::Result<_> {
            let dead_letter = DeadLetterRecord::from_entry(entry);
            let id = dead_letter.id;
            if !dead_letter.is_marker() && selection.contains(&dead_letter, entry) {
                missing.remove(&id);
                match (states.state(id), installation.route(&dead_letter)) {
                    (RedriveState::Open, Ok(route)) => redrivable(entry, route, report)?,
                    (RedriveState::Open, Err(reason)) => {
                        report.stays(id, &format!("{reason} ({})", reason.code()));
                    }
                    (RedriveState::Redriven, _) if is_by_id => report.was_redriven_before(id),
                    (RedriveState::CopyOf(first), _) if is_by_id => {
                        report.stays(
                            id,
                            &format!("it is a copy of {first}; redrive that one instead"),
                        );
                    }
                    (RedriveState::Redriven | RedriveState::CopyOf(_), _) => {}
                }
            }
            let is_last = id.offset >= *offsets.end();
            Ok(if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
    }
    for id in missing {
        report.stays(id, "there is no such dead letter");
    }
    Ok(())
}

/// Prints what a redrive would do. Returns the dead letters that can be redriven.
fn preview(
    installation: &Installation,
    selection: &Selection<'_>,
) -> anyhow::Result<(Outcome, BTreeSet<DeadLetterId>)> {
    let (connection, topics) = (&installation.connection, &installation.topics);
    let view = DeadLetterView::committed(connection, &topics.dead_letters)?;
    let (mut report, mut ids) = (Report::default(), BTreeSet::new());
    for_each_redrivable(installation, &view, selection, &mut report, |entry, route, report| {
        let id = DeadLetterRecord::from_entry(entry).id;
        report.would_be_redriven(id, &route);
        ids.insert(id);
        Ok(())
    })?;
    report.print_summary("would be redriven");
    Ok((report.outcome(), ids))
}

fn confirm(count: usize) -> io::Result<bool> {
    let mut terminal = io::stderr();
    write!(terminal, "Redrive {count} dead letter(s)? [y/N] ")?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Redrives the selection in batches.
fn redrive(installation: &Installation, selection: &Selection<'_>) -> anyhow::Result<Outcome> {
    let Installation { connection, topics, splitting, .. } = installation;
    let mappings = &splitting.mappings;
    let redrive = Redrive::open(connection, topics, OPEN_TRANSACTION_TIMEOUT)?;
    let (mut report, mut batch) = (Report::default(), Batch::default());
    let view = redrive.view();
    let read =
        for_each_redrivable(installation, view, selection, &mut report, |entry, route, report| {
            batch.add(entry.record.to_owned(), route);
            if batch.is_full() { batch.commit(topics, mappings, &redrive, report) } else { Ok(()) }
        });
    let result = read.and_then(|()| batch.commit(topics, mappings, &redrive, &mut report));
    report.print_summary("redriven");
    result.map(|()| report.outcome())
}

/// The dead letters of one transaction.
#[derive(Default)]
struct Batch {
    dead_letters: Vec<(OwnedRecord, Route)>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, record: OwnedRecord, route: Route) {
        let dead_letter = DeadLetterRecord::from_owned(&record);
        self.bytes += dead_letter.value.len().max(route.bytes(&dead_letter));
        self.dead_letters.push((record, route));
    }

    fn is_full(&self) -> bool {
        self.dead_letters.len() >= BATCH_RECORDS || self.bytes >= BATCH_BYTES
    }

    /// Publishes all of them with their markers in one transaction, and reports them afterwards.
    fn commit(
        &mut self,
        topics: &Topics,
        mappings: &Mappings,
        redrive: &Redrive,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let dead_letters = std::mem::take(self).dead_letters;
        redrive.commit(|out| {
            for (record, route) in &dead_letters {
                let dead_letter = DeadLetterRecord::from_owned(record);
                route.publish(&dead_letter, topics, mappings, out)?;
                publish_marker(&dead_letter, route, &topics.dead_letters, out)?;
            }
            Ok(())
        })?;
        for (record, route) in &dead_letters {
            report.redriven(DeadLetterRecord::from_owned(record).id, route);
        }
        Ok(())
    }
}

/// Publishes the marker of a redriven dead letter to the dead letter's partition.
fn publish_marker(
    dead_letter: &DeadLetterRecord<'_>,
    route: &Route,
    topic: &str,
    out: &mut Output<'_>,
) -> Result<(), kafka::Error> {
    let DeadLetterId { partition, offset } = dead_letter.id;
    let marker = DeadLetter {
        stage: Stage::Redrive,
        reason: Reason::Redriven,
        detail: &route.to_string(),
        origin: Some(Origin { topic, partition, offset: Offset(offset) }),
    };
    let headers = marker.headers();
    let headers = headers.each_ref().map(|(name, value)| (*name, &value[..]));
    out.send(Outgoing {
        topic,
        partition: Some(partition),
        key: dead_letter.key,
        value: Some(&[]),
        headers: &headers,
    })
}

/// Prints one line per dead letter to standard output, and a summary to standard error. Ignores
/// errors of standard output, because the redrive must continue if the reader of a pipe ends.
#[derive(Default)]
struct Report {
    redriven: u64,
    redriven_before: u64,
    staying: u64,
}

impl Report {
    fn would_be_redriven(&mut self, id: DeadLetterId, route: &Route) {
        self.redriven += 1;
        print_line(id, &format!("would be redriven: {route}"));
    }

    fn redriven(&mut self, id: DeadLetterId, route: &Route) {
        self.redriven += 1;
        print_line(id, &format!("redriven: {route}"));
    }

    fn was_redriven_before(&mut self, id: DeadLetterId) {
        self.redriven_before += 1;
        print_line(id, "was redriven before");
    }

    fn stays(&mut self, id: DeadLetterId, reason: &str) {
        self.staying += 1;
        print_line(id, &format!("stays: {reason}"));
    }

    fn print_summary(&self, done: &str) {
        let mut summary = format!("{} {done}", self.redriven);
        let others = [(self.redriven_before, "redriven before"), (self.staying, "not redriven")];
        for (count, what) in others {
            if count > 0 {
                summary += &format!(", {count} {what}");
            }
        }
        let _ = writeln!(io::stderr(), "{summary}");
    }

    fn outcome(&self) -> Outcome {
        if self.staying == 0 { Outcome::Done } else { Outcome::Incomplete }
    }
}

fn print_line(id: DeadLetterId, text: &str) {
    let _ = writeln!(io::stdout(), "{id:<10} {}", crate::text::escape_line(text.as_bytes()));
}
