//! The ledger: what ClickHouse has, beside what was posted and what follows from it.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context;
use serde::Deserialize;
use window::Rule;

use super::ledger::{Ledger, Matched, Wrong, in_order};
use super::mail::Taken;
use super::offline::{self, Scope, Timeline};
use crate::check::{count, query, text};

/// The form of [`super::mail::row_of`].
const ROWS: &str = "
    SELECT concat(provider, '/', source, ' ', kind, ' ', recipient, ' ', message_id, ' ', campaign,
        ' ', toString(toUnixTimestamp64Micro(occurred_at)), ' ',
        if(kind = 'bounced', bounce_permanence, ''), ' ',
        if(automation_reason = '', 'person', 'machine'))
    FROM mailpulse.events FORMAT TSV";

/// Compares everything. `until` is the moment of event time up to which windows must have come.
///
/// # Errors
/// When ClickHouse does not answer, or not what was asked.
pub(crate) async fn prove(url: &str, taken: &Taken, until: i64) -> anyhow::Result<Ledger> {
    let mut ledger = Ledger::default();
    answers(&mut ledger, taken);
    events(&mut ledger, url, taken).await?;
    dead_letters(&mut ledger, url, taken).await?;
    order(&mut ledger, url, taken).await?;
    rollups(&mut ledger, url).await?;
    let cells = text(url, &offline::question()).await?;
    let timelines = offline::timelines(&cells).context("ClickHouse's answer is not understood")?;
    windows(&mut ledger, url, &timelines, until).await?;
    alerts(&mut ledger, url, &timelines, until).await?;
    Ok(ledger)
}

fn answers(ledger: &mut Ledger, taken: &Taken) {
    const PART: &str = "answers";
    let mut never = Wrong::default();
    taken.never_taken.iter().for_each(|request| never.add(|| request.clone()));
    ledger.none(PART, "requests never answered for good", &never);
    ledger.line(PART, "receipts that name another number of events", taken.wrong_receipts, 0);
    ledger.line(PART, "forged requests taken", taken.forged_taken, 0);
}

async fn events(ledger: &mut Ledger, url: &str, taken: &Taken) -> anyhow::Result<()> {
    const PART: &str = "every event, once";
    let expected = taken.events.len() as u64;
    let rows = text(url, ROWS).await?;
    let events = taken.events.iter().map(|(event, id)| (event.as_ref(), id));
    let matched = Matched::of(events, &rows);
    ledger.line(PART, "events answered 2xx that have one row", matched.once, expected);
    ledger.none(PART, "events lost", &matched.lost);
    ledger.none(PART, "events with several rows", &matched.doubled);
    ledger.none(PART, "rows that nobody posted", &matched.unknown);
    let all = count(url, "SELECT count() FROM mailpulse.events").await?;
    let ids = count(url, "SELECT uniqExact(event_id) FROM mailpulse.events").await?;
    ledger.line(PART, "SELECT count() FROM events", all, expected);
    ledger.line(PART, "SELECT uniqExact(event_id) FROM events", ids, expected);
    for table in ["events", "rates", "alerts", "dead_letters"] {
        archived_twice(ledger, url, table).await?;
    }
    Ok(())
}

/// Records of Kafka that have several rows; those of a window's older revisions may be gone. Tells
/// what `archive` doubled from what came to it twice.
async fn archived_twice(ledger: &mut Ledger, url: &str, table: &str) -> anyhow::Result<()> {
    let sql = format!(
        "SELECT concat('partition ', toString(kafka_partition), ' offset ', \
         toString(kafka_offset), ' by the inserts ', toString(groupArray(_block_number)), ' at ', \
         toString(groupArray(archived_at))) FROM mailpulse.{table} \
         GROUP BY kafka_partition, kafka_offset HAVING count() > 1 \
         ORDER BY kafka_partition, kafka_offset FORMAT TSVRaw"
    );
    let mut twice = Wrong::default();
    text(url, &sql).await?.lines().for_each(|record| twice.add(|| record.to_owned()));
    ledger.none("every event, once", &format!("records archived twice in {table}"), &twice);
    Ok(())
}

