//! The SQL that reads from `events` what each event has changed.

use super::{Before, HOUR, PANE, SCOPE, Scope};
use crate::chaos::attack::GENUINE;

/// What an event counts for: what `dedupe` decided, or for events that an earlier release passed on, what
/// follows from the row.
const COUNTS: &str = "if(notEmpty(counts) OR seen > 0 OR NOT authentic, counts, \
    arrayDistinct(arrayFilter(name -> name != '', arrayConcat([multiIf( \
        kind = 'accepted', 'injected', \
        kind IN ('delivered', 'deferred', 'complained', 'unsubscribed'), toString(kind), \
        kind IN ('bounced', 'dropped') AND bounce_class = 'suppressed', 'suppressed', \
        kind = 'dropped', 'dropped', \
        kind = 'bounced' AND bounce_class = 'auto_reply', 'auto_replies', \
        kind = 'bounced' AND bounce_late, 'late_bounces', \
        kind = 'bounced' AND bounce_side = 'sender', 'bounced_block', \
        kind = 'bounced' AND bounce_permanence = 'hard', 'bounced_hard', \
        kind = 'bounced' AND bounce_permanence = 'soft', 'bounced_soft', \
        kind = 'bounced', 'bounced_undetermined', \
        kind = 'opened' AND automation_reason != '', 'machine_opened', \
        kind = 'clicked' AND automation_reason != '', 'machine_clicked', \
        kind IN ('opened', 'clicked') AND first_of_kind, toString(kind), ''), \
    if(kind = 'deferred', 'deferrals', ''), \
    if(kind IN ('opened', 'clicked') AND automation_reason = '' AND first_engagement, 'engaged', ''), \
    if(is_refused AND kind = 'bounced' AND bounce_class IN ('', 'other'), 'unclassified', ''), \
    if(is_refused AND bounce_class = 'authentication', 'auth_refused', ''), \
    if(is_refused AND bounce_class = 'rate_limited', 'throttled', '')], \
    if(is_refused, arrayMap(signal -> multiIf(signal = 'auth', 'auth_refused', signal = 'listed', \
        'listed', 'throttled'), signals), [])))))";

/// What an event counted for in releases that had fewer counters.
const OLD_COUNTS: &str = "arrayFilter(name -> name != '', [multiIf( \
        kind = 'accepted', 'injected', \
        kind IN ('delivered', 'deferred', 'dropped', 'complained', 'unsubscribed'), toString(kind), \
        kind = 'bounced' AND bounce_permanence = 'hard', 'bounced_hard', \
        kind = 'bounced' AND bounce_permanence = 'soft', 'bounced_soft', \
        kind = 'bounced', 'bounced_undetermined', \
        kind = 'opened' AND automation_reason != '', 'machine_opened', \
        kind = 'clicked' AND automation_reason != '', 'machine_clicked', \
        kind IN ('opened', 'clicked') AND first_of_kind, toString(kind), ''), \
    if(kind = 'bounced' AND bounce_late, 'late_bounces', ''), \
    if(kind IN ('opened', 'clicked') AND automation_reason = '' AND first_engagement, 'engaged', '')])";

/// Returns the rows of `events` that fulfil a condition, with what each counts for, when and for which cohort.
fn rows(before: Option<&Before>, condition: &str) -> String {
    let old = before.map_or("false", |before| before.counted.as_str());
    format!(
        "SELECT *, {old} AS is_old, least(occurred_at, received_at) AS counted_at, \
            kind = 'deferred' OR kind = 'bounced' AND NOT bounce_class IN ('auto_reply', 'suppressed') \
                AS is_refused, \
            CAST(if(is_old, {OLD_COUNTS}, {COUNTS}) AS Array(String)) AS counters, \
            if(sent > received_at + INTERVAL 1 HOUR, counted_at, sent) AS sent_or_counted, \
            if(is_old OR sent IS NULL, '', toString(intDiv(toUnixTimestamp64Micro( \
                assumeNotNull(sent_or_counted)), {HOUR}) * {HOUR})) AS cohort \
            FROM (SELECT * FROM events WHERE {condition} \
            ORDER BY kafka_partition, kafka_offset LIMIT 1 BY event_id)"
    )
}

/// Everything that an event of [`rows`] changes, as dimensions (`*` is all), time, counter and number.
const CHANGES: &str = "arrayJoin(arrayConcat( \
            arrayMap(name -> ('*', toUnixTimestamp64Micro(counted_at), name, toInt64(1)), counters), \
            arrayMap(change -> (splitByChar(':', corrections)[1], \
                toInt64OrZero(splitByChar('@', change)[2]), \
                substring(splitByChar('@', change)[1], 2), \
                if(startsWith(change, '-'), toInt64(-1), toInt64(1))), \
                arrayFilter(change -> change != '' AND NOT is_old, \
                    splitByChar(',', splitByChar(':', corrections)[2]))))) AS change";

/// Returns the query for [`timelines`]: the sum of every counter by pane, cohort and all parts of a scope.
/// An event counts at its own time, or when it was received if that was earlier; a correction counts at
/// the time of what it corrects. An event that was archived twice counts once here; another part of the
/// comparison reports it.
pub(crate) fn query(before: Option<&Before>) -> String {
    let rows = rows(before, GENUINE);
    let group = "provider, source, mailbox_provider, campaign, sender_domain, tenant, is_old";
    format!(
        "WITH rows AS ({rows}) \
        SELECT {group}, change.1 AS dimensions, intDiv(change.2, {PANE}) * {PANE} AS pane, cohort, \
            change.3 AS counter, sum(change.4) \
        FROM (SELECT {group}, cohort, {CHANGES} FROM rows) \
        GROUP BY {group}, dimensions, pane, cohort, counter FORMAT TSV"
    )
}

/// Returns the query of everything that events have changed in one scope: partition, offset, whether an earlier
/// release had counted it, cohort, time, counter and number.
pub(crate) fn changes(before: Option<&Before>, scope: &Scope) -> String {
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
    let parts = SCOPE.iter().zip(&scope.0).skip(1).filter(|(_, value)| !value.is_empty());
    let condition = parts.clone().map(|(column, value)| format!("{column} = '{}'", quoted(value)));
    let rows = rows(before, &condition.collect::<Vec<_>>().join(" AND "));
    // A correction counts in the scopes that have no other dimensions.
    let dimensions: Vec<_> = parts
        .filter(|(column, _)| !matches!(**column, "provider" | "source"))
        .map(|(column, _)| format!("'{column}'"))
        .collect();
    let is_new_kind = matches!(scope.0[0].as_str(), "sender_domain" | "tenant");
    format!(
        "WITH rows AS ({rows}) \
        SELECT kafka_partition, kafka_offset, is_old, cohort, change.2, change.3, change.4 \
        FROM (SELECT kafka_partition, kafka_offset, is_old, cohort, {CHANGES} FROM rows) \
        WHERE (change.1 = '*' OR hasAll(splitByChar(',', change.1), CAST([{}] AS Array(String)))) \
            AND NOT (is_old AND {is_new_kind}) FORMAT TSV",
        dimensions.join(", ")
    )
}
