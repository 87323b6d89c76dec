//! Packs a directory into a compressed file, and unpacks it.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// The best compression: a recording is packed once and kept in the repository.
const LEVEL: i32 = 19;
/// Binary logarithm of the distance over which repetitions are found. Decoders accept no larger one
/// by default.
const WINDOW_LOG: u32 = 27;

/// Packs the content of a directory.
pub(crate) fn pack(directory: &Path, archive: &Path) -> anyhow::Result<()> {
    let mut tar = Command::new("tar")
        .args(["--create", "--sparse", "--sort=name", "--format=gnu", "--numeric-owner"])
        .args(["--owner=0", "--group=0", "--directory"])
        .arg(directory)
        .arg(".")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start tar")?;
    let output = tar.stdout.take().context("tar has no output")?;
    let mut encoder = zstd::Encoder::new(File::create(archive)?, LEVEL)?;
    encoder.long_distance_matching(true)?;
    encoder.window_log(WINDOW_LOG)?;
    std::io::copy(&mut std::io::BufReader::new(output), &mut encoder)?;
    encoder.finish()?;
    let status = tar.wait()?;
    ensure!(status.success(), "tar failed: {status}");
    Ok(())
}

/// Unpacks an archive into a directory.
pub(crate) fn unpack(archive: &Path, directory: &Path) -> anyhow::Result<()> {
    let file = File::open(archive).with_context(|| archive.display().to_string())?;
    let mut decoder = zstd::Decoder::new(file)?;
    let mut tar = Command::new("tar")
        .args(["--extract", "--sparse", "--no-same-owner", "--directory"])
        .arg(directory)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start tar")?;
    let mut input = tar.stdin.take().context("tar has no input")?;
    std::io::copy(&mut decoder, &mut input).context("decompress the archive into tar")?;
    drop(input);
    let status = tar.wait()?;
    ensure!(status.success(), "tar failed: {status}");
    Ok(())
}
