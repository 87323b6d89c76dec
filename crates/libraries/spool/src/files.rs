//! Files and directories that only their owner can read.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Returns options that create files with mode 0600.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = File::options();
    options.mode(0o600);
    options
}

/// Creates the directory with mode 0700, and its missing parents with the mode of the umask. All of
/// them are durable when this returns. An existing directory is not changed.
pub(crate) fn create_private_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = parent(directory) {
        create_directory(parent)?;
    }
    make(directory, 0o700)
}

fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = parent(directory) {
        create_directory(parent)?;
    }
    make(directory, 0o777)
}

/// Creates one directory, and syncs the directory that contains it.
fn make(directory: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_directory(parent(directory).unwrap_or(Path::new(".")))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Returns `None` if the parent is the working directory.
fn parent(directory: &Path) -> Option<&Path> {
    directory.parent().filter(|parent| !parent.as_os_str().is_empty())
}