/// Unreadable requests are known by the number in their body. One that was posted again, because
/// the answer got lost, is a dead letter each time.
async fn dead_letters(ledger: &mut Ledger, url: &str, taken: &Taken) -> anyhow::Result<()> {
    const PART: &str = "dead letters";
    let numbers = text(
        url,
        "SELECT DISTINCT extract(value, 'garbage[^0-9]{1,4}([0-9]+)') FROM mailpulse.dead_letters \
         FORMAT TSV",
    )
    .await?;
    let expected: Vec<String> = taken.garbage.iter().map(u64::to_string).collect();
    let matched = Matched::of(expected.iter().map(|number| (number.as_str(), &"number")), &numbers);
    let posted = expected.len() as u64;
    ledger.line(PART, "unreadable requests answered 2xx, kept whole", matched.once, posted);
    ledger.none(PART, "dead letters of anything else", &matched.unknown);
    Ok(())
}

async fn order(ledger: &mut Ledger, url: &str, taken: &Taken) -> anyhow::Result<()> {
    const PART: &str = "order";
    let (mut right, mut pairs, mut wrong) = (0, 0, Wrong::default());
    for (recipient, posted) in &taken.lanes {
        let sql = format!(
            "SELECT message_id FROM mailpulse.events WHERE recipient = '{recipient}' \
             ORDER BY kafka_partition, kafka_offset FORMAT TSV"
        );
        let found = text(url, &sql).await?;
        let (in_place, out) = in_order(posted, &found.lines().collect::<Vec<_>>());
        right += in_place;
        pairs += in_place + out.count;
        wrong.extend(&out);
    }
    ledger.line(PART, "posted one after the other, and so in Kafka", right, pairs);
    ledger.none(PART, "neighbours out of order", &wrong);
    firsts(ledger, url, "first_of_kind", "kind").await?;
    firsts(ledger, url, "first_engagement", "'any'").await
}

/// Of what people did with one message, exactly the first row in Kafka's order says that it is the
/// first.
async fn firsts(ledger: &mut Ledger, url: &str, flag: &str, sort: &str) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Row {
        all: u64,
        right: u64,
    }
    let sql = format!(
        "SELECT count() AS all, countIf(right) AS right FROM (
            SELECT countIf({flag}) = 1 AND argMin({flag}, kafka_offset) AS right
            FROM mailpulse.events
            WHERE kind IN ('opened', 'clicked') AND automation_reason = ''
            GROUP BY provider, source, message_id, recipient, {sort})"
    );
    for Row { all, right } in query::<Row>(url, &sql).await? {
        ledger.line("order", &format!("{flag} says the first, and only it"), right, all);
    }
    Ok(())
}

/// A table that a materialized view feeds.
#[derive(Deserialize)]
struct Rollup {
    view: String,
    definition: String,
    /// What the view selects.
    selects: String,
}

/// Every materialized view: the sums it has fed, insert by insert, beside those of all rows.
async fn rollups(ledger: &mut Ledger, url: &str) -> anyhow::Result<()> {
    let rollups: Vec<Rollup> = query(
        url,
        "SELECT name AS view, create_table_query AS definition, as_select AS selects \
         FROM system.tables WHERE database = 'mailpulse' AND engine = 'MaterializedView'",
    )
    .await?;
    for Rollup { view, definition, selects } in &rollups {
        let target = definition.split_once(" TO ").map(|(_, rest)| rest);
        let table = target.and_then(|rest| rest.split([' ', '(']).next());
        let table = table.with_context(|| format!("{view} feeds no table of its own"))?;
        let sums = sums(url, table).await?;
        let expected = text(url, &format!("SELECT {sums} FROM ({selects}) {GROUPED}")).await?;
        let found = text(url, &format!("SELECT {sums} FROM {table} {GROUPED}")).await?;
        let matched = Matched::of(expected.lines().map(|group| (group, &"")), &found);
        let groups = expected.lines().count() as u64;
        ledger.line("rollups", &format!("groups of {table}"), matched.once, groups);
        ledger.none("rollups", "groups with other sums in the rows", &matched.lost);
        ledger.none("rollups", "groups with other sums in the table", &matched.unknown);
    }
    Ok(())
}

const GROUPED: &str = "GROUP BY ALL FORMAT TSV";

