//! The cache of fetched software, and the directory with the data of one run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fetch::{lock_file, open_lock};

use crate::Error;

/// The directories of one run.
#[derive(Debug, Clone)]
pub struct Dirs {
    /// Fetched software, which all runs share; see [`fetch::cache`].
    pub cache: PathBuf,
    /// Data and logs of this run: `.mailpulse/run/<pid>-<n>` in the workspace. Removed when the last
    /// clone, and the last server started with it, is dropped.
    pub run: PathBuf,
    pub(crate) owner: Arc<RunDir>,
}

impl Dirs {
    /// Creates a new run directory, and removes those whose process was killed.
    ///
    /// # Errors
    /// [`Error::Io`] if a directory cannot be created.
    pub fn new() -> Result<Self, Error> {
        let cache = fetch::cache();
        fs::create_dir_all(&cache).map_err(Error::io(format!("create {}", cache.display())))?;
        let owner = RunDir::create(&fetch::workspace().join(".mailpulse/run"))?;
        Ok(Self { cache, run: owner.path.clone(), owner: Arc::new(owner) })
    }

    /// Creates a new subdirectory `<name>-<n>` of the run directory.
    pub(crate) fn subdirectory(&self, name: &str) -> Result<PathBuf, Error> {
        let dir = self.run.join(format!("{name}-{}", next()));
        fs::create_dir_all(&dir).map_err(Error::io(format!("create {}", dir.display())))?;
        Ok(dir)
    }
}

fn next() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A run directory, and the lock beside it that is held as long as its owner lives.
///
/// A process killed with SIGKILL cannot remove its directory, but the kernel releases its lock. A
/// process id would not do: a later process can have the same one.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    lock: PathBuf,
    _held: File,
}

impl RunDir {
    fn create(runs: &Path) -> Result<Self, Error> {
        fs::create_dir_all(runs).map_err(Error::io(format!("create {}", runs.display())))?;
        // Held during the sweep and the creation, so that no process removes a new directory before
        // its lock is taken.
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
        // If this fails, the next run removes the directory.
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(&self.lock);
    }
}

/// Removes the run directories whose lock is free: their owner is dead.
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
        assert!(live.path.is_dir(), "a directory whose lock is held is kept");
        assert!(!dead.exists(), "a directory whose owner is dead is removed");

        let path = other.path.clone();
        drop(other);
        assert!(!path.exists(), "removed on drop");
    }
}
