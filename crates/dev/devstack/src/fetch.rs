//! Fetches real software once, whole or not at all.
//!
//! A fetch fills a directory beside the final one, is checked, gets a marker that lists every file
//! with its size, and is then renamed into place. Whatever is found without a fitting marker (a
//! fetch that was cut off, a file that was removed, a manifest that has changed since) is fetched
//! again.

mod tools;
mod whole;

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};

use crate::dirs::{lock_file, open_lock};
use crate::{Error, notice, process};

pub use tools::{alertmanager, amtool, java, prometheus, promtool};

/// The name of the marker in a whole directory.
const MARKER: &str = "complete";
/// A slow line needs minutes for the half gigabyte of libchdb.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Apache Kafka's own jars, as Maven resolves them.
const KAFKA: Artefact = Artefact {
    title: "Apache Kafka 4.3.0",
    dir: "kafka_2.13-4.3.0",
    manifests: &[("pom.xml", include_str!("../../../../deploy/devstack/pom.xml"))],
    client: maven,
    check: whole::jars,
};

/// The ClickHouse engine as a shared library. The lock file pins its SHA-512.
const LIBCHDB: Artefact = Artefact {
    title: "libchdb 26.7.3-stable.1",
    dir: "libchdb-26.7.3-stable.1",
    manifests: &[
        ("package.json", include_str!("../../../../deploy/devstack/package.json")),
        ("package-lock.json", include_str!("../../../../deploy/devstack/package-lock.json")),
    ],
    client: npm,
    check: whole::libchdb,
};

/// The directory with Kafka's jars, fetched if it is not in the cache yet.
///
/// # Errors
/// As the fetch goes: [`Error::MissingTool`], [`Error::CommandFailed`], [`Error::IncompleteFetch`],
/// [`Error::Io`].
pub fn kafka_jars(cache: &Path) -> Result<PathBuf, Error> {
    Ok(KAFKA.obtain(cache)?.join(whole::JARS))
}

/// The path of `libchdb.so`, fetched if it is not in the cache yet.
///
/// # Errors
/// [`Error::UnsupportedPlatform`] where the library does not exist, else as [`kafka_jars`].
pub fn libchdb(cache: &Path) -> Result<PathBuf, Error> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        return Err(Error::UnsupportedPlatform);
    }
    Ok(LIBCHDB.obtain(cache)?.join(whole::LIBRARY))
}

fn maven(dir: &Path) -> Result<Command, Error> {
    tools::java()?;
    let mut command = tools::maven()?;
    command.current_dir(dir).args(["-q", "-B", "dependency:copy-dependencies"]);
    command.arg(format!("-DoutputDirectory={}", dir.join(whole::JARS).display()));
    Ok(command)
}

fn npm(dir: &Path) -> Result<Command, Error> {
    let mut command = tools::npm()?;
    command.current_dir(dir).arg("ci").arg("--prefix").arg(dir);
    command.args(["--ignore-scripts", "--no-audit", "--no-fund"]);
    Ok(command)
}

/// Something to fetch, and how to know that it is whole.
struct Artefact {
    title: &'static str,
    /// Its directory in the cache; the name carries the version.
    dir: &'static str,
    /// The files the client reads: name and content.
    manifests: &'static [(&'static str, &'static str)],
    /// The command that fills the directory.
    client: fn(&Path) -> Result<Command, Error>,
    /// What is wrong with a filled directory, if anything.
    check: fn(&Path) -> Result<(), String>,
}

impl Artefact {
    /// The whole directory, fetched now or earlier, by us or by another process.
    fn obtain(&self, cache: &Path) -> Result<PathBuf, Error> {
        let dir = absolute(cache)?.join(self.dir);
        if self.is_whole(&dir) {
            return Ok(dir);
        }
        let _lock = self.lock(cache)?;
        if !self.is_whole(&dir) {
            self.fetch(&dir)?;
        }
        Ok(dir)
    }

