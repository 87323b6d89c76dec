//! `cargo xtask dist`: packs a release. The same commit, toolchain and target give the same bytes.

mod archive;
mod contents;
mod packages;
mod sbom;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use packages::Packages;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The directory for the archive. It is created.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/dist")]
    output: PathBuf,
    /// The directory with the compiled programs. The default is that of this program.
    #[arg(long, value_name = "DIRECTORY")]
    binaries: Option<PathBuf>,
}

/// Packs the programs and everything that is installed with them into `mailpulse-VERSION-TARGET.tar.zst`.
///
/// # Errors
/// If a file is missing, a program fails, or the archive cannot be written.
pub(crate) fn dist(arguments: &Arguments) -> anyhow::Result<()> {
    let binaries = match &arguments.binaries {
        Some(directory) => directory.clone(),
        None => crate::binaries::directory()?,
    };
    let root = devstack::fetch::workspace();
    let target = target()?;
    let packages = Packages::shipped(&target)?;
    let name = format!("mailpulse-{}-{target}", packages.version()?);
    let seconds = source_date()?;
    let home = tempfile::tempdir()?;
    let staging = home.path().join(&name);
    contents::stage(root, &binaries, &staging)?;
    packages.copy_licences(&staging.join("licences"))?;
    let sbom = serde_json::to_vec_pretty(&sbom::sbom(&packages, seconds)?)?;
    std::fs::write(staging.join("sbom.cdx.json"), sbom)?;
    std::fs::create_dir_all(&arguments.output)?;
    let path = arguments.output.join(format!("{name}.tar.zst"));
    archive::pack(home.path(), &name, seconds, &path)?;
    println!("{}", path.display());
    Ok(())
}

/// Returns the platform that the programs are compiled for: that of the compiler.
fn target() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// Returns the time of every file in the archive, in seconds since 1970: `SOURCE_DATE_EPOCH`, or else that of the last
/// commit.
fn source_date() -> anyhow::Result<u64> {
    if let Some(seconds) = std::env::var_os("SOURCE_DATE_EPOCH") {
        let text = seconds.to_string_lossy();
        return text.parse().context("SOURCE_DATE_EPOCH is no number of seconds since 1970");
    }
    let mut git = Command::new("git");
    git.current_dir(devstack::fetch::workspace()).args(["log", "-1", "--format=%ct"]);
    let output = git.output().context("cannot start git; set SOURCE_DATE_EPOCH instead")?;
    ensure!(output.status.success(), "git knows no commit here; set SOURCE_DATE_EPOCH instead");
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Copies a file and creates the directory for it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let directory = to.parent().context("the path has no directory")?;
    std::fs::create_dir_all(directory)?;
    std::fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(())
}
