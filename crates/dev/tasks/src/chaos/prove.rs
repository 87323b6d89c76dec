//! Compares the rows in ClickHouse with the posted requests.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use alerting::RuleSet;
use anyhow::Context;
use serde::Deserialize;

use super::attack::GENUINE;
use super::balance::{Balance, Errors, Matched, in_order};
use super::mail::Answers;
use super::offline::{self, Before, OldRule, SCOPE, Scope, Timeline};
use super::{alerts, incidents};
use crate::clickhouse::Database;

/// Returns texts in the form of [`super::mail::row_of`].
const ROWS: &str = "
    SELECT concat(provider, '/', source, ' ', kind, ' ', recipient, ' ', message_id, ' ', campaign,
        ' ', toString(toUnixTimestamp64Micro(occurred_at)), ' ',
        if(kind = 'bounced', bounce_permanence, ''), ' ',
        if(automation_reason = '', 'person', 'machine'))
    FROM events WHERE source != 'hostile' FORMAT TSV";

/// The tables that contain Kafka records.
const TABLES: [&str; 7] =
    ["events", "rates", "alerts", "incidents", "actions", "suppressions", "dead_letters"];
const POLL: Duration = Duration::from_millis(500);

/// Up to when windows are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until {
    /// The greatest end of a window, in microseconds of event time.
    pub(crate) end: i64,
    /// Whether time goes on: later windows may have been published.
    pub(crate) goes_on: bool,
}

/// Compares everything. Windows must have been published up to `until`.
///
/// # Errors
/// If a query fails.
pub(crate) async fn prove(
    database: &Database,
    answers: &Answers,
    until: Until,
) -> anyhow::Result<Balance> {
    let mut balance = Balance::default();
    final_answers(&mut balance, answers);
    events(&mut balance, database, answers).await?;
    dead_letters(&mut balance, database, answers).await?;
    order(&mut balance, database, answers).await?;
    rollups(&mut balance, database).await?;
    let cells = database.text(&offline::query(None)).await?;
    let timelines = offline::timelines(&cells).context("ClickHouse's answer is malformed")?;
    windows(&mut balance, database, &timelines, until, None).await?;
    let rules = RuleSet::defaults();
    alerts::prove(&mut balance, database, &timelines, &rules, None).await?;
    incidents::prove(&mut balance, database).await?;
    Ok(balance)
}

