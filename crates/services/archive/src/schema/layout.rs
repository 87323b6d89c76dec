//! On how many servers the tables are, and the statements for it.

use std::borrow::Cow;

/// How the first release divided `events` into partitions: by a time that providers can claim.
const PARTITIONED_BEFORE: &str = "PARTITION BY toYYYYMM(occurred_at)";
/// How a new table is divided: by our own clock. ClickHouse cannot change this of an existing table;
/// docs/operations.md says how to copy one.
const PARTITIONED: &str = "PARTITION BY toYYYYMM(received_at)";

/// How the statements begin that the files may contain. The name of a table or view follows.
const BEGINNINGS: [&str; 7] = [
    "CREATE TABLE IF NOT EXISTS ",
    "CREATE VIEW IF NOT EXISTS ",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS ",
    "CREATE OR REPLACE VIEW ",
    "ALTER TABLE ",
    "DROP VIEW IF EXISTS ",
    "DROP TABLE IF EXISTS ",
];

/// What a line with the engine of a table begins with.
const ENGINE: &str = "ENGINE = ";

/// The path of a table in Keeper and the name of a replica. ClickHouse replaces `{database}` and `{table}` by itself, and
/// `{shard}` and `{replica}` by the macros of its configuration. With a path of names, a replica that is added later finds the
/// tables of the others.
const REPLICA: &str = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'";

/// The servers on which the tables are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// One server.
    OneServer,
    /// The replicas of a cluster with this name. Statements run ON CLUSTER, and tables are replicated.
    Cluster(String),
    /// A database with the engine Replicated: it runs each statement on all replicas by itself, and tables are replicated.
    ReplicatedDatabase,
    /// A database of ClickHouse Cloud, which also replicates the tables by itself.
    SharedDatabase,
}

impl Layout {
    /// Returns a statement of a file as it is run. A new table `events` is divided by the month of receipt; the
    /// statement does not change a table that exists.
    pub fn adapt(&self, statement: &'static str) -> Cow<'static, str> {
        let mut adapted: Cow<'static, str> = statement.into();
        if adapted.contains(PARTITIONED_BEFORE) {
            adapted = adapted.replace(PARTITIONED_BEFORE, PARTITIONED).into();
        }
        match self {
            Self::OneServer | Self::SharedDatabase => adapted,
            Self::Cluster(cluster) => {
                by_lines(&adapted, |line| on_cluster(line, cluster), Some(REPLICA))
            }
            Self::ReplicatedDatabase => by_lines(&adapted, |_| None, None),
        }
    }

    /// Returns ` ON CLUSTER …`, or nothing.
    pub(super) fn clause(&self) -> String {
        match self {
            Self::Cluster(cluster) => clause(cluster),
            _ => String::new(),
        }
    }
}

/// Changes the line of a statement with its name, and the one with its engine.
fn by_lines(
    statement: &str,
    with_name: impl Fn(&str) -> Option<String>,
    replica: Option<&str>,
) -> Cow<'static, str> {
    let mut is_named = false;
    let lines = statement.lines().map(|line| {
        if !is_named && let Some(changed) = with_name(line) {
            is_named = true;
            return changed;
        }
        replicated(line, replica).unwrap_or_else(|| line.to_owned())
    });
    lines.collect::<Vec<_>>().join("\n").into()
}

/// Returns a line that begins a statement, with the cluster behind the name.
fn on_cluster(line: &str, cluster: &str) -> Option<String> {
    let rest = BEGINNINGS.iter().find_map(|beginning| line.strip_prefix(beginning))?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
    let (before, after) = line.split_at(line.len() - rest.len() + name);
    Some(format!("{before}{}{after}", clause(cluster)))
}

