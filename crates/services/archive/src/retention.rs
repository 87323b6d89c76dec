//! How long ClickHouse keeps rows: TTLs of the tables, from `[archive.retention]`.
//!
//! ClickHouse rewrites the parts of a table when its TTL changes. So a TTL that is right already is left alone.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use service::units::duration;

use crate::clickhouse_error::ClickHouseError;
use crate::server::Server;

const DAY: u64 = 86_400;

/// The section `[archive.retention]`: how long rows are kept. Zero: Mailpulse leaves the TTL as it is.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// The provider's bytes, in the column `raw` of `events`.
    #[serde(with = "duration")]
    pub raw: Duration,
    /// The rows of `events`.
    #[serde(with = "duration")]
    pub events: Duration,
    /// The sums `traffic`, `traffic_ip`, `traffic_domain`, `traffic_country` and `links`.
    #[serde(with = "duration")]
    pub traffic: Duration,
    #[serde(with = "duration")]
    pub cohorts: Duration,
    /// The life of a message, since its last event.
    #[serde(with = "duration")]
    pub message_life: Duration,
    #[serde(with = "duration")]
    pub rates: Duration,
    #[serde(with = "duration")]
    pub alerts: Duration,
    #[serde(with = "duration")]
    pub incidents: Duration,
    /// The rows of `actions`, since the event was received or the follow-up was due.
    #[serde(with = "duration")]
    pub actions: Duration,
    #[serde(with = "duration")]
    pub audit: Duration,
    #[serde(with = "duration")]
    pub dead_letters: Duration,
}

/// What expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// The rows of a table.
    Rows(&'static str),
    /// The values of a column of a table.
    Column(&'static str, &'static str),
}

/// A rule: what expires, how long after which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    subject: Subject,
    /// An expression of the type `Date` or `DateTime`, as ClickHouse prints it.
    since: &'static str,
    after: Duration,
}

impl Retention {
    /// Returns how long both the rows of `events` and all of their sums are kept. `None`: for ever.
    pub fn of_rows_and_sums(&self) -> Option<Duration> {
        let kept = [self.events, self.traffic, self.cohorts];
        kept.into_iter().filter(|kept| !kept.is_zero()).min()
    }

    fn rules(&self) -> [Rule; 15] {
        let rows =
            |table, since, after: Duration| Rule { subject: Subject::Rows(table), since, after };
        [
            Rule {
                subject: Subject::Column("events", "raw"),
                since: "toDateTime(received_at)",
                after: self.raw,
            },
            rows("events", "toDateTime(received_at)", self.events),
            rows("traffic", "at15", self.traffic),
            rows("traffic_ip", "hour", self.traffic),
            rows("traffic_domain", "day", self.traffic),
            rows("traffic_country", "day", self.traffic),
            rows("links", "day", self.traffic),
            rows("cohorts", "sent_hour", self.cohorts),
            rows("message_life", "toDateTime(last_at)", self.message_life),
            rows("rates", "toDateTime(window_end)", self.rates),
            rows("alerts", "toDateTime(at)", self.alerts),
            rows("incidents", "toDateTime(at)", self.incidents),
            rows("actions", "toDateTime(at)", self.actions),
            rows("audit", "toDateTime(at)", self.audit),
            // The time of receipt is not known for every dead letter.
            rows("dead_letters", "toDateTime(archived_at)", self.dead_letters),
        ]
    }
}

impl Rule {
    /// Returns the expression in the form in which ClickHouse prints it.
    fn expression(&self) -> String {
        let seconds = self.after.as_secs();
        let interval = if seconds.is_multiple_of(DAY) {
            format!("toIntervalDay({})", seconds / DAY)
        } else {
            format!("toIntervalSecond({seconds})")
        };
        format!("{} + {interval}", self.since)
    }

    /// Returns the statement that sets the TTL, or `None` if the table has it.
    fn statement(&self, database: &str, present: &[TableTtl]) -> Option<String> {
        let expression = self.expression();
        let (table, change) = match self.subject {
            Subject::Rows(table) => (table, format!("MODIFY TTL {expression}")),
            Subject::Column(table, column) => {
                (table, format!("MODIFY COLUMN {column} TTL {expression}"))
            }
        };
        let found = present.iter().find(|found| found.table == table)?;
        let has = match self.subject {
            Subject::Rows(_) => found.of_rows() == Some(&*expression),
            Subject::Column(_, column) => found.of_column(column) == Some(&*expression),
        };
        (!has).then(|| format!("ALTER TABLE {database}.{table} {change}"))
    }
}

/// The definition of a table, with its TTLs.
#[derive(Debug)]
struct TableTtl {
    table: String,
    /// `MergeTree PARTITION BY … ORDER BY … TTL … SETTINGS …`
    engine_full: String,
    /// `CREATE TABLE …`, with a line per column in no particular format.
    create_table_query: String,
}

impl TableTtl {
    fn of_rows(&self) -> Option<&str> {
        let (_, ttl) = self.engine_full.split_once(" TTL ")?;
        Some(ttl.split_once(" SETTINGS ").map_or(ttl, |(ttl, _)| ttl))
    }

    /// Returns the TTL of a column. It is the last part of the column's definition, so it ends before the next
    /// column begins.
    fn of_column(&self, column: &str) -> Option<&str> {
        let (_, definition) = self.create_table_query.split_once(&format!("`{column}` "))?;
        let end = [", `", ", INDEX ", ", PROJECTION ", ") ENGINE"]
            .into_iter()
            .filter_map(|separator| definition.find(separator))
            .min();
        let definition = end.map_or(definition, |end| &definition[..end]);
        definition.split_once(" TTL ").map(|(_, ttl)| ttl)
    }
}

