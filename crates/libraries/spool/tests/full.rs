//! A disk that takes no more: what was confirmed stays, what was refused leaves nothing behind, and
//! with room again the same spool goes on.
//!
//! Each test runs a part of itself as a process under a shell that sets its limits: a largest file
//! (`ulimit -f`), which every system allows and which fails a write as a full disk does, in its
//! middle; and a file system of half a mebibyte, where this user may mount one.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use spool::{Records, Recovered, Spool, SpoolError};

/// Far more than there is room for.
const LIMIT: u64 = 1 << 30;
/// A largest file of 4096 bytes; a write beyond it fails (EFBIG) where the signal is ignored, and
/// else kills the process.
const LARGEST_FILE: &str = "ulimit -c 0; ulimit -f 8;";
const FAIL: &str = "trap '' XFSZ;";
/// With its frame a quarter of the largest file, all but 16 bytes.
const RECORD: usize = 1000;

/// Runs the ignored test `part` of this file in `directory`, under a shell that was told `before`.
fn run(before: &str, part: &str, directory: &Path) -> Output {
    let shell = format!("{before} exec \"$0\" --exact --ignored --nocapture {part}");
    Command::new("sh")
        .args(["-c", &shell])
        .arg(std::env::current_exe().unwrap())
        .env("SPOOL_DIRECTORY", directory)
        .output()
        .unwrap()
}

fn assert_passed(output: &Output) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{error}");
}

/// In a process of the tests below: its directory.
fn directory() -> PathBuf {
    std::env::var_os("SPOOL_DIRECTORY").unwrap().into()
}

fn record(number: usize) -> Vec<u8> {
    let mut record = vec![b'r'; RECORD];
    record[..8].copy_from_slice(&number.to_le_bytes());
    record
}

