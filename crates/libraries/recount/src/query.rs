//! The query that counts the events of one transition.

use event::Counter;

use crate::Transition;
use crate::formula::formula;

/// In microseconds.
const DAY: i64 = 24 * 3_600_000_000;

/// `dedupe` remembers a message for nine days (`dedupe.remember`), so an event corrects no count that is older, and
/// events of a message lie within this time.
const REMEMBERED_DAYS: i64 = 10;

/// When an event counts.
pub const COUNTED_AT: &str = "least(occurred_at, received_at)";

/// When the message of an event was sent. A time that is more than a day after the receipt is wrong, and the time of
/// the event counts instead. NULL: the event belongs to no cohort.
pub const SENT_AT: &str =
    "if(sent > received_at + INTERVAL 1 DAY, least(occurred_at, received_at), sent)";

/// When a correction counts: the time of the event that it corrects.
pub const CORRECTED_AT: &str =
    "fromUnixTimestamp64Micro(toInt64OrZero(splitByChar('@', change)[2]), 'UTC')";

/// A query that returns `numerator` and `denominator`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The SQL, with its parameters as `{name:Type}`.
    pub sql: String,
    /// The names and the values of its parameters. Texts have no escapes.
    pub parameters: Vec<(String, String)>,
}

/// Returns the query that selects exactly the events before `as_of` that the rule counts. Returns `None` for an
/// unknown metric.
///
/// A correction belongs to the event that carries it: its offset decides whether it is counted, and its own time
/// whether it is in the window.
pub fn query(transition: &Transition) -> Option<Query> {
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
    let earliest_correcting = time("earliest");
    let sql = format!(
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
            format!("occurred_at >= {}", time("window_from"))
        },
        agrees(transition),
    );
    Some(Query { sql, parameters: parameters(transition) })
}

fn parameters(transition: &Transition) -> Vec<(String, String)> {
    let Transition { window_from, window_to, as_of, .. } = transition;
    let entries = as_of.iter().map(|(partition, next)| format!("{partition}:{next}"));
    let entries: Vec<String> = entries.collect();
    let earliest = window_from.saturating_sub(REMEMBERED_DAYS * DAY);
    let mut parameters = vec![
        ("as_of".to_owned(), format!("{{{}}}", entries.join(","))),
        ("window_from".to_owned(), window_from.to_string()),
        ("window_to".to_owned(), window_to.to_string()),
        ("earliest".to_owned(), earliest.to_string()),
    ];
    let dimensions = transition.dimensions().into_iter();
    parameters.extend(dimensions.map(|(name, value)| (format!("of_{name}"), value.to_owned())));
    parameters
}

/// Returns a time that is a parameter in UTC microseconds.
fn time(parameter: &str) -> String {
    format!("fromUnixTimestamp64Micro({{{parameter}:Int64}}, 'UTC')")
}

/// Returns the condition that an event is of the scope and before `as_of`.
fn selected(transition: &Transition) -> String {
    // A partition that is not in the map has the offset 0 there, so none of its events is selected.
    let before = "kafka_offset < {as_of:Map(UInt16, UInt64)}[kafka_partition]".to_owned();
    let values = transition.dimensions().into_iter().map(|(column, _)| {
        // Without the address of the server, the stream stands for it.
        let value = match column {
            "sending_ip" => "if(sending_ip != '', toString(sending_ip), toString(stream))",
            other => other,
        };
        format!("{value} = {{of_{column}:String}}")
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

/// Returns the condition that something that counts at `at` is in the window.
fn in_window(transition: &Transition, at: &str) -> String {
    let (from, to) = (time("window_from"), time("window_to"));
    match &*transition.basis {
        "cohort" => format!("({SENT_AT}) >= {from} AND ({SENT_AT}) < {to}"),
        // Everything that has happened since the campaign began.
        "campaign" => format!("{at} >= {from}"),
        _ => format!("{at} >= {from} AND {at} < {to}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_scope_are_parameters() {
        let transition = Transition {
            source: "a'); DROP TABLE events; --".to_owned(),
            sending_ip: "192.0.2.1".to_owned(),
            metric: "hard_bounce".to_owned(),
            as_of: vec![(0, 10), (3, 5)],
            window_from: 1_000,
            ..Transition::default()
        };
        let Query { sql, parameters } = query(&transition).unwrap();
        assert!(sql.contains("source = {of_source:String}") && !sql.contains("DROP"), "{sql}");
        let value = |name: &str| &parameters.iter().find(|(it, _)| it == name).unwrap().1;
        assert_eq!((&**value("as_of"), &**value("window_from")), ("{0:10,3:5}", "1000"));
        assert_eq!(value("of_source"), &transition.source);
        assert_eq!(query(&Transition { metric: "luck".to_owned(), ..transition }), None);
    }
}
