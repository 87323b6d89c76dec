//! Several servers with the same tables, of which the first that answers is asked.

use std::sync::Arc;

use clickhouse::Client;
use clickhouse_http::endpoints::{Endpoints, PROBE_TIMEOUT};

use crate::clickhouse_error::ClickHouseError;

/// One client for each server.
#[derive(Clone)]
pub(crate) struct Replicas(Arc<Shared>);

struct Shared {
    /// The clients with the names of their servers: host and port.
    servers: Vec<(Client, String)>,
    endpoints: Endpoints,
}

/// Whether a statement may run on another server after a first one may have run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeatable {
    /// It only reads.
    Yes,
    /// It changes something. The caller repeats it if that is right.
    No,
}

impl Replicas {
    pub(crate) fn new(servers: Vec<(Client, String)>) -> Self {
        let endpoints = Endpoints::new(servers.len());
        Self(Arc::new(Shared { servers, endpoints }))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.servers.len()
    }

    /// Returns host and port of a server.
    pub(crate) fn name(&self, server: usize) -> &str {
        self.0.servers.get(server).map_or("", |(_, name)| name)
    }

    /// Returns each server by itself.
    pub(crate) fn each(&self) -> impl Iterator<Item = Self> {
        self.0.servers.iter().map(|server| Self::new(vec![server.clone()]))
    }

    /// Starts the attempts to run one statement. First asks the servers that failed a while ago whether they answer again.
    pub(crate) async fn attempts(&self, repeatable: Repeatable) -> Attempts<'_> {
        for server in self.0.endpoints.due() {
            let probe = self.0.servers[server].0.query("SELECT 1").fetch_one::<u8>();
            let answer = tokio::time::timeout(PROBE_TIMEOUT, probe).await;
            let error = match answer {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(ClickHouseError::from(error)),
                Err(_) => Some(ClickHouseError::Timeout),
            };
            self.report(server, error.as_ref());
        }
        Attempts { replicas: self, order: self.0.endpoints.order(), next: 0, repeatable }
    }

    fn report(&self, server: usize, error: Option<&ClickHouseError>) {
        let (endpoints, name) = (&self.0.endpoints, self.name(server));
        match error.filter(|error| error.is_of_the_server()) {
            Some(error) if endpoints.failed(server) && self.count() > 1 => {
                tracing::warn!(server = name, %error, "ClickHouse does not answer; asking the next server");
            }
            None if endpoints.answered(server) && self.count() > 1 => {
                tracing::info!(server = name, "ClickHouse answers again");
            }
            _ => {}
        }
    }
}

/// The attempts to run one statement.
pub(crate) struct Attempts<'r> {
    replicas: &'r Replicas,
    /// The servers in the order in which they are asked.
    order: Vec<usize>,
    /// The position in `order` of the server that is asked now.
    next: usize,
    repeatable: Repeatable,
}

impl Attempts<'_> {
    /// Returns the client of the server that is asked now.
    pub(crate) fn client(&self) -> &Client {
        &self.replicas.0.servers[self.order[self.next]].0
    }

    /// Returns the answer of the server if it is final. `None`: ask the next one.
    pub(crate) fn settle<T>(
        &mut self,
        answer: Result<T, ClickHouseError>,
    ) -> Option<Result<T, ClickHouseError>> {
        let error = answer.as_ref().err();
        self.replicas.report(self.order[self.next], error);
        let may_ask_next = match error {
            None => false,
            Some(ClickHouseError::NoConnection(_)) => true,
            Some(error) => self.repeatable == Repeatable::Yes && error.is_of_the_server(),
        };
        if may_ask_next && self.next + 1 < self.order.len() {
            self.next += 1;
            None
        } else {
            Some(answer)
        }
    }
}
