//! An archive of the classes that a broker loads. A broker that maps it starts with half of the CPU time: the
//! tests start dozens. See "Class Data Sharing" in the documentation of Java.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use fetch::{lock_file, notice};

use super::{Cluster, Jit, Jvm, Roles, STOP_PATIENCE};
use crate::{Dirs, Error};

/// What a Java process does with the archive of classes.
#[derive(Debug, Clone)]
pub(super) enum Classes {
    /// This Java cannot write an archive.
    Load,
    Map(PathBuf),
    /// Writes the archive when it ends.
    Archive(PathBuf),
}

impl Classes {
    /// Returns the option for Java, if one is needed.
    pub(super) fn option(&self) -> Option<String> {
        match self {
            Self::Load => None,
            Self::Map(path) => Some(format!("-XX:SharedArchiveFile={}", path.display())),
            Self::Archive(path) => Some(format!("-XX:ArchiveClassesAtExit={}", path.display())),
        }
    }
}

/// Returns the archive of this Java and these jars in the cache. If there is none, runs a broker once, which
/// writes it.
pub(super) fn obtain(dirs: &Dirs, java: &Path, jars: &Path) -> Result<Classes, Error> {
    let path = dirs.cache.join(file_name(java, jars));
    if let Some(classes) = existing(&path, jars) {
        return Ok(classes);
    }
    let _held = lock_file(&path.with_extension("lock"))?;
    if let Some(classes) = existing(&path, jars) {
        return Ok(classes);
    }
    notice("preparing Kafka's classes, so that brokers start faster; this is done once");
    let new = path.with_extension("new");
    // An earlier process that was killed may have left a part.
    let _ = fs::remove_file(&new);
    let written = write(dirs, java, jars, &new).and_then(|ended| match (new.is_file(), ended) {
        (true, true) => Ok(()),
        // An empty file says that another attempt would fail too.
        (false, true) => fs::write(&new, []).map_err(Error::io(format!("write {}", new.display()))),
        (_, false) => Err(Error::io("wait for the broker")(io::ErrorKind::TimedOut.into())),
    });
    let renamed = written.and_then(|()| {
        fs::rename(&new, &path).map_err(Error::io(format!("write {}", path.display())))
    });
    if let Err(error) = renamed {
        notice(&format!("Kafka's classes cannot be prepared, so brokers start slowly: {error}"));
    }
    Ok(existing(&path, jars).unwrap_or(Classes::Load))
}

/// The name of the archive: those of Kafka's directory and of the Java installation, and the size of the latter's
/// classes, which changes with its version.
fn file_name(java: &Path, jars: &Path) -> String {
    let java = fs::canonicalize(java).unwrap_or_else(|_| java.to_owned());
    // The program is `NAME/bin/java`, the jars are in `NAME/lib`.
    let name = |path: Option<&Path>| {
        path.and_then(Path::file_name)
            .unwrap_or(OsStr::new("unknown"))
            .to_string_lossy()
            .into_owned()
    };
    let home = java.ancestors().nth(2);
    let modules = home.and_then(|home| fs::metadata(home.join("lib/modules")).ok());
    let size = modules.map_or(0, |modules| modules.len());
    format!("{}-{}-{size}.jsa", name(jars.parent()), name(home))
}

/// Returns what the cache has, if it is newer than the jars. Java compares the archive with the jars and with
/// itself, and loads the classes as usual if they differ.
fn existing(path: &Path, jars: &Path) -> Option<Classes> {
    let modified = |path: &Path| -> Option<SystemTime> { fs::metadata(path).ok()?.modified().ok() };
    let is_current = modified(path)? >= modified(jars)?;
    let is_empty = fs::metadata(path).ok()?.len() == 0;
    is_current.then(|| if is_empty { Classes::Load } else { Classes::Map(path.to_owned()) })
}

/// Runs a broker that writes the archive at its end. Returns whether it ended by itself, not by SIGKILL.
fn write(dirs: &Dirs, java: &Path, jars: &Path, path: &Path) -> Result<bool, Error> {
    let jvm = |classes| {
        let (java, jars) = (java.to_owned(), jars.to_owned());
        Jvm { java, jars, classes, jit: Jit::Quick }
    };
    let mut cluster = Cluster::new(dirs, jvm(Classes::Load), Roles::Combined, None, None)?;
    cluster.format()?;
    // Only the broker archives its classes, not the program that formats its directory.
    cluster.jvm = jvm(Classes::Archive(path.to_owned()));
    cluster.launch()?;
    let Some(mut broker) = cluster.broker.take() else { return Ok(false) };
    let status = broker.terminate(STOP_PATIENCE)?;
    Ok(status.signal() != Some(libc::SIGKILL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_broker_maps_the_classes_that_a_first_one_archived() {
        let mut dirs = Dirs::new().unwrap();
        let (java, jars) = (fetch::java().unwrap(), fetch::kafka_jars(&dirs.cache).unwrap());
        dirs.cache = dirs.run.clone();
        let Classes::Map(archive) = obtain(&dirs, &java, &jars).unwrap() else {
            panic!("this Java writes no archive")
        };
        assert!(fs::metadata(&archive).unwrap().len() > 10_000_000);
        let written = fs::metadata(&archive).unwrap().modified().unwrap();
        assert!(
            matches!(obtain(&dirs, &java, &jars).unwrap(), Classes::Map(path) if path == archive)
        );
        assert_eq!(fs::metadata(&archive).unwrap().modified().unwrap(), written);
    }

    #[test]
    fn an_empty_archive_says_that_java_cannot_write_one() {
        let dirs = Dirs::new().unwrap();
        let (path, jars) = (dirs.run.join("classes.jsa"), dirs.run.join("jars"));
        fs::create_dir(&jars).unwrap();
        assert!(existing(&path, &jars).is_none());
        fs::write(&path, []).unwrap();
        assert!(matches!(existing(&path, &jars), Some(Classes::Load)));
    }
}