/// The columns of a summing table: its keys, and the sums of the others.
async fn sums(url: &str, table: &str) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct Column {
        name: String,
        is_in_sorting_key: u8,
        engine: String,
    }
    let sql = format!(
        "SELECT c.name AS name, c.is_in_sorting_key AS is_in_sorting_key, t.engine AS engine \
         FROM system.columns AS c JOIN system.tables AS t \
         ON t.database = c.database AND t.name = c.table \
         WHERE concat(c.database, '.', c.table) = '{table}' ORDER BY c.position"
    );
    let columns: Vec<Column> = query(url, &sql).await?;
    let summing = columns.iter().all(|column| column.engine == "SummingMergeTree");
    anyhow::ensure!(summing, "{table} is no SummingMergeTree; teach the ledger to recompute it");
    let each =
        columns.into_iter().map(
            |Column { name, is_in_sorting_key, .. }| {
                if is_in_sorting_key == 1 { name } else { format!("sum({name})") }
            },
        );
    Ok(each.collect::<Vec<_>>().join(", "))
}

async fn windows(
    ledger: &mut Ledger,
    url: &str,
    timelines: &BTreeMap<Scope, Timeline>,
    until: i64,
) -> anyhow::Result<()> {
    const PART: &str = "windows";
    let (mut once, mut due, mut published) = (0, 0, 0);
    let (mut lost, mut unknown) = (Wrong::default(), Wrong::default());
    let columns = offline::COUNTERS.map(|(name, _)| name).join(", ");
    for (scope, timeline) in timelines {
        let [kind, provider, source, mailbox, campaign] = &scope.0;
        let sql = format!(
            "SELECT width_seconds, toUnixTimestamp64Micro(window_end), {columns} \
             FROM mailpulse.rates FINAL WHERE scope = '{kind}' AND provider = '{provider}' \
             AND source = '{source}' AND mailbox_provider = '{mailbox}' \
             AND campaign = '{campaign}' FORMAT TSV"
        );
        let windows = timeline.windows(until);
        let found = text(url, &sql).await?;
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
        found.iter().for_each(|((width, end), counts)| {
            unknown.add(|| format!("{of} {width} s to {end}: found {counts}"));
        });
    }
    ledger.line(PART, "greatest revisions that equal the recomputed", once, due);
    ledger.none(PART, "windows missing or with other counts", &lost);
    ledger.none(PART, "published windows that do not follow", &unknown);
    let scopes = "SELECT uniqExact(scope, provider, source, mailbox_provider, campaign) \
                  FROM mailpulse.rates";
    ledger.line(PART, "scopes", count(url, scopes).await?, published);
    Ok(())
}

/// A row of a window as its width and end, and its counts.
fn window_of(row: &str) -> Option<((&str, &str), &str)> {
    let (width, rest) = row.split_once('\t')?;
    let (end, counts) = rest.split_once('\t')?;
    Some(((width, end), counts))
}

async fn alerts(
    ledger: &mut Ledger,
    url: &str,
    timelines: &BTreeMap<Scope, Timeline>,
    until: i64,
) -> anyhow::Result<()> {
    const PART: &str = "alerts";
    let rules = Rule::seeds();
    let (mut expected, mut began, mut ended) = (Vec::new(), 0, 0);
    for (scope, timeline) in timelines {
        for transition in timeline.transitions(&rules, until) {
            began +=
                u64::from(transition.state == "firing" && transition.at == transition.started_at);
            ended += u64::from(transition.state == "resolved");
            expected.push(transition.row(scope));
        }
    }
    let episodes = "SELECT uniqExact(episode_id) FROM mailpulse.alerts";
    let fired = "SELECT countIf(state = 'firing' AND at = started_at) FROM mailpulse.alerts";
    let resolved = "SELECT countIf(state = 'resolved') FROM mailpulse.alerts";
    ledger.line(PART, "episodes", count(url, episodes).await?, began);
    ledger.line(PART, "fired", count(url, fired).await?, began);
    ledger.line(PART, "resolved", count(url, resolved).await?, ended);
    let found = text(url, offline::ALERTS).await?;
    let matched = Matched::of(expected.iter().map(|row| (row.as_str(), &"")), &found);
    let transitions = expected.len() as u64;
    ledger.line(PART, "transitions as recomputed, each once", matched.once, transitions);
    ledger.none(PART, "transitions missing", &matched.lost);
    ledger.none(PART, "transitions told twice", &matched.doubled);
    ledger.none(PART, "transitions that do not follow", &matched.unknown);
    Ok(())
}
