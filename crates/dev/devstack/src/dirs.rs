//! Where things are cached, and where the data of one run lives.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Error;

/// The directories of one run.
#[derive(Debug, Clone)]
pub struct Dirs {
    /// What was fetched, shared by all runs: `$MAILPULSE_CACHE`, or `.mailpulse/cache` in the
    /// workspace.
    pub cache: PathBuf,
    /// Data and logs of this run: `.mailpulse/run/<pid>-<n>` in the workspace. Removed when the
    /// last clone, and the last part started from it, is dropped.
    pub run: PathBuf,
    pub(crate) guard: Arc<RunDir>,
}

impl Dirs {
    /// Makes a run directory of its own, and sweeps away those whose process was killed.
    ///
    /// # Errors
    /// [`Error::Io`] when a directory cannot be made.
    pub fn new() -> Result<Self, Error> {
        let home = workspace().join(".mailpulse");
        let cache = match std::env::var_os("MAILPULSE_CACHE") {
            Some(dir) if !dir.is_empty() => PathBuf::from(dir),
            _ => home.join("cache"),
        };
        fs::create_dir_all(&cache).map_err(Error::io(format!("create {}", cache.display())))?;
        let guard = RunDir::create(&home.join("run"))?;
        Ok(Self { cache, run: guard.path.clone(), guard: Arc::new(guard) })
    }

    /// A fresh subdirectory of the run directory, for one part: `<name>-<n>`.
    pub(crate) fn part(&self, name: &str) -> Result<PathBuf, Error> {
        let dir = self.run.join(format!("{name}-{}", next()));
        fs::create_dir_all(&dir).map_err(Error::io(format!("create {}", dir.display())))?;
        Ok(dir)
    }
}

/// The workspace this crate was built in.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap_or(Path::new("."))
}

fn next() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A run directory and the lock beside it that says its owner lives.
///
/// A process killed with SIGKILL cannot remove its directory, but its lock goes with it. A lock,
/// unlike a process id, cannot be mistaken for that of a later process.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    lock: PathBuf,
    _held: File,
}

impl RunDir {
    fn create(runs: &Path) -> Result<Self, Error> {
        fs::create_dir_all(runs).map_err(Error::io(format!("create {}", runs.display())))?;
        // Held while we sweep and while we create, so nobody sweeps a directory whose lock is not
        // taken yet.
        let _gate = lock_file(&runs.join("gate.lock"))?;
        sweep(runs);
        let path = runs.join(format!("{}-{}", std::process::id(), next()));
        let lock = path.with_extension("lock");
        let held = lock_file(&lock)?;
        fs::create_dir_all(&path).map_err(Error::io(format!("create {}", path.display())))?;
        Ok(Self { path, lock, _held: held })
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // Nothing to be done about a failure here; the next run sweeps again.
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(&self.lock);
    }
}

/// Opens (creating it) and locks a file, waiting while another process holds it.
pub(crate) fn lock_file(path: &Path) -> Result<File, Error> {
    let file = open_lock(path)?;
    file.lock().map_err(Error::io(format!("lock {}", path.display())))?;
    Ok(file)
}

/// Opens a lock file without locking it.
pub(crate) fn open_lock(path: &Path) -> Result<File, Error> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Error::io(format!("open {}", path.display())))
}

/// Removes the run directories whose owner is gone: those whose lock nobody holds.
fn sweep(runs: &Path) {
    let Ok(entries) = fs::read_dir(runs) else { return };
    for dir in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let lock = dir.with_extension("lock");
        let Ok(file) = open_lock(&lock) else { continue };
        if file.try_lock().is_ok() {
            let _ = fs::remove_dir_all(&dir);
            let _ = fs::remove_file(&lock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_directory_lives_as_long_as_its_owner() {
        let runs = tempfile::tempdir().unwrap();
        let live = RunDir::create(runs.path()).unwrap();
        let dead = runs.path().join("1-0");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("data"), b"left behind").unwrap();

        let other = RunDir::create(runs.path()).unwrap();
        assert!(live.path.is_dir(), "a run whose lock is held is left alone");
        assert!(!dead.exists(), "a run whose owner is gone is swept away");

        let path = other.path.clone();
        drop(other);
        assert!(!path.exists(), "removed on drop");
    }
}
