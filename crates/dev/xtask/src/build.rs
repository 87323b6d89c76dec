//! Building the binaries, and where they then are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The services, in the order of an event's way through them.
pub(crate) const SERVICES: [&str; 6] =
    ["ingress", "enrich", "dedupe", "monitor", "archive", "notify"];

/// How the binaries are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build: demo and tests.
    Dev,
    /// As it is shipped: benchmarks, which need this program in that form too.
    Release,
}

/// The root of the checkout.
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(3).unwrap_or(here).to_owned()
}

/// A cargo command in the checkout.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace());
    cargo
}

/// Puts the binaries aside, so that what is built meanwhile does not change what is started again.
///
/// # Errors
/// When the directory cannot be made, or a binary neither linked nor copied.
pub(crate) fn set_aside(binaries: &Path, directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)?;
    for service in SERVICES {
        let (from, to) = (binaries.join(service), directory.join(service));
        // Cargo replaces a binary and does not write into it; across file systems there is no link.
        if std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to).with_context(|| from.display().to_string())?;
        }
    }
    Ok(())
}

/// Builds the services and the embedded ClickHouse; cargo shows its own progress. Returns the
/// directory of the binaries.
pub(crate) fn services(profile: Profile) -> anyhow::Result<PathBuf> {
    let mut cargo = cargo();
    cargo.arg("build").args(["--bin", "devstack-clickhouse"]);
    for service in SERVICES {
        cargo.args(["--bin", service]);
    }
    let directory = match profile {
        Profile::Dev => "debug",
        Profile::Release => {
            cargo.args(["--release", "--bin", "xtask"]);
            "release"
        }
    };
    let status = cargo.status().context("cargo cannot be run")?;
    ensure!(status.success(), "the build failed");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), PathBuf::from);
    Ok(target.join(directory))
}
