//! Look-up tables that are queries of ClickHouse: a dictionary, a table, or any SELECT.
//!
//! A thread sends the queries at start and then at their intervals. Between batches, the latest answer to each query
//! replaces the former one. If ClickHouse does not answer, the former answer stays in use; before
//! the first answer `enrich` waits.

mod answers;
mod question;

use std::time::{Duration, Instant};

use metrics::Counter;
use serde::Deserialize;
use service::{ClickHouseSettings, Settings, SettingsError};

use crate::OpenError;
use crate::lookup::Table;
use answers::{AnswerSender, Answers};
use question::{QueryError, Question};

/// The longest pause after a query that failed.
const RETRY: Duration = Duration::from_secs(10);

/// One `[[enrich.lookup_query]]`. `deploy/mailpulse.toml` explains the keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LookupQuery {
    name: String,
    sql: String,
    #[serde(default = "every", with = "service::units::duration")]
    every: Duration,
    #[serde(default = "max_rows")]
    max_rows: u64,
}

const fn every() -> Duration {
    Duration::from_mins(5)
}

const fn max_rows() -> u64 {
    1_000_000
}

/// Checks what the types of the settings do not.
pub(crate) fn check(settings: &Settings, queries: &[LookupQuery]) -> Result<(), SettingsError> {
    for (index, query) in queries.iter().enumerate() {
        let is_duplicate = queries.iter().take(index).any(|other| other.name == query.name);
        let (key, problem) = if query.name.is_empty() || is_duplicate {
            ("name", "give each query a name of its own; it is in the log and in metrics")
        } else if query.sql.trim().is_empty() {
            ("sql", "write a query such as SELECT campaign, tenant FROM dictionary('campaigns')")
        } else if query.every < Duration::from_secs(1) {
            ("every", "it is at least 1s")
        } else if query.max_rows == 0 {
            ("max_rows", "it is at least 1")
        } else {
            continue;
        };
        return Err(settings.invalid(&format!("enrich.lookup_query[{index}].{key}"), problem));
    }
    Ok(())
}

/// Whether all queries have been answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loading {
    /// Every query has an answer.
    Done,
    /// The first answer to a query is missing, for this reason.
    Waiting(String),
}

/// The latest answers to the queries.
pub(crate) struct QueriedTables {
    tables: Vec<Queried>,
    answers: Answers<Table, QueryError>,
}

struct Queried {
    name: String,
    table: Option<Table>,
    /// Why the latest attempt failed.
    problem: Option<String>,
}

/// A query that is repeated.
struct Asking {
    question: Question,
    every: Duration,
    loaded: Counter,
    failed: Counter,
}

impl QueriedTables {
    /// Starts the thread, unless there are no queries.
    pub(crate) fn start(
        queries: &[LookupQuery],
        clickhouse: Option<&ClickHouseSettings>,
    ) -> Result<Self, OpenError> {
        let answers = Answers::new(queries.len());
        let tables = queries.iter().map(|query| Queried::new(&query.name)).collect();
        if let Some(clickhouse) = clickhouse.filter(|_| !queries.is_empty()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(OpenError::Thread)?;
            let questions = queries
                .iter()
                .map(|query| Asking::new(query, clickhouse))
                .collect::<Result<Vec<_>, OpenError>>()?;
            let sender = answers.sender();
            std::thread::Builder::new()
                .name("lookup".to_owned())
                .spawn(move || runtime.block_on(ask_all(questions, sender)))
                .map_err(OpenError::Thread)?;
        }
        Ok(Self { tables, answers })
    }

    /// Waits at most `within` until every query has been answered once.
    pub(crate) fn load(&mut self, within: Duration) -> Loading {
        let deadline = Instant::now() + within;
        self.refresh();
        while self.missing().is_some() && self.answers.wait(deadline) {
            self.refresh();
        }
        self.missing().map_or(Loading::Done, |missing| {
            let problem = missing.problem.as_deref().unwrap_or("it has no answer yet");
            Loading::Waiting(format!("enrich.lookup_query {}: {problem}", missing.name))
        })
    }

    /// Takes over the answers that have arrived.
    pub(crate) fn refresh(&mut self) {
        for (queried, slot) in self.tables.iter_mut().zip(self.answers.take_all()) {
            if let Some(table) = slot.table {
                queried.store(table);
            }
            if let Some(error) = slot.error {
                queried.failed(&error);
            }
        }
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter().filter_map(|queried| queried.table.as_ref())
    }

    fn missing(&self) -> Option<&Queried> {
        self.tables.iter().find(|queried| queried.table.is_none())
    }
}

impl Queried {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), table: None, problem: None }
    }

    fn store(&mut self, table: Table) {
        if self.table.is_none() || self.problem.is_some() {
            let (query, rows) = (&self.name, table.len());
            tracing::info!(query, rows, "the look-up table was loaded from ClickHouse");
        }
        self.table = Some(table);
        self.problem = None;
    }

    fn failed(&mut self, error: &QueryError) {
        let query = &self.name;
        if self.table.is_some() {
            tracing::error!(
                query,
                %error,
                "refreshing the look-up table failed; keeping its former content"
            );
        } else {
            tracing::error!(
                query,
                %error,
                "loading the look-up table failed; no event is enriched before it is loaded"
            );
        }
        self.problem = Some(error.to_string());
    }
}

/// Sends every query at its interval until nobody takes the answers.
async fn ask_all(questions: Vec<Asking>, answers: AnswerSender<Table, QueryError>) {
    let asking: Vec<_> = questions
        .into_iter()
        .enumerate()
        .map(|(query, asking)| tokio::spawn(asking.repeat(query, answers.clone())))
        .collect();
    for task in asking {
        // A task that panicked has said so in the log.
        let _ = task.await;
    }
}

impl Asking {
    fn new(query: &LookupQuery, clickhouse: &ClickHouseSettings) -> Result<Self, OpenError> {
        let count = |outcome: &'static str| {
            metrics::counter!("mailpulse_enrich_lookup_queries_total",
                "query" => query.name.clone(), "outcome" => outcome)
        };
        let (loaded, failed) = (count("loaded"), count("failed"));
        let question = Question::new(query, clickhouse)?;
        Ok(Self { question, every: query.every, loaded, failed })
    }

    /// Sends the query at its interval.
    async fn repeat(self, query: usize, answers: AnswerSender<Table, QueryError>) {
        loop {
            let answer = self.question.ask().await;
            let (counter, pause) = match &answer {
                Ok(_) => (&self.loaded, self.every),
                Err(_) => (&self.failed, self.every.min(RETRY)),
            };
            counter.increment(1);
            if !answers.put(query, answer) {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }
}
