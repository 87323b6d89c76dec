//! On a full disk, successful appends stay, failed appends leave nothing behind, and the same spool
//! continues when there is free space again.
//!
//! Each test runs a part of itself as a process under a shell that sets a limit. One limit is the
//! file size (`ulimit -f`): every system allows it, and it fails a write in its middle, as a full
//! disk does. The other is a file system of 512 KiB, if this user may mount one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use spool::{Entries, Recovered, Spool, SpoolError};

/// Far more than the disk can store.
const LIMIT: u64 = 1 << 30;
/// Limits files to 4096 bytes. A longer write fails with EFBIG if SIGXFSZ is ignored; otherwise the
/// signal kills the process.
const LIMIT_FILE_SIZE: &str = "ulimit -c 0; ulimit -f 8;";
const IGNORE_SIGNAL: &str = "trap '' XFSZ;";
/// Four entries with their frames fit into 4096 bytes.
const PAYLOAD_BYTES: usize = 1000;

/// Runs the ignored test `part` of this file with `directory`, in a shell after `setup`.
fn run(setup: &str, part: &str, directory: &Path) -> Output {
    let shell = format!("{setup} exec \"$0\" --exact --ignored --nocapture {part}");
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

/// Returns the directory that [`run`] passed to this process.
fn directory() -> PathBuf {
    std::env::var_os("SPOOL_DIRECTORY").unwrap().into()
}

fn payload(number: usize) -> Vec<u8> {
    let mut payload = vec![b'r'; PAYLOAD_BYTES];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload
}

/// Removes all entries and returns their numbers in order.
fn drain(spool: &mut Spool) -> Vec<usize> {
    let mut all = Vec::new();
    while let Some((segment, bytes)) = spool.first_segment().unwrap() {
        all.extend(
            Entries::of(&bytes).map(|entry| usize::from_le_bytes(*entry.first_chunk().unwrap())),
        );
        spool.remove_segment(segment).unwrap();
    }
    assert!(spool.is_empty());
    all
}

fn count_files(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// Appends `numbers`. Returns those whose append succeeded, and the error of the last that failed.
fn append(spool: &mut Spool, numbers: impl Iterator<Item = usize>) -> (Vec<usize>, Option<String>) {
    let (mut appended, mut last_error) = (Vec::new(), None);
    for number in numbers {
        match spool.append(&[payload(number)]) {
            Ok(()) => appended.push(number),
            Err(SpoolError::Disk { error, .. }) => last_error = Some(error.to_string()),
            Err(error) => panic!("{error}"),
        }
    }
    (appended, last_error)
}

#[test]
#[ignore = "run by a_write_that_fails_halfway_loses_only_itself"]
fn part_with_failing_writes() {
    let directory = directory();
    let (mut spool, _) = Spool::open(&directory, LIMIT).unwrap();
    // Four entries fit into a file, the fifth fails, and the next one starts another file.
    let (mut appended, last_error) = append(&mut spool, 0..10);
    assert_eq!(appended, [0, 1, 2, 3, 5, 6, 7, 8]);
    assert!(last_error.unwrap().contains("File too large"));
    // These payloads are longer than a file may be.
    let before = count_files(&directory);
    for _ in 0..100 {
        let error = spool.append(&[[0; 5 * PAYLOAD_BYTES]]).unwrap_err();
        assert_eq!(error.code(), "spool_failed", "{error}");
    }
    let error = spool.check_capacity().unwrap_err();
    assert_eq!(error.code(), "spool_failed", "{error}");
    assert_eq!(count_files(&directory), before, "failed appends leave no files");
    assert_eq!((spool.entries(), spool.bytes()), (8, 8 * (PAYLOAD_BYTES as u64 + 8)));
    // An append writes all of its entries or none.
    let group: Vec<_> = (20..25).map(payload).collect();
    spool.append(&group).unwrap_err();
    spool.append(&group[..3]).unwrap();
    appended.extend([20, 21, 22]);
    drop(spool);

    let (mut spool, recovered) = Spool::open(&directory, LIMIT).unwrap();
    assert_eq!(recovered, Recovered { entries: 11, torn_bytes: 0, damaged_bytes: 0 });
    assert_eq!(drain(&mut spool), appended);
}

#[test]
fn a_write_that_fails_halfway_loses_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let setup = format!("{IGNORE_SIGNAL} {LIMIT_FILE_SIZE}");
    assert_passed(&run(&setup, "part_with_failing_writes", directory.path()));
}

#[test]
#[ignore = "run by an_interrupted_write_is_truncated_at_the_next_start"]
fn part_killed_by_a_write() {
    let (mut spool, _) = Spool::open(&directory(), LIMIT).unwrap();
    append(&mut spool, 0..10);
}

#[test]
fn an_interrupted_write_is_truncated_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let killed = run(LIMIT_FILE_SIZE, "part_killed_by_a_write", directory.path());
    assert!(killed.status.code().is_none(), "SIGXFSZ kills the process: {killed:?}");
    let (mut spool, recovered) = Spool::open(directory.path(), LIMIT).unwrap();
    let torn_bytes = 4096 - 4 * (PAYLOAD_BYTES as u64 + 8);
    assert_eq!(recovered, Recovered { entries: 4, torn_bytes, damaged_bytes: 0 });
    spool.append(&[payload(4)]).unwrap();
    drop(spool);
    let (mut spool, recovered) = Spool::open(directory.path(), LIMIT).unwrap();
    assert_eq!(recovered, Recovered { entries: 5, torn_bytes: 0, damaged_bytes: 0 });
    assert_eq!(drain(&mut spool), [0, 1, 2, 3, 4]);
}

