//! The parts that every service shares: settings, log, metrics, health and signals.
//!
//! ```no_run
//! # use std::net::SocketAddr;
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct EnrichSettings {
//!     admin: SocketAddr,
//!     batch_records: usize,
//!     #[serde(with = "service::units::duration")]
//!     batch_wait: std::time::Duration,
//! }
//!
//! # fn main() -> anyhow::Result<()> {
//! let service = service::Service::load("enrich", "0.1.0")?;
//! let settings: EnrichSettings = service.settings.section("enrich")?;
//! service.open(settings.admin)?; // the first port opens after all settings are read
//! service.health.ready();
//! while !service.shutdown.requested() {
//!     service.health.mark_alive();
//!     // process the next batch
//! }
//! # Ok(())
//! # }
//! ```

mod admin;
mod aliases;
pub mod client_limit;
mod condition;
mod config_file;
pub mod connections;
mod error;
mod exposition;
mod file_watcher;
mod health;
mod logging;
mod merge;
mod metrics_table;
mod networks_file;
mod patterns;
mod read;
pub mod secret;
mod sections;
mod settings;
mod shutdown;
mod start;
pub mod timed_stream;
pub mod tokens;
pub mod units;

pub use config_file::ConfigFile;
pub use error::SettingsError;
pub use file_watcher::FileWatcher;
pub use health::{Health, Liveness, Readiness, STUCK_AFTER};
pub use logging::init as init_log;
pub use metrics_table::{METRICS, Metric, MetricKind};
pub use patterns::Patterns;
pub use secret::{Secret, SecretError, resolve};
pub use sections::{ClickHouseSettings, LogFormat, ServiceSettings, SourceTable};
pub use settings::{DEFAULT_PATH, ENVIRONMENT_PREFIX, REFERENCE, Settings};
pub use shutdown::Shutdown;
pub use start::{Args, Service};
