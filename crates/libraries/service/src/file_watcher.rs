//! Notices when the content of files changes.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// How much of a file is compared, in bytes. Every file that we read is smaller.
const MAX_BYTES: u64 = 64 << 20;
/// How often a file is read again after its stamp has changed. A clock of a file system advances in steps
/// of some milliseconds, so two writes within one step may leave the same stamp.
const REREADS: u8 = 3;

/// A digest of the content of a file; `None` if there is no file that can be read.
type Content = Option<[u8; 32]>;

/// Watches files by path and content. Links are followed, so a file that is replaced by changing a link to
/// its directory, as Kubernetes does, has changed.
///
/// The owner calls [`FileWatcher::has_changed`] at intervals. A change is reported when the content was the
/// same twice in a row, so that a file is not read while it is being written.
#[derive(Debug, Default)]
pub struct FileWatcher {
    files: BTreeMap<PathBuf, Look>,
    /// What was seen in the last look.
    last: Option<BTreeMap<PathBuf, Content>>,
    /// What the owner has read.
    taken: Option<BTreeMap<PathBuf, Content>>,
}

/// What a file was when we last looked.
#[derive(Debug, Default)]
struct Look {
    stamp: Option<Stamp>,
    content: Content,
    rereads: u8,
}

/// Identifies one state of a file, almost certainly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileWatcher {
    /// Watches these files from now on, and no others. A file need not exist.
    pub fn watch(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        let mut former = std::mem::take(&mut self.files);
        self.files = paths
            .into_iter()
            .map(|path| {
                let look = former.remove(&path).unwrap_or_default();
                (path, look)
            })
            .collect();
    }

    /// Looks at all files. Returns whether they differ from what the owner has read, and no longer change.
    /// The owner must then read them. The first two looks find a change, because nothing was read before.
    pub fn has_changed(&mut self) -> bool {
        let seen = self.look();
        let is_stable = self.last.as_ref() == Some(&seen);
        let is_new = self.taken.as_ref() != Some(&seen);
        if is_stable && is_new {
            self.taken = Some(seen.clone());
        }
        self.last = Some(seen);
        is_stable && is_new
    }

    /// Notes that the owner reads all files now, whether they have changed or not.
    pub fn take(&mut self) {
        let seen = self.look();
        self.taken = Some(seen.clone());
        self.last = Some(seen);
    }

    fn look(&mut self) -> BTreeMap<PathBuf, Content> {
        let look = |(path, look): (&PathBuf, &mut Look)| {
            look.refresh(path);
            (path.clone(), look.content)
        };
        self.files.iter_mut().map(look).collect()
    }
}

impl Look {
    fn refresh(&mut self, path: &Path) {
        // Taken before reading, so that a write during the read counts as another change.
        let stamp = std::fs::metadata(path).ok().and_then(|metadata| Stamp::of(&metadata));
        if stamp != self.stamp {
            (self.stamp, self.rereads) = (stamp, REREADS + 1);
        }
        if self.rereads > 0 {
            self.rereads -= 1;
            self.content = stamp.and_then(|_| digest(path));
        }
    }
}

impl Stamp {
    /// Returns `None` for what is not a file, such as a pipe, because reading it could wait without end.
    fn of(metadata: &Metadata) -> Option<Self> {
        metadata.is_file().then(|| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

fn digest(path: &Path) -> Content {
    let mut file = File::open(path).ok()?.take(MAX_BYTES);
    let (mut digest, mut buffer) = (Sha256::new(), [0; 16 * 1024]);
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(digest.finalize().into()),
            length => digest.update(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn watcher(paths: &[&Path]) -> FileWatcher {
        let mut watcher = FileWatcher::default();
        watcher.watch(paths.iter().map(|path| path.to_path_buf()));
        watcher.take();
        watcher
    }

    /// Looks until the content was the same twice in a row.
    fn settles(watcher: &mut FileWatcher) -> bool {
        (0..3).any(|_| watcher.has_changed())
    }

    #[test]
    fn a_change_is_reported_once_when_the_content_is_stable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "1").unwrap();
        let mut watcher = watcher(&[&path]);
        assert!(!settles(&mut watcher));
        fs::write(&path, "2").unwrap();
        assert!(!watcher.has_changed(), "it may still be written");
        fs::write(&path, "23").unwrap();
        assert!(!watcher.has_changed(), "it was still written");
        assert!(watcher.has_changed());
        assert!(!settles(&mut watcher), "reported before");
        fs::write(&path, "23").unwrap();
        assert!(!settles(&mut watcher), "another time and the same content");
        fs::remove_file(&path).unwrap();
        assert!(settles(&mut watcher), "the file is missing");
        fs::write(&path, "23").unwrap();
        assert!(settles(&mut watcher), "the file is back");
    }

    #[test]
    fn the_first_looks_report_a_change_because_nothing_was_read() {
        let mut watcher = FileWatcher::default();
        assert!(!watcher.has_changed() && watcher.has_changed() && !settles(&mut watcher));
    }

    /// As Kubernetes mounts a ConfigMap: `file` → `..data/file`, `..data` → a directory with a time.
    #[test]
    fn a_link_to_another_directory_is_a_change() {
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for version in ["1", "2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("file"), version).unwrap();
        }
        symlink("1", at("..data")).unwrap();
        symlink("..data/file", at("file")).unwrap();
        let mut watcher = watcher(&[&at("file")]);
        symlink("2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(settles(&mut watcher));
    }

    #[test]
    fn two_writes_within_one_step_of_the_clock_are_two_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "1").unwrap();
        let mut look = Look::default();
        look.refresh(&path);
        let before = look.content;
        fs::write(&path, "2").unwrap();
        look.stamp = Stamp::of(&fs::metadata(&path).unwrap());
        look.refresh(&path);
        assert_ne!(look.content, before);
    }

    #[test]
    fn only_the_files_of_the_last_call_are_watched() {
        let directory = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| directory.path().join(name));
        let mut watcher = watcher(&[&a]);
        watcher.watch([b.clone()]);
        assert!(settles(&mut watcher), "another set of files");
        fs::write(&a, "1").unwrap();
        assert!(!settles(&mut watcher));
        fs::write(&b, "1").unwrap();
        assert!(settles(&mut watcher));
    }

    #[test]
    fn a_pipe_is_never_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert!(!settles(&mut watcher(&[&path])));
    }
}