/// Returns the statements that bring the TTLs of all tables to the settings. Empty if they are right. Tables that
/// do not exist are left out.
///
/// # Errors
/// See [`ClickHouseError`].
pub async fn statements(
    server: &Server,
    retention: &Retention,
) -> Result<Vec<String>, ClickHouseError> {
    let database = server.database();
    // The database may not exist yet.
    let of_tables = |column: &str| {
        format!(
            "SELECT name, {column} FROM system.tables \
             WHERE database = ? AND engine LIKE '%MergeTree' ORDER BY name"
        )
    };
    let engines = server.pairs(&of_tables("engine_full"), &[database]).await?;
    let definitions = server.pairs(&of_tables("create_table_query"), &[database]).await?;
    let definitions: HashMap<String, String> = definitions.into_iter().collect();
    let present: Vec<TableTtl> = engines
        .into_iter()
        .map(|(table, engine_full)| {
            let create_table_query = definitions.get(&table).cloned().unwrap_or_default();
            TableTtl { table, engine_full, create_table_query }
        })
        .collect();
    let rules = retention.rules().into_iter().filter(|rule| !rule.after.is_zero());
    Ok(rules.filter_map(|rule| rule.statement(database, &present)).collect())
}

/// Brings the TTLs of all tables to the settings, and returns the statements that were run. ClickHouse removes
/// what has expired in the background.
///
/// # Errors
/// See [`ClickHouseError`].
pub async fn apply(server: &Server, retention: &Retention) -> Result<Vec<String>, ClickHouseError> {
    let statements = statements(server, retention).await?;
    for statement in &statements {
        server.execute(statement, true).await?;
        tracing::info!(statement, "retention applied");
    }
    Ok(statements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(engine_full: &str, create_table_query: &str) -> TableTtl {
        TableTtl {
            table: "events".to_owned(),
            engine_full: engine_full.to_owned(),
            create_table_query: create_table_query.to_owned(),
        }
    }

    fn rule(subject: Subject, after: Duration) -> Rule {
        Rule { subject, since: "toDateTime(received_at)", after }
    }

    const DAYS_30: Duration = Duration::from_secs(30 * DAY);

    #[test]
    fn a_ttl_is_set_once() {
        let rows = rule(Subject::Rows("events"), DAYS_30);
        let without = [table("MergeTree ORDER BY x SETTINGS y = 1", "")];
        assert_eq!(
            rows.statement("m", &without).as_deref(),
            Some("ALTER TABLE m.events MODIFY TTL toDateTime(received_at) + toIntervalDay(30)")
        );
        let ttl = "toDateTime(received_at) + toIntervalDay(30)";
        let with = [table(&format!("MergeTree ORDER BY x TTL {ttl} SETTINGS y = 1"), "")];
        assert_eq!(rows.statement("m", &with), None);
        let longer = rule(Subject::Rows("events"), 2 * DAYS_30);
        assert!(longer.statement("m", &with).unwrap().ends_with("toIntervalDay(60)"));
        assert_eq!(rows.statement("m", &[]), None, "no table, no statement");
    }

    #[test]
    fn the_ttl_of_a_column_is_not_that_of_another() {
        let raw = rule(Subject::Column("events", "raw"), DAYS_30);
        let ttl = "toDateTime(received_at) + toIntervalDay(30)";
        let definition = |raw: &str, next: &str| {
            let create = format!(
                "CREATE TABLE m.events (`raw` String CODEC(ZSTD(1)){raw}, `x` UInt8{next}, INDEX i x TYPE minmax) \
                 ENGINE = MergeTree TTL {ttl}"
            );
            [table("", &create)]
        };
        assert_eq!(raw.statement("m", &definition(&format!(" TTL {ttl}"), "")), None);
        let expected = format!("ALTER TABLE m.events MODIFY COLUMN raw TTL {ttl}");
        assert_eq!(raw.statement("m", &definition("", "")), Some(expected.clone()));
        assert_eq!(
            raw.statement("m", &definition("", &format!(" TTL {ttl}"))),
            Some(expected.clone())
        );
        let other = ttl.replace("30", "90");
        assert_eq!(raw.statement("m", &definition(&format!(" TTL {other}"), "")), Some(expected));
    }

    #[test]
    fn rows_and_sums_are_kept_as_long_as_the_first_of_them() {
        let days = |events, traffic, cohorts| {
            let after = |days| Duration::from_secs(days * DAY);
            let (events, traffic, cohorts) = (after(events), after(traffic), after(cohorts));
            let other = Duration::from_secs(DAY);
            Retention {
                raw: other,
                events,
                traffic,
                cohorts,
                message_life: other,
                rates: other,
                alerts: other,
                incidents: other,
                actions: other,
                audit: other,
                dead_letters: other,
            }
            .of_rows_and_sums()
            .map(|kept| kept.as_secs() / DAY)
        };
        assert_eq!(days(90, 750, 400), Some(90));
        assert_eq!(days(0, 750, 400), Some(400), "zero is for ever");
        assert_eq!(days(0, 300, 400), Some(300));
        assert_eq!(days(0, 0, 0), None);
    }

    #[test]
    fn parts_of_a_day_are_seconds() {
        let hours = rule(Subject::Rows("events"), Duration::from_secs(36 * 3600));
        assert_eq!(hours.expression(), "toDateTime(received_at) + toIntervalSecond(129600)");
    }
}
