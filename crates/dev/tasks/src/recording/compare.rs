//! Compares an upgraded installation with what is known about its recording.

use std::collections::BTreeMap;
use std::time::Instant;

use alerting::RuleSet;
use alerting::rule::Rule;
use anyhow::Context;
use serde::Deserialize;

use super::expected::{Cluster, Expected, Topic};
use super::installation::Installation;
use super::tables;
use super::totals::{POLL, PROCESSING_TIMEOUT};
use crate::chaos::{self, Balance, Before, Errors, OldRule, PANE};
use crate::clickhouse::Database;

/// Returns every event with the columns that do not depend on the order in which topics are read, except
/// the events without a time, which have no message either. The release of the recording could not read
/// them.
pub(crate) const ROWS: &str = "
    SELECT hex(event_id), provider, source, kind, recipient, message_id, campaign,
        toUnixTimestamp64Micro(occurred_at), bounce_permanence, tenant, toString(labels), stream,
        toString(tags)
    FROM events WHERE NOT (source = 'legacy' AND message_id = '')
    ORDER BY event_id, recipient FORMAT TSV";

/// Compares the servers with the recording before any service runs.
pub(crate) async fn as_recorded(
    balance: &mut Balance,
    running: &Installation,
    found: &Cluster,
    expected: &Expected,
) -> anyhow::Result<()> {
    const PART: &str = "before the upgrade";
    let (rows, migrations) = tables::read(&running.database).await?;
    let mut same = |what: &str, is_same: bool| {
        balance.line(PART, &format!("{what} differ"), u64::from(!is_same), 0);
    };
    same("rows of tables", rows == expected.tables);
    same("migrations", migrations == expected.migrations);
    for (group, committed) in &expected.cluster.groups {
        same(&format!("offsets of {group}"), found.groups.get(group) == Some(committed));
    }
    let layouts = |topics: &BTreeMap<String, Topic>| -> Vec<_> {
        let each = topics.iter();
        each.map(|(name, it)| (name.clone(), it.configs.clone(), it.ends.len())).collect()
    };
    same("topics", layouts(&found.topics) == layouts(&expected.cluster.topics));
    for (range, present, all) in pending(&running.database, expected).await? {
        println!("  {range} is pending: {present} of its {all} offsets have rows");
    }
    for (id, state) in &found.transactions {
        println!("  transactional id {id}: {state}");
    }
    Ok(())
}

/// Returns the ranges that `archive` had recorded and not marked done, with the numbers of their rows
/// and of their offsets.
async fn pending(
    database: &Database,
    expected: &Expected,
) -> anyhow::Result<Vec<(String, u64, i64)>> {
    let mut ranges = Vec::new();
    let groups = expected.cluster.groups.iter();
    let archive = groups.filter(|(group, _)| group.ends_with("archive"));
    for (partition, committed) in archive.flat_map(|(_, committed)| committed) {
        let range = committed.metadata.split('@').next().and_then(|range| range.split_once('-'));
        let Some((first, last)) = range else { continue };
        let (topic, number) = partition.rsplit_once('/').context("topic/partition")?;
        let table = topic.rsplit("mail.").next().unwrap_or_default().replace('-', "_");
        let sql = format!(
            "SELECT count() FROM {table} WHERE kafka_partition = {number} \
             AND kafka_offset BETWEEN {first} AND {last}"
        );
        let offsets = last.parse::<i64>()? - first.parse::<i64>()? + 1;
        let rows = database.count(&sql).await?;
        ranges.push((format!("{partition} {first}-{last}"), rows, offsets));
    }
    Ok(ranges)
}

/// Compares rows with those of the recorded release, in the form of [`ROWS`].
pub(crate) fn same_rows(balance: &mut Balance, found: &str, expected: &str) {
    const PART: &str = "rows of the recorded release";
    let (mut different, mut compared) = (Errors::default(), 0);
    for (found, expected) in found.lines().zip(expected.lines()) {
        compared += 1;
        if found != expected {
            different.add(|| format!("{found}\n      instead of\n      {expected}"));
        }
    }
    let all = expected.lines().count() as u64;
    balance.line(PART, "rows", found.lines().count() as u64, all);
    balance.line(PART, "rows compared", compared, all);
    balance.none(PART, "rows that differ", &different);
}

