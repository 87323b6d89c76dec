use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::send::{Ingress, SignWith, wait};

#[derive(Debug, Args)]
pub(crate) struct Canary {
    /// The configured source: its name, or provider/name.
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    #[command(flatten)]
    pub(crate) to: Ingress,
    #[command(flatten)]
    pub(crate) with: SignWith,
    /// The time from the beginning of one attempt to that of the next.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = super::duration)]
    pub(crate) every: Duration,
    /// How long an event may take until it is a row, at most 10m.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = wait)]
    pub(crate) wait: Duration,
    /// A URL that is fetched after each success, of a service that raises an alarm when it is told nothing. A secret: the
    /// URL, env:NAME or file:PATH.
    #[arg(long, value_name = "URL")]
    pub(crate) heartbeat: Option<String>,
    /// The address and port of /metrics, /livez, /readyz and /health.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9190")]
    pub(crate) admin: SocketAddr,
}
