use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::admin::Admin;
use crate::{Health, ServiceSettings, Settings, Shutdown, exposition, logging};

/// The command line of every service.
#[derive(Debug, Clone, Default, Parser)]
pub struct Args {
    /// The configuration file. Without it `mailpulse.toml` is read if it is there.
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Read the settings, say whether they are good, and end.
    #[arg(long)]
    pub check: bool,
}

/// A service between `load`, when nothing of it is visible, and its end.
pub struct Service {
    /// Everything that is configured.
    pub settings: Settings,
    /// What `/readyz` and `/livez` say.
    pub health: Health,
    /// Whether to stop.
    pub shutdown: Shutdown,
    /// `service.instance`, or a random name.
    pub instance: String,
    /// The binary's name, such as `ingress`.
    pub job: &'static str,
    is_stable: bool,
    version: &'static str,
    check: bool,
    metrics: PrometheusHandle,
}

impl Service {
    /// Reads the command line and the settings and starts the log and the metrics recorder. Give
    /// the binary's own `env!("CARGO_PKG_VERSION")`. Then read all sections you need and
    /// [`Service::open`] the admin port.
    ///
    /// Ends the process on `--help`, `--version` and a wrong command line.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub fn load(job: &'static str, version: &'static str) -> anyhow::Result<Self> {
        let matches = Args::command().name(job).bin_name(job).version(version).get_matches();
        let args = Args::from_arg_matches(&matches)?;
        let settings = Settings::discover(args.config.as_deref())?;
        Self::from_settings(job, version, settings, args.check)
    }

    /// [`Service::load`] without the command line: for tests and for tools that have their own.
    /// `check` is `--check`.
    ///
    /// # Errors
    /// When the settings cannot be used or the process has a metrics recorder already.
    pub fn from_settings(
        job: &'static str,
        version: &'static str,
        settings: Settings,
        check: bool,
    ) -> anyhow::Result<Self> {
        let own: ServiceSettings = settings.section("service")?;
        logging::init(&own)?;
        let is_stable = !own.instance.is_empty();
        let instance = if is_stable {
            own.instance
        } else {
            format!("{job}-{}", uuid::Uuid::new_v4().simple())
        };
        let metrics = exposition::install(job, version)?;
        let (health, shutdown) = (Health::new(), Shutdown::new());
        Ok(Self { settings, health, shutdown, instance, job, is_stable, version, check, metrics })
    }

    /// Whether `service.instance` was given: the name then survives a restart.
    pub const fn has_stable_instance(&self) -> bool {
        self.is_stable
    }

    /// Opens the admin port and starts to watch SIGTERM and SIGINT, on a thread of their own that
    /// lives as long as the process. Returns the address listened on.
    ///
    /// Call it when every section is read: under `--check` this prints `settings are good` and ends
    /// the process with status 0.
    ///
    /// # Errors
    /// When the port cannot be opened.
    #[allow(clippy::print_stdout, reason = "--check is asked by a person or a script")]
    pub fn open(&self, admin: SocketAddr) -> anyhow::Result<SocketAddr> {
        if self.check {
            println!("{}: settings are good", self.job);
            std::process::exit(0);
        }
        let address = Admin {
            health: self.health.clone(),
            shutdown: self.shutdown.clone(),
            metrics: self.metrics.clone(),
        }
        .open(admin)?;
        tracing::info!(
            job = self.job,
            version = self.version,
            instance = self.instance,
            admin = %address,
            "started"
        );
        Ok(address)
    }
}