    /// One process fetches, the others wait for it.
    fn lock(&self, cache: &Path) -> Result<fs::File, Error> {
        fs::create_dir_all(cache).map_err(Error::io(format!("create {}", cache.display())))?;
        let path = cache.join(format!("{}.lock", self.dir));
        let file = open_lock(&path)?;
        if file.try_lock().is_ok() {
            return Ok(file);
        }
        notice(&format!("waiting for another process that fetches {}", self.title));
        lock_file(&path)
    }

    fn fetch(&self, dir: &Path) -> Result<(), Error> {
        let partial = dir.with_file_name(format!("{}.partial", self.dir));
        let log = dir.with_file_name(format!("{}.log", self.dir));
        remove(&partial)?;
        remove(&log)?;
        fs::create_dir_all(&partial).map_err(Error::io(format!("create {}", partial.display())))?;
        for (name, content) in self.manifests {
            write(&partial.join(name), content)?;
        }
        let command = (self.client)(&partial)?;
        let progress = Progress::start(self.title);
        process::run(command, &log, PATIENCE, || progress.show(bytes_under(&partial)))?;
        progress.done(bytes_under(&partial));

        (self.check)(&partial)
            .map_err(|reason| Error::IncompleteFetch { artefact: self.title, reason })?;
        write(&partial.join(MARKER), &self.marker(&partial)?)?;
        remove(dir)?;
        fs::rename(&partial, dir).map_err(Error::io(format!("rename to {}", dir.display())))
    }

    fn is_whole(&self, dir: &Path) -> bool {
        let Ok(found) = fs::read_to_string(dir.join(MARKER)) else { return false };
        self.marker(dir).is_ok_and(|expected| expected == found)
    }

    /// What the marker says: the manifests as asked for, and the files as they are.
    fn marker(&self, dir: &Path) -> Result<String, Error> {
        let mut files = Vec::new();
        list(dir, &mut files).map_err(Error::io(format!("list {}", dir.display())))?;
        files.retain(|(path, _)| *path != dir.join(MARKER));
        files.sort();
        let manifests = self.manifests.iter().map(|(_, content)| (*content).to_owned());
        let files = files.iter().map(|(path, size)| {
            format!("{size} {}\n", path.strip_prefix(dir).unwrap_or(path).display())
        });
        Ok(manifests.chain(files).collect())
    }
}

/// The clients run in another directory, so what we tell them must not be relative.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(Error::io(format!("resolve {}", path.display())))
}

fn write(path: &Path, content: &str) -> Result<(), Error> {
    fs::write(path, content).map_err(Error::io(format!("write {}", path.display())))
}

/// Removes a file or a directory, if it is there.
fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Every file under `dir` with its size in bytes.
fn list(dir: &Path, files: &mut Vec<(PathBuf, u64)>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push((entry.path(), about.len()));
        }
    }
    Ok(())
}

/// The bytes fetched so far. Files come and go meanwhile, so a failure just ends the count.
fn bytes_under(dir: &Path) -> u64 {
    let mut files = Vec::new();
    let _ = list(dir, &mut files);
    files.iter().map(|(_, size)| size).sum()
}

/// A spinner on a terminal, two plain lines elsewhere.
struct Progress {
    title: &'static str,
    since: Instant,
    spinner: Option<ProgressBar>,
}

impl Progress {
    fn start(title: &'static str) -> Self {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {msg} {elapsed}") {
                spinner.set_style(style);
            }
            spinner.set_prefix(format!("fetching {title}, once"));
            spinner
        });
        if spinner.is_none() {
            notice(&format!("fetching {title}, once"));
        }
        Self { title, since: Instant::now(), spinner }
    }

    fn show(&self, bytes: u64) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(BinaryBytes(bytes).to_string());
            spinner.tick();
        }
    }

    fn done(&self, bytes: u64) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        let (size, seconds) = (BinaryBytes(bytes), self.since.elapsed().as_secs());
        notice(&format!("fetched {} ({size}, {seconds} s)", self.title));
    }
}

#[cfg(test)]
mod tests;