/// Every event must have one row, and each kind and source as many as were posted. Waits until that is
/// so: dead letters may be archived after the last event.
pub(crate) async fn events(
    balance: &mut Balance,
    database: &Database,
    expected: &Expected,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + PROCESSING_TIMEOUT;
    loop {
        let mut found = Balance::default();
        count_events(&mut found, database, expected).await?;
        if found.is_balanced() || Instant::now() > deadline {
            balance.0.extend(found.0);
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn count_events(
    balance: &mut Balance,
    database: &Database,
    expected: &Expected,
) -> anyhow::Result<()> {
    const PART: &str = "every event, once";
    #[derive(Deserialize)]
    struct Group {
        name: String,
        rows: u64,
    }
    let distinct = expected.posted.distinct;
    let dead_letters = expected.posted.malformed + expected.posted.unreadable;
    let rows = database.count("SELECT count() FROM events").await?;
    let ids = database.count("SELECT uniqExact(event_id) FROM events").await?;
    let dead = database.count("SELECT count() FROM dead_letters").await?;
    balance.line(PART, "rows", rows, distinct);
    balance.line(PART, "event ids", ids, distinct);
    balance.line(PART, "dead letters", dead, dead_letters);
    for (by, groups) in
        [("toString(kind)", &expected.kinds), ("concat(provider, '/', source)", &expected.sources)]
    {
        let sql =
            format!("SELECT {by} AS name, count() AS rows FROM events GROUP BY name ORDER BY name");
        let rows: Vec<Group> = database.rows(&sql).await?;
        let found: BTreeMap<_, _> = rows.into_iter().map(|row| (row.name, row.rows)).collect();
        let mut different = Errors::default();
        for name in found.keys().chain(groups.keys()) {
            if found.get(name) != groups.get(name) {
                different.add(|| format!("{name}: {:?}", (found.get(name), groups.get(name))));
            }
        }
        balance.none(PART, &format!("groups by {by} that differ"), &different);
    }
    Ok(())
}

/// Sums, windows and alerts must follow from the rows, the recorded migrations must be unchanged, and
/// every recorded episode must have resolved under its id.
pub(crate) async fn windows_and_alerts(
    balance: &mut Balance,
    running: &Installation,
    expected: &Expected,
) -> anyhow::Result<()> {
    let database = &running.database;
    let until = (expected.closing_at - expected.out_of_orderness).div_euclid(PANE) * PANE;
    let rules: Vec<Rule> = serde_json::from_value(expected.rules.clone())?;
    let rules = RuleSet::new(rules, Vec::new())?;
    let old_rules: Vec<OldRule> = serde_json::from_value(expected.rules.clone())?;
    let deadline = Instant::now() + PROCESSING_TIMEOUT;
    let before = before(expected)?;
    chaos::settle_windows(balance, database, (&rules, &old_rules), until, &before, deadline)
        .await?;
    let migrations = tables::migrations(database).await?;
    let (mut changed, all) = (Errors::default(), expected.migrations.len() as u64);
    for migration in expected.migrations.iter().filter(|it| !migrations.contains(it)) {
        changed.add(|| migration.to_string());
    }
    balance.line("migrations", "recorded migrations that are unchanged", all - changed.count, all);
    balance.none("migrations", "recorded migrations that have changed", &changed);
    episodes(balance, running, expected).await
}

/// Returns what the recorded release had counted and published.
fn before(expected: &Expected) -> anyhow::Result<Before> {
    /// Returns the condition for rows of a partition before an offset.
    fn rows(partition: &str, offset: i64) -> String {
        format!("(kafka_partition = {partition} AND kafka_offset < {offset})")
    }
    let any = |rows: Vec<String>| match rows.join(" OR ") {
        none if none.is_empty() => "false".to_owned(),
        some => format!("({some})"),
    };
    let cluster = &expected.cluster;
    let fold = cluster.groups.iter().filter(|(group, _)| group.ends_with("monitor-fold"));
    let counted = fold.flat_map(|(_, committed)| committed).map(|(partition, committed)| {
        let (_, number) = partition.rsplit_once('/').context("topic/partition")?;
        Ok(rows(number, committed.offset))
    });
    let rates = cluster.topics.iter().filter(|(topic, _)| topic.ends_with("mail.rates"));
    let published = rates.flat_map(|(_, topic)| topic.ends.iter().enumerate());
    let published = published.map(|(number, end)| rows(&number.to_string(), *end));
    Ok(Before {
        counted: any(counted.collect::<anyhow::Result<_>>()?),
        published: any(published.collect()),
    })
}

/// The alerts of the earlier release have opened no incidents, and nothing tells when an episode ends: that depends on
/// the mail after the upgrade. But every recorded episode must go on under its id or be left as it is, and must not end
/// twice.
async fn episodes(
    balance: &mut Balance,
    running: &Installation,
    expected: &Expected,
) -> anyhow::Result<()> {
    const PART: &str = "episodes";
    for episode in &expected.episodes {
        let text = |name: &str| episode[name].as_str().context("an episode is incomplete");
        let id = text("episode_id")?;
        let resolved = format!(
            "SELECT count() FROM alerts WHERE toString(episode_id) = '{id}' AND state = 'resolved'"
        );
        let resolved = running.database.count(&resolved).await?;
        balance.line(PART, &format!("{id} resolved more than once"), u64::from(resolved > 1), 0);
        let second = format!(
            "SELECT count() FROM alerts AS later WHERE toString(rule) = '{}' AND toString(scope) = '{}' \
             AND toString(provider) = '{}' AND toString(source) = '{}' AND seq = 1 \
             AND state = 'firing' AND toString(episode_id) != '{id}' AND kafka_offset < \
             (SELECT if(countIf(state = 'resolved') = 0, 18446744073709551615, \
             maxIf(kafka_offset, state = 'resolved')) FROM alerts WHERE toString(episode_id) = '{id}') \
             AND '{}' IN ('source')",
            text("rule")?,
            text("scope")?,
            text("provider")?,
            text("source")?,
            text("scope")?,
        );
        let second = running.database.count(&second).await?;
        balance.line(PART, &format!("{id} forgotten: another began"), second, 0);
    }
    let deliveries = running.receiver.deliveries();
    let again = deliveries.iter().filter(|delivery| {
        !delivery.id.is_empty() && expected.deliveries.iter().any(|before| before.id == delivery.id)
    });
    balance.line(PART, "transitions delivered again", again.count() as u64, 0);
    Ok(())
}
