//! Lock files: they serialise processes, and the kernel releases them when their holder dies.

use std::fs::File;
use std::path::Path;

use crate::Error;

/// Opens (creating it) and locks a file. Waits while another process holds the lock.
///
/// # Errors
/// [`Error::Io`] if the file cannot be opened or locked.
pub fn lock_file(path: &Path) -> Result<File, Error> {
    let file = open_lock(path)?;
    file.lock().map_err(Error::io(format!("lock {}", path.display())))?;
    Ok(file)
}

/// Opens a lock file without locking it.
///
/// # Errors
/// [`Error::Io`] if the file cannot be opened.
pub fn open_lock(path: &Path) -> Result<File, Error> {
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(Error::io(format!("open {}", path.display())))
}
