//! `mailpulse recompute`: computes the alerts of `mail.alerts` again from `mail.panes`, with the code of monitor's rate
//! stage, and compares them byte for byte.
//!
//! It reads in this order, so that no alert is reported because the services go on meanwhile:
//! 1. how far monitor has read `mail.panes`. All alerts from before are published;
//! 2. `mail.alerts`. Every alert in it rests on records of `mail.panes` that exist by now;
//! 3. `mail.panes`;
//! 4. if there are differences, `mail.alerts` again: for their values, and for alerts that were published since.

mod comparison;
mod grounds;
mod read;
mod recorded;
mod report;

use std::collections::BTreeMap;
use std::path::Path;

use kafka::positions::{self, Position};
use kafka::topics;
use monitor::Recomputation;
use record::Stage;

use crate::args::Recompute;
use crate::installation::{Installation, note};
use crate::{InputError, Outcome};
use comparison::Comparison;
use grounds::{Grounds, PaneLog};
use recorded::RecordedAlerts;

/// Prints every alert that differs or cannot be verified.
///
/// # Errors
/// If the settings are invalid, or Kafka cannot be read.
pub(crate) fn run(config: Option<&Path>, args: &Recompute) -> anyhow::Result<Outcome> {
    let installation = Installation::open(config)?;
    let Installation { connection, topics, partitions, settings, .. } = &installation;
    let event_partitions = usize::try_from(partitions.recipient_partitions)?;
    let pane_partitions = partitions.scope_partitions;
    let mut recomputation = Recomputation::new(settings, event_partitions, pane_partitions)?;
    check_partitions(&installation)?;
    let positions = positions_of(&installation)?;
    let recorded = RecordedAlerts::read(connection, &topics.alerts)?;
    let mut comparison = Comparison::new(recorded.by_scope);
    let panes = recompute(&installation, &mut recomputation, positions, &mut comparison)?;
    let grounds = Grounds { recomputation, panes, clocks: recorded.clocks };
    note(&format!(
        "{} records of {} give {} alerts",
        grounds.panes.records(),
        topics.panes,
        comparison.recomputed
    ))?;
    comparison.pair();
    if comparison.has_differences() {
        let wanted = comparison.wanted();
        let again = recorded::read_again(connection, &topics.alerts, &wanted, &recorded.next)?;
        comparison.complete(again);
    }
    report::report(&comparison, &grounds, args.json)
}

/// The scopes are in the partitions that the settings tell, so their number must be right.
fn check_partitions(installation: &Installation) -> anyhow::Result<()> {
    let Installation { connection, topics, partitions, .. } = installation;
    let expected = [
        (&topics.panes, partitions.scope_partitions, "topics.scope_partitions"),
        (&topics.events, partitions.recipient_partitions, "topics.recipient_partitions"),
    ];
    for (topic, expected, key) in expected {
        let found = topics::partitions_of(connection, topic)?;
        if found != expected {
            let text = format!("{topic} has {found} partitions, but {key} is {expected}");
            return Err(InputError(text).into());
        }
    }
    Ok(())
}

/// Returns how far the rate stage has read each partition of `mail.panes`.
fn positions_of(installation: &Installation) -> anyhow::Result<BTreeMap<i32, Position>> {
    let Installation { connection, topics, .. } = installation;
    let group = topics.group(Stage::MonitorRate.code());
    let all = positions::list(connection, &topics.positions, Stage::MonitorRate, &group)?;
    let of_panes = all.into_iter().filter(|it| it.partition.topic == topics.panes);
    Ok(of_panes.map(|it| (it.partition.partition, it.position)).collect())
}

/// Reads `mail.panes` and compares the alerts that follow from it. Returns what was read.
fn recompute(
    installation: &Installation,
    recomputation: &mut Recomputation,
    positions: BTreeMap<i32, Position>,
    comparison: &mut Comparison,
) -> anyhow::Result<PaneLog> {
    let Installation { connection, topics, partitions, .. } = installation;
    let mut panes = PaneLog::new(topics.panes.clone(), positions);
    let mut alerts = Vec::new();
    let ranges = read::to_the_end(connection, &topics.panes, |record| {
        let (partition, offset) = (record.partition, record.offset.0);
        let value = record.value.as_deref().unwrap_or_default();
        recomputation.receive(partition, &record.key, value, &mut alerts)?;
        panes.count(partition, offset);
        alerts.drain(..).for_each(|alert| comparison.compare(alert, offset));
        Ok(())
    })?;
    for partition in 0..partitions.scope_partitions {
        recomputation.finish(partition, &mut alerts)?;
        let last = panes.last_offset(partition);
        alerts.drain(..).for_each(|alert| comparison.compare(alert, last));
    }
    let after = topics::watermarks(connection, &topics.panes, partitions.scope_partitions)?;
    for ((partition, range), after) in (0..).zip(ranges).zip(after) {
        panes.set_first_offsets(partition, range.0, after.0);
    }
    Ok(panes)
}
