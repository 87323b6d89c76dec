//! Names that no other run uses: runs may share a Kafka cluster and a ClickHouse server.

use std::time::{SystemTime, UNIX_EPOCH};

/// The names of one run.
#[derive(Debug, Clone)]
pub(crate) struct RunName {
    /// Prefix of all topics, consumer groups and transactional ids.
    pub(crate) kafka_prefix: String,
    /// The ClickHouse database.
    pub(crate) database: String,
}

impl RunName {
    /// Returns names that contain the task, the time and the process id.
    pub(crate) fn new(task: &str) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::of(task, since.as_secs(), std::process::id())
    }

    fn of(task: &str, seconds: u64, process: u32) -> Self {
        Self {
            kafka_prefix: format!("{task}-{seconds}-{process}."),
            database: format!("{task}_{seconds}_{process}"),
        }
    }

    /// Returns the names of a part of the run.
    pub(crate) fn part(&self, name: &str) -> Self {
        Self {
            kafka_prefix: format!("{}{name}.", self.kafka_prefix),
            database: format!("{}_{name}", self.database),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_two_runs_differ() {
        let run = RunName::of("demo", 1_795_255_200, 7);
        assert_eq!(run.kafka_prefix, "demo-1795255200-7.");
        assert_eq!(run.database, "demo_1795255200_7");
        assert_ne!(run.database, RunName::of("demo", 1_795_255_200, 8).database);
        assert_eq!(run.part("chain").kafka_prefix, "demo-1795255200-7.chain.");
        assert_eq!(run.part("chain").database, "demo_1795255200_7_chain");
    }
}
