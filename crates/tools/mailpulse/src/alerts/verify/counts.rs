//! The query that counts the events of one transition.

use event::Counter;

use super::Transition;
use super::formula::formula;
use crate::database::{literal, time_literal};

/// In microseconds.
const DAY: i64 = 24 * 3_600_000_000;

/// `dedupe` remembers a message for nine days (`dedupe.remember`), so an event corrects no count that is older, and
/// events of a message lie within this time.
const REMEMBERED_DAYS: i64 = 10;

/// When an event counts.
pub(crate) const COUNTED_AT: &str = "least(occurred_at, received_at)";

/// When the message of an event was sent. A time that is more than a day after the receipt is wrong, and the time of
/// the event counts instead. NULL: the event belongs to no cohort.
pub(crate) const SENT_AT: &str =
    "if(sent > received_at + INTERVAL 1 DAY, least(occurred_at, received_at), sent)";

/// When a correction counts: the time of the event that it corrects.
pub(crate) const CORRECTED_AT: &str =
    "fromUnixTimestamp64Micro(toInt64OrZero(splitByChar('@', change)[2]), 'UTC')";

/// Returns the query for numerator and denominator, which selects exactly the events before `as_of` that the rule
/// counts. Returns `None` for an unknown metric.
///
/// A correction belongs to the event that carries it: its offset decides whether it is counted, and its own time
/// whether it is in the window.
pub(super) fn query(transition: &Transition) -> Option<String> {
    let formula = formula(&transition.metric, transition.basis == "cohort")?;
    let sums: Vec<String> = Counter::ALL
        .iter()
        .map(|counter| {
            format!("greatest(sumIf(number, counter = '{0}'), 0) AS {0}", counter.as_str())
        })
        .collect();
    let (direct, corrected) =
        (in_window(transition, COUNTED_AT), in_window(transition, CORRECTED_AT));
    let selected = selected(transition);
    let earliest_correcting =
        time_literal(transition.window_from.saturating_sub(REMEMBERED_DAYS * DAY));
    Some(format!(
        "SELECT toUInt64(least(part, whole)) AS numerator, toUInt64(whole) AS denominator FROM ( \
         SELECT toInt64(greatest({}, 0)) AS part, toInt64(greatest({}, 0)) AS whole FROM ( \
         SELECT {} FROM ( \
         SELECT arrayJoin(CAST(counts AS Array(String))) AS counter, toInt64(1) AS number FROM events \
         WHERE notEmpty(counts) AND {selected} AND {} AND {direct} \
         UNION ALL \
         SELECT substring(splitByChar('@', change)[1], 2) AS counter, \
         if(startsWith(change, '-'), toInt64(-1), toInt64(1)) AS number FROM ( \
         SELECT occurred_at, received_at, sent, \
         arrayJoin(splitByChar(',', splitByChar(':', corrections)[2])) AS change FROM events \
         WHERE corrections != '' AND {selected} AND {} AND occurred_at >= {earliest_correcting} \
         ) WHERE {corrected})))",
        formula.numerator,
        formula.denominator,
        sums.join(", "),
        // This lets ClickHouse skip older rows. An event counts no later than it happened.
        if transition.basis == "cohort" {
            format!("occurred_at >= {earliest_correcting}")
        } else {
            format!("occurred_at >= {}", time_literal(transition.window_from))
        },
        agrees(transition),
    ))
}

/// Returns the condition that an event is of the scope and before `as_of`.
fn selected(transition: &Transition) -> String {
    let entries = transition
        .as_of
        .iter()
        .map(|(partition, next)| format!("toUInt16({partition}), toUInt64({next})"));
    // A partition that is not in the map has the offset 0 there, so none of its events is selected.
    let before =
        format!("kafka_offset < map({})[kafka_partition]", entries.collect::<Vec<_>>().join(", "));
    let values = transition.dimensions().into_iter().map(|(column, value)| {
        // Without the address of the server, the stream stands for it.
        let column = match column {
            "sending_ip" => "if(sending_ip != '', toString(sending_ip), toString(stream))",
            other => other,
        };
        format!("{column} = {}", literal(value))
    });
    values.chain([before]).collect::<Vec<_>>().join(" AND ")
}

/// Returns the condition that a correction concerns the scope: all events of its message agree in the dimensions of
/// the scope.
fn agrees(transition: &Transition) -> String {
    let dimensions = transition.dimensions();
    let names = dimensions.iter().filter(|(name, _)| !["provider", "source"].contains(name));
    let conditions = names.map(|(name, _)| {
        format!("has(splitByChar(',', splitByChar(':', corrections)[1]), '{name}')")
    });
    let conditions: Vec<String> = conditions.collect();
    if conditions.is_empty() { "1".to_owned() } else { conditions.join(" AND ") }
}

/// Returns the condition that something that counts at `time` is in the window.
fn in_window(transition: &Transition, time: &str) -> String {
    let (from, to) = (time_literal(transition.window_from), time_literal(transition.window_to));
    match &*transition.basis {
        "cohort" => format!("({SENT_AT}) >= {from} AND ({SENT_AT}) < {to}"),
        // Everything that has happened since the campaign began.
        "campaign" => format!("{time} >= {from}"),
        _ => format!("{time} >= {from} AND {time} < {to}"),
    }
}
