//! Counts how often a limit was reached. `deploy/mailpulse.toml` has the limits, and
//! `docs/operations.md` explains what each of them protects.

use metrics::counter;

/// A limit of bodies, clients, connections or sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// `max_connections`: a waiting connection is closed for a new one, or the new one waits.
    Connections,
    /// `max_connections_per_client`: a connection was closed at once.
    ConnectionsPerClient,
    /// `idle_timeout`: a connection without a request was closed.
    IdleTimeout,
    /// `read_timeout`: the head of a request did not arrive in time.
    HeadTimeout,
    /// `write_timeout`: a client did not read its response.
    WriteTimeout,
    /// The longest body of a provider.
    BodyLength,
    /// `read_timeout`, or the time that the provider waits for an answer.
    BodyTimeout,
    /// `min_body_rate`.
    BodyRate,
    /// `body_memory_bytes`: a body has to wait.
    BodyMemory,
    /// `body_memory_client_share`: a body has to wait for others of its client.
    BodyMemoryPerClient,
    /// `rejection_burst` and `rejections_per_minute`.
    Rejections,
    /// `rate` and `burst` of a source.
    SourceRate,
}

impl Limit {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerClient => "connections_per_client",
            Self::IdleTimeout => "idle_timeout",
            Self::HeadTimeout => "head_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::BodyLength => "body_length",
            Self::BodyTimeout => "body_timeout",
            Self::BodyRate => "body_rate",
            Self::BodyMemory => "body_memory",
            Self::BodyMemoryPerClient => "body_memory_per_client",
            Self::Rejections => "rejections",
            Self::SourceRate => "source_rate",
        }
    }

    pub(crate) fn count(self) {
        counter!("mailpulse_ingress_limit_hits_total", "limit" => self.as_str()).increment(1);
    }
}
