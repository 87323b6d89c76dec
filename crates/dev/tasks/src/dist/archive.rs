//! Packs a directory so that the same files always give the same bytes.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

const LEVEL: i32 = 19;

/// Packs `name`, a directory in `home`, into `path`. `seconds` since 1970 is the time of every file.
///
/// # Errors
/// If tar fails, or the archive cannot be written.
pub(super) fn pack(home: &Path, name: &str, seconds: u64, path: &Path) -> anyhow::Result<()> {
    let mut tar = Command::new("tar")
        // Neither the order of the directory, nor who packs it and with what umask, nor the clock is in the archive.
        .args(["--create", "--sort=name", "--format=gnu", "--numeric-owner", "--owner=0"])
        .args(["--group=0", "--mode=go=rX,u+rw,a-s", &format!("--mtime=@{seconds}")])
        .arg("--directory")
        .arg(home)
        .arg(name)
        .env("LC_ALL", "C")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start tar")?;
    let mut output = tar.stdout.take().context("tar has no output")?;
    let mut encoder = zstd::Encoder::new(File::create(path)?, LEVEL)?;
    std::io::copy(&mut output, &mut encoder)?;
    encoder.finish()?;
    let status = tar.wait()?;
    ensure!(status.success(), "tar failed: {status}");
    Ok(())
}