fn clause(cluster: &str) -> String {
    format!(" ON CLUSTER '{}'", cluster.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Returns a line with the engine of a table as that of a replicated table.
fn replicated(line: &str, replica: Option<&str>) -> Option<String> {
    let engine = line.strip_prefix(ENGINE)?;
    let (family, arguments) = engine.split_once('(').unwrap_or((engine, ")"));
    if !family.ends_with("MergeTree") {
        return None;
    }
    let own = arguments.strip_suffix(')').unwrap_or(arguments);
    let arguments: Vec<&str> =
        replica.into_iter().chain(Some(own).filter(|own| !own.is_empty())).collect();
    Some(if arguments.is_empty() {
        format!("{ENGINE}Replicated{family}")
    } else {
        format!("{ENGINE}Replicated{family}({})", arguments.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::super::MIGRATIONS;
    use super::*;

    fn cluster() -> Layout {
        Layout::Cluster("mail".to_owned())
    }

    #[test]
    fn every_statement_of_every_file_runs_on_the_cluster_with_nothing_else_changed() {
        let mut tables = 0;
        for migration in MIGRATIONS {
            for statement in migration.statements() {
                let one = Layout::OneServer.adapt(statement);
                let all = cluster().adapt(statement);
                assert_eq!(all.matches(" ON CLUSTER 'mail'").count(), 1, "{all}");
                let without = all.replace(" ON CLUSTER 'mail'", "");
                let of_replicated = Layout::ReplicatedDatabase.adapt(statement);
                let has_table = one.contains("\nENGINE = ") && !one.contains("\nENGINE = Null");
                tables += usize::from(has_table);
                assert_eq!(all.matches("ENGINE = Replicated").count(), usize::from(has_table));
                assert_eq!(
                    of_replicated.matches("ENGINE = Replicated").count(),
                    usize::from(has_table)
                );
                let plain = |text: &str| {
                    text.replace(&format!("({REPLICA}, "), "(")
                        .replace(&format!("({REPLICA})"), "")
                        .replace("ENGINE = Replicated", "ENGINE = ")
                };
                assert_eq!(plain(&without), one, "{all}");
                assert_eq!(plain(&of_replicated), one);
                assert_eq!(Layout::SharedDatabase.adapt(statement), one);
            }
        }
        assert!(tables > 20, "{tables} tables");
    }

    #[test]
    fn names_engines_and_partitions_are_adapted() {
        let table = "-- ALTER TABLE of a comment.\nCREATE TABLE IF NOT EXISTS rates\n(\n    x UInt8\n)\n\
                     ENGINE = ReplacingMergeTree(revision)\nPARTITION BY toYYYYMM(occurred_at)\nORDER BY x";
        assert_eq!(
            cluster().adapt(table),
            "-- ALTER TABLE of a comment.\nCREATE TABLE IF NOT EXISTS rates ON CLUSTER 'mail'\n(\n    x UInt8\n)\n\
             ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', revision)\n\
             PARTITION BY toYYYYMM(received_at)\nORDER BY x"
        );
        let refreshed = "CREATE MATERIALIZED VIEW IF NOT EXISTS a_b\nREFRESH EVERY 1 HOUR APPEND TO c AS\nSELECT 1";
        assert_eq!(
            cluster().adapt(refreshed),
            "CREATE MATERIALIZED VIEW IF NOT EXISTS a_b ON CLUSTER 'mail'\nREFRESH EVERY 1 HOUR APPEND TO c AS\nSELECT 1"
        );
        assert_eq!(
            Layout::Cluster("o'b".to_owned())
                .adapt("ALTER TABLE t ADD COLUMN IF NOT EXISTS x UInt8"),
            "ALTER TABLE t ON CLUSTER 'o\\'b' ADD COLUMN IF NOT EXISTS x UInt8"
        );
        assert_eq!(
            Layout::ReplicatedDatabase
                .adapt("CREATE TABLE IF NOT EXISTS t\n(x UInt8)\nENGINE = MergeTree\nORDER BY x"),
            "CREATE TABLE IF NOT EXISTS t\n(x UInt8)\nENGINE = ReplicatedMergeTree\nORDER BY x"
        );
    }
}
