use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::admin::Admin;
use crate::{ConfigFile, Health, ServiceSettings, Settings, Shutdown, exposition, logging};

/// The command line of every service.
#[derive(Debug, Clone, Default, Parser)]
pub struct Args {
    /// The configuration file. Default: `mailpulse.toml` in the working directory, if it exists.
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Check the settings, construct the clients of Kafka and ClickHouse without connecting, and exit.
    #[arg(long)]
    pub check: bool,
}

/// A service whose settings are loaded. [`Service::open`] makes it visible.
pub struct Service {
    /// The settings of all services.
    pub settings: Settings,
    /// The state behind `/readyz` and `/livez`.
    pub health: Health,
    /// The request to stop.
    pub shutdown: Shutdown,
    /// The setting `service.instance`, or a random name.
    pub instance: String,
    /// The name of the service, such as `ingress`.
    pub name: &'static str,
    /// The file that the settings came from.
    pub config_file: ConfigFile,
    is_stable: bool,
    version: &'static str,
    check: bool,
    metrics: PrometheusHandle,
}

impl Service {
    /// Reads the command line and the settings, and starts the log and the metrics recorder.
    /// `version` is the service's own `env!("CARGO_PKG_VERSION")`. Afterwards read all sections that
    /// the service needs, then call [`Service::open`].
    ///
    /// Ends the process on `--help`, `--version` and a wrong command line.
    ///
    /// # Errors
    /// Fails if the settings cannot be used.
    pub fn load(name: &'static str, version: &'static str) -> anyhow::Result<Self> {
        let matches = Args::command().name(name).bin_name(name).version(version).get_matches();
        let args = Args::from_arg_matches(&matches)?;
        let config_file = ConfigFile::new(args.config);
        let settings = config_file.load()?;
        let service = Self::from_settings(name, version, settings, args.check)?;
        logging::log_panics();
        Ok(Self { config_file, ..service })
    }

    /// Does the work of [`Service::load`] without the command line, for tests and for tools that
    /// have their own. `check` is the option `--check`.
    ///
    /// # Errors
    /// Fails if the settings cannot be used or the process has a metrics recorder already.
    pub fn from_settings(
        name: &'static str,
        version: &'static str,
        settings: Settings,
        check: bool,
    ) -> anyhow::Result<Self> {
        let own: ServiceSettings = settings.section("service")?;
        logging::init(&own)?;
        settings.warn_about_old_names();
        let is_stable = !own.instance.is_empty();
        let instance = if is_stable {
            own.instance
        } else {
            format!("{name}-{}", uuid::Uuid::new_v4().simple())
        };
        let metrics = exposition::install(name, version)?;
        let (health, shutdown) = (Health::new(), Shutdown::new());
        let config_file = ConfigFile::default();
        Ok(Self {
            settings,
            health,
            shutdown,
            instance,
            name,
            config_file,
            is_stable,
            version,
            check,
            metrics,
        })
    }

    /// Returns whether `service.instance` is set, so that the name survives a restart.
    pub const fn has_stable_instance(&self) -> bool {
        self.is_stable
    }

    /// Returns whether the process only checks its settings (`--check`). A service then constructs the
    /// clients that it would otherwise construct after [`Service::open`], so that they reject what they
    /// cannot use.
    pub const fn is_check(&self) -> bool {
        self.check
    }

    /// Opens the admin port and installs the handlers of SIGTERM and SIGINT, on a thread that runs
    /// as long as the process. Returns the address of the port.
    ///
    /// Call it after all sections are read: with `--check` it prints `settings are good` and ends
    /// the process with status 0.
    ///
    /// # Errors
    /// Fails if the port cannot be opened.
    #[allow(clippy::print_stdout, reason = "the result of --check is for a person or a script")]
    pub fn open(&self, admin: SocketAddr) -> anyhow::Result<SocketAddr> {
        if self.check {
            println!("{}: settings are good", self.name);
            std::process::exit(0);
        }
        let address = Admin {
            health: self.health.clone(),
            shutdown: self.shutdown.clone(),
            metrics: self.metrics.clone(),
        }
        .open(admin)?;
        tracing::info!(
            service = self.name,
            version = self.version,
            instance = self.instance,
            admin = %address,
            "service started"
        );
        Ok(address)
    }
}
