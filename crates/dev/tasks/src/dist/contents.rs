//! What a release contains besides licences and the list of components.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::copy;
use crate::binaries::{ACTING, CONSOLE, SERVICES};

/// Files and directories of the repository, and where they are in the archive.
const FILES: [(&str, &str); 10] = [
    ("LICENSE", "LICENSE"),
    ("README.md", "README.md"),
    ("CHANGELOG.md", "CHANGELOG.md"),
    ("deploy/mailpulse.toml", "config/mailpulse.toml"),
    ("deploy/systemd", "systemd"),
    ("deploy/prometheus/rules.yml", "prometheus/rules.yml"),
    ("deploy/grafana/dashboards", "grafana/dashboards"),
    // The SQL files, the JSON schemas, and the descriptions of interfaces.
    ("schemas", "schemas"),
    ("docs", "docs"),
    ("deploy/helm/mailpulse", "helm/mailpulse"),
];

/// The shells with completions, and the names under which they look for them.
const SHELLS: [(&str, &str); 3] =
    [("bash", "mailpulse.bash"), ("zsh", "_mailpulse"), ("fish", "mailpulse.fish")];

/// Returns the names of the programs of a release.
pub(super) fn programs() -> impl Iterator<Item = &'static str> {
    SERVICES.into_iter().chain(ACTING).chain([CONSOLE, "mailpulse"])
}

/// Copies and generates everything into `staging`.
pub(super) fn stage(root: &Path, binaries: &Path, staging: &Path) -> anyhow::Result<()> {
    for program in programs() {
        copy(&binaries.join(program), &staging.join("bin").join(program))?;
    }
    for (from, to) in FILES {
        copy_all(&root.join(from), &staging.join(to))?;
    }
    let tool = staging.join("bin/mailpulse");
    let completions = staging.join("completions");
    std::fs::create_dir_all(&completions)?;
    for (shell, name) in SHELLS {
        let output = Command::new(&tool).args(["completions", shell]).output()?;
        ensure!(output.status.success(), "mailpulse completions {shell}: {}", output.status);
        ensure!(!output.stdout.is_empty(), "mailpulse completions {shell} has printed nothing");
        std::fs::write(completions.join(name), output.stdout)?;
    }
    let pages = staging.join("man/man1");
    std::fs::create_dir_all(&pages)?;
    let status = Command::new(&tool).args(["man", "--directory"]).arg(&pages).status()?;
    ensure!(status.success(), "mailpulse man: {status}");
    ensure!(pages.join("mailpulse.1").is_file(), "mailpulse man has written no page of the tool");
    Ok(())
}

/// Copies a file, or a directory with everything in it.
fn copy_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    if !from.is_dir() {
        return copy(from, to);
    }
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        copy_all(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