#[test]
#[ignore = "run by a_full_disk_loses_only_failed_appends"]
fn part_on_a_full_disk() {
    let directory = directory();
    let ballast = directory.join("ballast");
    File::create(&ballast).unwrap().write_all(&[1; 100 << 10]).unwrap();
    let spool_directory = directory.join("spool");
    let (mut spool, _) = Spool::open(&spool_directory, LIMIT).unwrap();
    let (mut appended, last_error) = append(&mut spool, 0..2000);
    assert!((100..500).contains(&appended.len()), "{} of 2000", appended.len());
    assert!(last_error.unwrap().contains("No space left"));
    assert_eq!(spool.check_capacity().unwrap_err().code(), "spool_failed");
    assert!(count_files(&spool_directory) < 20, "failed appends leave no files");

    // A process that starts now recovers all entries and can publish them.
    drop(spool);
    let (mut spool, recovered) = Spool::open(&spool_directory, LIMIT).unwrap();
    assert_eq!(recovered.entries, appended.len() as u64);
    assert_eq!(append(&mut spool, 2000..2010).0, [0; 0]);

    std::fs::remove_file(&ballast).unwrap();
    spool.check_capacity().unwrap();
    let (later, last_error) = append(&mut spool, 2010..2060);
    assert_eq!((later.len(), last_error), (50, None), "the disk has free space again");
    appended.extend(later);
    assert_eq!(drain(&mut spool), appended);
}

#[test]
fn a_full_disk_loses_only_failed_appends() {
    let directory = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=512k spool \"$SPOOL_DIRECTORY\" &&";
    let allowed = Command::new("unshare")
        .args(["-rm", "sh", "-c", &format!("{mount} true")])
        .env("SPOOL_DIRECTORY", directory.path())
        .stderr(Stdio::null())
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        // The tests above fail the same writes for another reason.
        return eprintln!("skipped: this user may not mount a file system");
    }
    let inside = format!("{mount} exec \"$0\" --exact --ignored --nocapture part_on_a_full_disk");
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", &inside])
        .arg(std::env::current_exe().unwrap())
        .env("SPOOL_DIRECTORY", directory.path())
        .output()
        .unwrap();
    assert_passed(&output);
}
