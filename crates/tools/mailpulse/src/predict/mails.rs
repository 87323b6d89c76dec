//! The mails of recipients as queries of `message_life`.

use jiff::{SignedDuration, Timestamp};
use predict::MAX_MAILS;

use crate::database::literal;

/// How long after sending an open or click makes a mail an engaged one. A mail is part of histories, and an outcome of
/// predictions, only when this time has passed. Otherwise mail that is about to be opened would count as ignored.
pub(super) const ENGAGED_WITHIN: SignedDuration = SignedDuration::from_hours(3 * 24);

/// Older mail is not part of histories.
pub(super) const HISTORY: SignedDuration = SignedDuration::from_hours(365 * 24);

/// An open or click of this time before the predictions tells the time zone of a recipient. It is the time of which
/// `automate` knows zones, and the default of `archive.retention.events`.
const ZONE_KNOWN_FOR: SignedDuration = SignedDuration::from_hours(90 * 24);

/// How `message_life` stores that something never happened.
pub(super) const NEVER: &str = "toDateTime64('2299-12-31 00:00:00', 3, 'UTC')";

/// Of a row of `message_life`: it was delivered and did not bounce later.
pub(super) const IS_KEPT: &str = "(delivered_at < toDateTime64('2299-12-31 00:00:00', 3, 'UTC') \
     AND bitAnd(flags, 16) = 0 AND last_bounced_at < delivered_at)";

/// Bounds the memory of ClickHouse. `message_life` is sorted by source and recipient, so that recipients can be
/// aggregated one after the other.
pub(super) const BOUNDS: &str = "optimize_aggregation_in_order = 1, max_bytes_before_external_group_by = 2000000000, \
     max_bytes_before_external_sort = 2000000000";

/// Returns a time as SQL.
pub(super) fn sql_time(at: Timestamp) -> String {
    format!("fromUnixTimestamp64Milli({}, 'UTC')", at.as_millisecond())
}

/// Returns a time earlier than another one. Times near the beginning of all time do not occur.
pub(super) fn before(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// Whose mail is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope<'a> {
    Source(&'a str),
    /// The recipients of all sources. An address at two sources is two recipients.
    All,
}

impl Scope<'_> {
    /// Returns the condition on a table with sources and recipients.
    pub(super) fn condition(self) -> String {
        match self {
            Self::Source(source) => format!("source = {} AND recipient != ''", literal(source)),
            Self::All => "recipient != ''".to_owned(),
        }
    }
}

/// Returns a query of the mails of recipients: `source`, `recipient`, `sent` and `is_engaged` (0 or 1).
///
/// A mail was sent at the earliest time that is known of it. Only mail that was delivered and did not bounce later counts.
/// Of a provider that reports no deliveries, only the engaged mail would be known, and everybody would seem to engage.
pub(super) fn mails(scope: Scope<'_>, further: &str) -> String {
    format!(
        "SELECT source, recipient, \
         least(first_opened_at, first_clicked_at) AS first_engaged_at, \
         least(sent_at, accepted_at, delivered_at, first_engaged_at) AS sent, \
         first_engaged_at < {NEVER} AND first_engaged_at < sent + toIntervalHour({}) AS is_engaged \
         FROM message_life FINAL WHERE {}{further} AND {IS_KEPT}",
        ENGAGED_WITHIN.as_hours(),
        scope.condition(),
    )
}

/// Returns a query of the histories at a time: `source`, `recipient`, `mails`, `engaged` and `last_engaged`.
pub(super) fn histories(scope: Scope<'_>, at: Timestamp) -> String {
    let (from, to) = (sql_time(before(at, HISTORY)), sql_time(before(at, ENGAGED_WITHIN)));
    format!(
        "SELECT source, recipient, {} FROM (SELECT source, recipient, {} AS past FROM ({}) \
         WHERE sent >= {from} AND sent < {to} GROUP BY source, recipient)",
        numbers("past"),
        sequence("true"),
        mails(scope, ""),
    )
}

/// Returns the engagement with the mails of a recipient under a condition, in the order of sending, as an array of 0 and 1.
/// Of mails that were sent at the same time, engaged ones are the last.
pub(super) fn sequence(condition: &str) -> String {
    format!(
        "arrayMap(it -> tupleElement(it, 2), arraySort(groupArrayIf((sent, is_engaged), {condition})))"
    )
}

/// Returns the three numbers of [`predict::History`] of the newest mails of a sequence.
pub(super) fn numbers(sequence: &str) -> String {
    let newest = format!("arraySlice({sequence}, -{MAX_MAILS})");
    format!(
        "toUInt32(length({newest})) AS mails, toUInt32(arraySum({newest})) AS engaged, \
         toUInt32(arrayLastIndex(it -> it = 1, {newest})) AS last_engaged"
    )
}

/// Returns a query of the time zones at a time: `recipient` and `zone`.
pub(super) fn zones(source: &str, at: Timestamp, further: &str) -> String {
    let from = before(at, ZONE_KNOWN_FOR);
    // An event counts at the earlier of both times, and the table is sorted by occurred_at. Events that are not authentic
    // and count for nothing tell no zone either.
    format!(
        "SELECT recipient, toString(argMax(geo_time_zone, (events.at, event_id))) AS zone FROM events \
         WHERE source = {} AND kind IN ('opened', 'clicked') AND occurred_at >= {from} \
         AND events.at >= {from} AND events.at < {} AND automation_reason = '' AND geo_time_zone != '' \
         AND (authentic OR seen > 0 OR notEmpty(counts)) AND recipient != ''{further} GROUP BY recipient",
        literal(source),
        sql_time(at),
        from = sql_time(from),
    )
}