/// Compares what follows from the rows alone: records archived twice, first seen engagements, sums,
/// windows, alerts and incidents. Repeats it until it balances or the deadline has passed. `before` is what an
/// earlier release had done, and `old_rules` are its rules.
///
/// # Errors
/// If a query fails.
pub(crate) async fn settle_windows(
    balance: &mut Balance,
    database: &Database,
    (rules, old_rules): (&RuleSet, &[OldRule]),
    until: i64,
    before: &Before,
    deadline: Instant,
) -> anyhow::Result<()> {
    loop {
        let mut found = Balance::default();
        for table in TABLES {
            archived_twice(&mut found, database, table).await?;
        }
        firsts(&mut found, database, "first_of_kind", "kind").await?;
        firsts(&mut found, database, "first_engagement", "'any'").await?;
        rollups(&mut found, database).await?;
        let cells = database.text(&offline::query(Some(before))).await?;
        let timelines = offline::timelines(&cells).context("ClickHouse's answer is malformed")?;
        let until = Until { end: until, goes_on: false };
        windows(&mut found, database, &timelines, until, Some(before)).await?;
        old_alerts(&mut found, database, &timelines, old_rules, before).await?;
        alerts::prove(&mut found, database, &timelines, rules, Some(before)).await?;
        incidents::prove(&mut found, database).await?;
        if found.is_balanced() || Instant::now() > deadline {
            balance.0.extend(found.0);
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn final_answers(balance: &mut Balance, answers: &Answers) {
    const PART: &str = "answers";
    let mut abandoned = Errors::default();
    answers.abandoned.iter().for_each(|request| abandoned.add(|| request.clone()));
    balance.none(PART, "requests without a final answer", &abandoned);
    balance.line(PART, "answers with a wrong number of events", answers.wrong_counts, 0);
    balance.line(PART, "forged requests accepted", answers.forged_accepted, 0);
}

async fn events(
    balance: &mut Balance,
    database: &Database,
    answers: &Answers,
) -> anyhow::Result<()> {
    const PART: &str = "every event, once";
    let expected = answers.events.len() as u64;
    let rows = database.text(ROWS).await?;
    let events = answers.events.iter().map(|(event, id)| (event.as_ref(), id));
    let matched = Matched::of(events, &rows);
    balance.line(PART, "accepted events with one row", matched.once, expected);
    balance.none(PART, "events lost", &matched.lost);
    balance.none(PART, "events with several rows", &matched.doubled);
    balance.none(PART, "rows without a posted event", &matched.unknown);
    let all = database.count(&format!("SELECT count() FROM events WHERE {GENUINE}")).await?;
    let ids =
        database.count(&format!("SELECT uniqExact(event_id) FROM events WHERE {GENUINE}")).await?;
    balance.line(PART, "SELECT count() FROM events", all, expected);
    balance.line(PART, "SELECT uniqExact(event_id) FROM events", ids, expected);
    for table in TABLES {
        archived_twice(balance, database, table).await?;
    }
    Ok(())
}

/// Finds Kafka records with several rows: `archive` has doubled them. Events that are doubled without
/// such a record reached `archive` twice. Rows of older revisions of a window may be merged away.
async fn archived_twice(
    balance: &mut Balance,
    database: &Database,
    table: &str,
) -> anyhow::Result<()> {
    let sql = format!(
        "SELECT concat('partition ', toString(kafka_partition), ' offset ', \
         toString(kafka_offset), ' by the inserts ', toString(groupArray(_block_number)), ' at ', \
         toString(groupArray(archived_at))) FROM {table} \
         GROUP BY kafka_partition, kafka_offset HAVING count() > 1 \
         ORDER BY kafka_partition, kafka_offset FORMAT TSVRaw"
    );
    let mut doubled = Errors::default();
    database.text(&sql).await?.lines().for_each(|record| doubled.add(|| record.to_owned()));
    balance.none("every event, once", &format!("records archived twice in {table}"), &doubled);
    Ok(())
}

/// Unreadable requests have a number in their body. One that was repeated, because the answer was lost,
/// becomes a dead letter each time.
async fn dead_letters(
    balance: &mut Balance,
    database: &Database,
    answers: &Answers,
) -> anyhow::Result<()> {
    const PART: &str = "dead letters";
    let sql = "SELECT DISTINCT extract(value, 'garbage[^0-9]{1,4}([0-9]+)') FROM dead_letters \
               WHERE source != 'hostile' FORMAT TSV";
    let numbers = database.text(sql).await?;
    let expected: Vec<String> = answers.garbage.iter().map(u64::to_string).collect();
    let matched = Matched::of(expected.iter().map(|number| (number.as_str(), &"number")), &numbers);
    let posted = expected.len() as u64;
    balance.line(PART, "accepted unreadable requests, complete", matched.once, posted);
    balance.none(PART, "other dead letters", &matched.unknown);
    Ok(())
}

async fn order(
    balance: &mut Balance,
    database: &Database,
    answers: &Answers,
) -> anyhow::Result<()> {
    const PART: &str = "order";
    let (mut right, mut pairs, mut errors) = (0, 0, Errors::default());
    for (recipient, posted) in &answers.ordered {
        let sql = format!(
            "SELECT message_id FROM events WHERE recipient = '{recipient}' \
             ORDER BY kafka_partition, kafka_offset FORMAT TSV"
        );
        let found = database.text(&sql).await?;
        let (in_place, out_of_order) = in_order(posted, &found.lines().collect::<Vec<_>>());
        right += in_place;
        pairs += in_place + out_of_order.count;
        errors.extend(&out_of_order);
    }
    balance.line(PART, "neighbours in the order of posting", right, pairs);
    balance.none(PART, "neighbours out of order", &errors);
    firsts(balance, database, "first_of_kind", "kind").await?;
    firsts(balance, database, "first_engagement", "'any'").await
}

/// Checks the flag of first seen engagements: of the engagements by people with one message, exactly the
/// first row in Kafka's order has it.
async fn firsts(
    balance: &mut Balance,
    database: &Database,
    flag: &str,
    grouping: &str,
) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Row {
        all: u64,
        right: u64,
    }
    let sql = format!(
        "SELECT count() AS all, countIf(right) AS right FROM (
            SELECT countIf({flag}) = 1 AND argMin({flag}, kafka_offset) AS right
            FROM events
            WHERE kind IN ('opened', 'clicked') AND automation_reason = ''
            GROUP BY provider, source, message_id, recipient, {grouping})"
    );
    for Row { all, right } in database.rows::<Row>(&sql).await? {
        balance.line("order", &format!("{flag} on the first row only"), right, all);
    }
    Ok(())
}

/// A materialized view on `events`.
#[derive(Deserialize)]
struct View {
    view: String,
    definition: String,
    /// Its SELECT.
    select: String,
}

/// All rows. Those of releases before the migration 10 have no `counts`; their kinds tell what they count for.
const COUNTED_ROWS: &str = "SELECT * REPLACE (if( \
    notEmpty(counts) OR archived_at >= (SELECT min(applied_at) FROM schema_migrations WHERE version = 10), \
    counts, \
    arrayFilter(name -> name != '', [ \
        if(first_engagement AND automation_reason = '', 'engaged', ''), \
        ['injected', 'delivered', 'deferrals', 'dropped', 'complained', 'unsubscribed', \
         multiIf(automation_reason != '', 'machine_opened', first_of_kind, 'opened', ''), \
         multiIf(automation_reason != '', 'machine_clicked', first_of_kind, 'clicked', ''), \
         if(bounce_late, 'late_bounces', concat('bounced_', \
            if(bounce_permanence != 'hard' AND bounce_side = 'sender', 'block', bounce_permanence))) \
        ][indexOf(['accepted', 'delivered', 'deferred', 'dropped', 'complained', 'unsubscribed', \
                   'opened', 'clicked', 'bounced'], kind)]]) \
    ) AS counts) FROM events";

/// Compares what the materialized views have added to their tables, insert by insert, with all rows.
async fn rollups(balance: &mut Balance, database: &Database) -> anyhow::Result<()> {
    // Views with a schedule are tables for reading; nothing else depends on them.
    let sql = "SELECT name AS view, create_table_query AS definition, as_select AS select \
         FROM system.tables WHERE database = currentDatabase() AND engine = 'MaterializedView' \
         AND create_table_query NOT LIKE '% REFRESH %' ORDER BY name";
    let views: Vec<View> = database.rows(sql).await?;
    let passing = database
        .text(
            "SELECT database || '.' || name FROM system.tables \
             WHERE database = currentDatabase() AND engine = 'Null' FORMAT TSV",
        )
        .await?;
    let mut selects: BTreeMap<&str, Vec<&View>> = BTreeMap::new();
    // What the views that pass rows on to others select, by their table.
    let mut passed: BTreeMap<&str, &str> = BTreeMap::new();
    for view in &views {
        let target = view.definition.split_once(" TO ").map(|(_, rest)| rest);
        let table = target.and_then(|rest| rest.split([' ', '(']).next());
        let table = table.with_context(|| format!("{} has no target table", view.view))?;
        if passing.lines().any(|name| name == table) {
            passed.insert(table, &view.select);
        } else {
            selects.entry(table).or_default().push(view);
        }
    }
    for (table, views) in selects {
        let columns = columns(database, table).await?;
        let mut parts = Vec::new();
        for view in views {
            let names = self::columns(database, &view.view).await?;
            let names: Vec<String> = names.into_iter().map(|column| column.name).collect();
            let each = columns.iter().filter_map(|column| column.of_view(&names));
            let each: Vec<String> = each.collect();
            let mut select = view.select.clone();
            for (table, rows) in &passed {
                select = select.replace(&format!("FROM {table}"), &format!("FROM ({rows})"));
            }
            let from = format!("FROM {}.events", database.name);
            let select = select.replace(&from, &format!("FROM ({COUNTED_ROWS})"));
            parts.push(format!("SELECT {} FROM ({select})", each.join(", ")));
        }
        let merged: Vec<String> = columns.iter().filter_map(Column::merged).collect();
        let sums: Vec<&Column> = columns.iter().filter(|column| column.is_sum()).collect();
        // A table that adds up drops rows in which every sum is zero.
        let sums: Vec<String> =
            sums.iter().map(|column| format!("merged_{} != 0", column.name)).collect();
        let having =
            if sums.is_empty() { String::new() } else { format!("HAVING {}", sums.join(" OR ")) };
        let merged = merged.join(", ");
        let of =
            |from: &str| format!("SELECT {merged} FROM {from} GROUP BY ALL {having} FORMAT TSV");
        let expected = database.text(&of(&format!("({})", parts.join(" UNION ALL ")))).await?;
        let found = database.text(&of(table)).await?;
        let matched = Matched::of(expected.lines().map(|group| (group, &"")), &found);
        let groups = expected.lines().count() as u64;
        balance.line("rollups", &format!("groups of {table}"), matched.once, groups);
        balance.none("rollups", "groups with other sums in the rows", &matched.lost);
        balance.none("rollups", "groups with other sums in the table", &matched.unknown);
    }
    Ok(())
}

/// A column of a table that views fill.
#[derive(Deserialize)]
struct Column {
    name: String,
    r#type: String,
    is_in_sorting_key: u8,
    default_kind: String,
}

impl Column {
    /// Returns the column as a view fills it. `None` for a column that no view fills.
    fn of_view(&self, of_the_view: &[String]) -> Option<String> {
        let Self { name, .. } = self;
        match (of_the_view.contains(name), self.is_sum()) {
            // A view counts without sign.
            (true, true) => Some(format!("toInt64({name}) AS {name}")),
            (true, false) => Some(name.clone()),
            (false, true) => Some(format!("toInt64(0) AS {name}")),
            (false, false) => None,
        }
    }

    /// Returns the column after all parts are merged.
    fn merged(&self) -> Option<String> {
        let Self { name, r#type, .. } = self;
        if self.is_in_sorting_key == 1 {
            return Some(name.clone());
        }
        if let Some(function) = r#type.strip_prefix("SimpleAggregateFunction(") {
            // The time of storing differs whenever the rows are fed again.
            let is_time_of_storing = self.default_kind == "DEFAULT" && name == "updated_at";
            let function = function.split(',').next()?;
            return (!is_time_of_storing).then(|| format!("{function}({name}) AS merged_{name}"));
        }
        Some(format!("sum({name}) AS merged_{name}"))
    }

    fn is_sum(&self) -> bool {
        self.is_in_sorting_key == 0 && self.r#type == "Int64"
    }
}

async fn columns(database: &Database, table: &str) -> anyhow::Result<Vec<Column>> {
    let table = table.rsplit('.').next().unwrap_or(table);
    let sql = format!(
        "SELECT name, type, is_in_sorting_key, default_kind FROM system.columns \
         WHERE database = currentDatabase() AND table = '{table}' ORDER BY position"
    );
    database.rows(&sql).await
}

async fn windows(
    balance: &mut Balance,
    database: &Database,
    timelines: &BTreeMap<Scope, Timeline>,
    until: Until,
    before: Option<&Before>,
) -> anyhow::Result<()> {
    const PART: &str = "windows";
    let (mut once, mut due, mut published) = (0, 0, 0);
    let (mut lost, mut unknown) = (Errors::default(), Errors::default());
    let columns = offline::columns();
    // An upgraded installation does not know the first day and the first cohorts completely.
    let compared = match before {
        Some(_) => "width_seconds BETWEEN 1 AND 3600".to_owned(),
        // Cohorts have no end up to which they are compared.
        None if until.goes_on => {
            format!("(width_seconds = 0 OR toUnixTimestamp64Micro(window_end) <= {})", until.end)
        }
        None => "true".to_owned(),
    };
    for (scope, timeline) in timelines {
        let sql = format!(
            "SELECT width_seconds, toUnixTimestamp64Micro(window_end), {columns} \
             FROM rates FINAL WHERE {} AND {compared} FORMAT TSV",
            scope.condition()
        );
        let (windows, optional) = match before {
            Some(_) => timeline.windows_after_upgrade(until.end),
            None => (timeline.windows(until.end), Vec::new()),
        };
        let found = database.text(&sql).await?;
        let of = scope.0.join("/");
        due += windows.len() as u64;
        published += u64::from(!windows.is_empty());
        let mut found: HashMap<_, _> = found.lines().filter_map(window_of).collect();
        for (window, expected) in windows.iter().filter_map(|row| window_of(row)) {
            match found.remove(&window) {
                Some(counts) if counts == expected => once += 1,
                None => lost.add(|| format!("{of} {} s to {}: {expected}", window.0, window.1)),
                Some(counts) => lost.add(|| {
                    let (width, end) = window;
                    format!("{of} {width} s to {end}: {expected}, found {counts}")
                }),
            }
        }
        for (window, expected) in optional.iter().filter_map(|row| window_of(row)) {
            if found.get(&window) == Some(&expected) {
                found.remove(&window);
            }
        }
        found.iter().for_each(|((width, end), counts)| {
            unknown.add(|| format!("{of} {width} s to {end}: found {counts}"));
        });
    }
    balance.line(PART, "windows that equal the recomputed ones", once, due);
    balance.none(PART, "windows missing or with other counts", &lost);
    balance.none(PART, "published windows that are not expected", &unknown);
    let scopes = format!(
        "SELECT uniqExact({}) FROM rates WHERE source != 'hostile' AND {compared}",
        SCOPE.join(", ")
    );
    balance.line(PART, "scopes", database.count(&scopes).await?, published);
    Ok(())
}

/// Returns the last window of each scope that an earlier release had published.
async fn old_ends(
    database: &Database,
    Before { published, .. }: &Before,
) -> anyhow::Result<HashMap<String, i64>> {
    let scope = SCOPE.join(", ");
    let sql = format!(
        "SELECT max(toUnixTimestamp64Micro(window_end)), {scope} FROM rates WHERE {published} \
         GROUP BY {scope} FORMAT TSV"
    );
    let answer = database.text(&sql).await?;
    let ends = answer.lines().filter_map(|line| {
        let (end, scope) = line.split_once('\t')?;
        Some((scope.to_owned(), end.parse().ok()?))
    });
    Ok(ends.collect())
}

/// Splits a row into width and end of the window, and its counters.
fn window_of(row: &str) -> Option<((&str, &str), &str)> {
    let (width, rest) = row.split_once('\t')?;
    let (end, counts) = rest.split_once('\t')?;
    Some(((width, end), counts))
}

/// Compares the transitions that an earlier release has published.
async fn old_alerts(
    balance: &mut Balance,
    database: &Database,
    timelines: &BTreeMap<Scope, Timeline>,
    rules: &[OldRule],
    before: &Before,
) -> anyhow::Result<()> {
    const PART: &str = "alerts of the earlier release";
    let old_ends = old_ends(database, before).await?;
    let mut expected = Vec::new();
    for (scope, timeline) in timelines {
        if let Some(until) = old_ends.get(&scope.0.join("\t")) {
            let transitions = timeline.old_transitions(rules, *until);
            expected.extend(transitions.iter().map(|transition| transition.row(scope)));
        }
    }
    let found = database.text(&offline::old_alerts()).await?;
    let matched = Matched::of(expected.iter().map(|row| (row.as_str(), &"")), &found);
    let transitions = expected.len() as u64;
    balance.line(PART, "transitions that equal the recomputed ones", matched.once, transitions);
    balance.none(PART, "transitions missing", &matched.lost);
    balance.none(PART, "transitions published twice", &matched.doubled);
    balance.none(PART, "transitions that are not expected", &matched.unknown);
    Ok(())
}
