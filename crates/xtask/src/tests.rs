//! `cargo xtask test`: every test, on one Kafka and one ClickHouse, and a short run of chaos.

use anyhow::{Context, ensure};
use devstack::{ClickHouse, Dirs, Kafka};

use crate::build::cargo;
use crate::chaos;

/// What to test.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Handed to `cargo test`, for example `-p dedupe`; then there is no chaos.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<String>,
}

/// Tests would start servers of their own; one of each for all of them is quicker. Those that kill
/// servers start their own all the same.
pub(crate) fn test(arguments: &Arguments) -> anyhow::Result<()> {
    let dirs = Dirs::new()?;
    let kafka = Kafka::start(&dirs)?;
    let build = cargo().args(["build", "--bin", "devstack-clickhouse"]).status()?;
    ensure!(build.success(), "the build failed");
    let clickhouse = ClickHouse::start(&dirs)?;
    let mut command = cargo();
    command.args(["test", "--no-fail-fast"]);
    if arguments.cargo.is_empty() {
        command.arg("--workspace");
    }
    let status = command
        .args(&arguments.cargo)
        .env("MAILPULSE_KAFKA", kafka.bootstrap())
        .env("MAILPULSE_CLICKHOUSE", clickhouse.url())
        .status()
        .context("cargo cannot be run")?;
    ensure!(status.success(), "tests failed");
    drop((kafka, clickhouse));
    if arguments.cargo.is_empty() { chaos::chaos(&chaos::Arguments::short()) } else { Ok(()) }
}
