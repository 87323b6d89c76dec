//! The compiled services.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The services, in the order in which an event passes them.
pub(crate) const SERVICES: [&str; 6] =
    ["ingress", "enrich", "dedupe", "monitor", "archive", "notify"];

/// The services that act on events.
pub(crate) const ACTING: [&str; 3] = ["suppress", "forward", "automate"];

/// The service with the pages. An event does not pass it.
pub(crate) const CONSOLE: &str = "console";

/// Returns a cargo command in the checkout.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(devstack::fetch::workspace());
    cargo
}

/// Returns the directory of the services, which is that of this program.
///
/// # Errors
/// If a service is missing there.
pub(crate) fn directory() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find the path of this program")?;
    let directory = own.parent().context("this program is in no directory")?.to_owned();
    for service in SERVICES.into_iter().chain(ACTING).chain([CONSOLE]) {
        ensure!(
            directory.join(service).is_file(),
            "{} is missing; run `cargo build --workspace --bins` first, which `cargo xtask` also does",
            directory.join(service).display()
        );
    }
    Ok(directory)
}

/// Links the services into another directory. A later build then does not change what is restarted.
///
/// # Errors
/// If the directory cannot be created, or a service can neither be linked nor copied.
pub(crate) fn link_into(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)?;
    let binaries = self::directory()?;
    for service in SERVICES.into_iter().chain(ACTING).chain([CONSOLE]) {
        let (from, to) = (binaries.join(service), directory.join(service));
        // Cargo replaces a binary and does not write into it. A link to another file system fails.
        if std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to).with_context(|| from.display().to_string())?;
        }
    }
    Ok(())
}