/// The numbers of all records, in order; takes them out.
fn drained(spool: &mut Spool) -> Vec<usize> {
    let mut all = Vec::new();
    while let Some((segment, bytes)) = spool.first().unwrap() {
        all.extend(
            Records::of(&bytes).map(|record| usize::from_le_bytes(*record.first_chunk().unwrap())),
        );
        spool.remove(segment).unwrap();
    }
    assert!(spool.is_empty());
    all
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// Appends `numbers`; returns those that were confirmed, and why the last of the others was not.
fn append(spool: &mut Spool, numbers: impl Iterator<Item = usize>) -> (Vec<usize>, Option<String>) {
    let (mut confirmed, mut refused) = (Vec::new(), None);
    for number in numbers {
        match spool.append(&[record(number)]) {
            Ok(()) => confirmed.push(number),
            Err(SpoolError::Disk { error, .. }) => refused = Some(error.to_string()),
            Err(error) => panic!("{error}"),
        }
    }
    (confirmed, refused)
}

#[test]
#[ignore = "a process of the test below"]
fn writes_that_fail_in_their_middle() {
    let directory = directory();
    let (mut spool, _) = Spool::open(&directory, LIMIT).unwrap();
    // Four fit into a file, the fifth does not, the next one begins another file.
    let (mut confirmed, refused) = append(&mut spool, 0..10);
    assert_eq!(confirmed, [0, 1, 2, 3, 5, 6, 7, 8]);
    assert!(refused.unwrap().contains("File too large"));
    // These fit into no file.
    let before = files(&directory);
    for _ in 0..100 {
        let error = spool.append(&[[0; 5 * RECORD]]).unwrap_err();
        assert_eq!(error.code(), "spool_failed", "{error}");
    }
    let no_room = spool.check_room().unwrap_err();
    assert_eq!(no_room.code(), "spool_failed", "{no_room}");
    assert_eq!(files(&directory), before, "nothing is left of what was refused");
    assert_eq!((spool.records(), spool.bytes()), (8, 8 * (RECORD as u64 + 8)));
    // A group is taken as a whole or not at all.
    let group: Vec<_> = (20..25).map(record).collect();
    spool.append(&group).unwrap_err();
    spool.append(&group[..3]).unwrap();
    confirmed.extend([20, 21, 22]);
    drop(spool);

    let (mut spool, recovered) = Spool::open(&directory, LIMIT).unwrap();
    assert_eq!(recovered, Recovered { records: 11, torn_bytes: 0, damaged_bytes: 0 });
    assert_eq!(drained(&mut spool), confirmed);
}

#[test]
fn a_write_that_fails_in_its_middle_costs_itself_alone() {
    let directory = tempfile::tempdir().unwrap();
    let before = format!("{FAIL} {LARGEST_FILE}");
    assert_passed(&run(&before, "writes_that_fail_in_their_middle", directory.path()));
}

#[test]
#[ignore = "a process of the test below"]
fn a_write_that_kills_in_its_middle() {
    let (mut spool, _) = Spool::open(&directory(), LIMIT).unwrap();
    append(&mut spool, 0..10);
}

#[test]
fn a_write_that_was_cut_off_is_cut_away() {
    let directory = tempfile::tempdir().unwrap();
    let killed = run(LARGEST_FILE, "a_write_that_kills_in_its_middle", directory.path());
    assert!(killed.status.code().is_none(), "by the signal that comes with the limit: {killed:?}");
    let (mut spool, recovered) = Spool::open(directory.path(), LIMIT).unwrap();
    let torn_bytes = 4096 - 4 * (RECORD as u64 + 8);
    assert_eq!(recovered, Recovered { records: 4, torn_bytes, damaged_bytes: 0 });
    spool.append(&[record(4)]).unwrap();
    drop(spool);
    let (mut spool, recovered) = Spool::open(directory.path(), LIMIT).unwrap();
    assert_eq!(recovered, Recovered { records: 5, torn_bytes: 0, damaged_bytes: 0 });
    assert_eq!(drained(&mut spool), [0, 1, 2, 3, 4]);
}

#[test]
#[ignore = "a process of the test below"]
fn a_disk_that_fills() {
    let directory = directory();
    let ballast = directory.join("ballast");
    File::create(&ballast).unwrap().write_all(&[1; 100 << 10]).unwrap();
    let spool_directory = directory.join("spool");
    let (mut spool, _) = Spool::open(&spool_directory, LIMIT).unwrap();
    let (mut confirmed, refused) = append(&mut spool, 0..2000);
    assert!((100..500).contains(&confirmed.len()), "{} of 2000", confirmed.len());
    assert!(refused.unwrap().contains("No space left"));
    assert_eq!(spool.check_room().unwrap_err().code(), "spool_failed");
    assert!(files(&spool_directory) < 20, "nothing is left of what was refused");

    // A process that starts now finds them all, and can hand them on.
    drop(spool);
    let (mut spool, recovered) = Spool::open(&spool_directory, LIMIT).unwrap();
    assert_eq!(recovered.records, confirmed.len() as u64);
    assert_eq!(append(&mut spool, 2000..2010).0, [0; 0]);

    std::fs::remove_file(&ballast).unwrap();
    spool.check_room().unwrap();
    let (later, refused) = append(&mut spool, 2010..2060);
    assert_eq!((later.len(), refused), (50, None), "there is room again");
    confirmed.extend(later);
    assert_eq!(drained(&mut spool), confirmed);
}

#[test]
fn a_full_disk_costs_what_was_refused_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=512k spool \"$SPOOL_DIRECTORY\" &&";
    let allowed = Command::new("unshare")
        .args(["-rm", "sh", "-c", &format!("{mount} true")])
        .env("SPOOL_DIRECTORY", directory.path())
        .stderr(Stdio::null())
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        // The same writes fail in the tests above, for another reason.
        return eprintln!("no file system can be mounted here: not tried on a full one");
    }
    let inside = format!("{mount} exec \"$0\" --exact --ignored --nocapture a_disk_that_fills");
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", &inside])
        .arg(std::env::current_exe().unwrap())
        .env("SPOOL_DIRECTORY", directory.path())
        .output()
        .unwrap();
    assert_passed(&output);
}
