//! Successful appends survive kills, restarts and damage to the end of a file.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use spool::{
    Cause, End, Entries, Part, Parts, Quarantined, QuarantinedItem, Recovered, Spool, SpoolError,
};

const LIMIT: u64 = 64 << 20;

fn open(directory: &Path) -> (Spool, Recovered) {
    Spool::open(directory, LIMIT).unwrap()
}

/// Removes all entries and returns their payloads in order.
fn drain(spool: &mut Spool) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some((number, bytes)) = spool.first_segment().unwrap() {
        let mut entries = Entries::of(&bytes);
        all.extend(entries.by_ref().map(<[u8]>::to_vec));
        assert_eq!(entries.end(), End::Clean);
        spool.remove_segment(number).unwrap();
    }
    assert!(spool.is_empty() && spool.bytes() == 0);
    all
}

fn segments(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}

#[test]
fn entries_keep_their_order_across_segments_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let payload = |n: u32| [n.to_le_bytes().as_slice(), &vec![7; 100_000]].concat();
    let (mut spool, recovered) = open(directory.path());
    assert_eq!(recovered, Recovered::default());
    for n in 0..100 {
        spool.append(&[payload(2 * n), payload(2 * n + 1)]).unwrap();
    }
    assert!(segments(directory.path(), "spool").len() > 2, "segments have 8 MiB each");
    drop(spool);
    let (mut spool, recovered) = open(directory.path());
    assert_eq!(recovered, Recovered { entries: 200, ..Recovered::default() });
    spool.append(&[payload(200)]).unwrap();
    let all = drain(&mut spool);
    assert_eq!(all, (0..=200).map(payload).collect::<Vec<_>>());
    drop(spool);
    assert_eq!(open(directory.path()).1, Recovered::default(), "removed entries stay removed");
}

#[test]
fn a_segment_that_was_not_removed_is_returned_again() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(directory.path());
    spool.append(&[b"one"]).unwrap();
    let (first, _) = spool.first_segment().unwrap().unwrap();
    spool.append(&[b"two"]).unwrap();
    assert_eq!(spool.first_segment().unwrap().unwrap().0, first);
    drop(spool);
    assert_eq!(drain(&mut open(directory.path()).0), [b"one", b"two"]);
}

#[test]
fn an_append_beyond_the_limit_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = Spool::open(directory.path(), 1000).unwrap();
    spool.append(&[[1; 900]]).unwrap();
    let error = spool.append(&[[2; 50], [3; 50]]).unwrap_err();
    assert_eq!(error.code(), "spool_full");
    assert_eq!((spool.entries(), spool.bytes()), (1, 908));
    spool.append(&[[4; 84]]).unwrap();
    assert_eq!(drain(&mut spool), [vec![1; 900], vec![4; 84]]);
    spool.check_capacity().unwrap();
    spool.append(&[[5; 900]]).unwrap();
    assert_eq!(spool.check_capacity().unwrap_err().code(), "spool_full");
    assert_eq!(spool.append(&[[]]).unwrap_err().code(), "spool_unfit");
}

#[test]
fn only_one_process_can_open_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _) = open(directory.path());
    assert!(matches!(Spool::open(directory.path(), LIMIT), Err(SpoolError::InUse(_))));
    drop(spool);
    open(directory.path());
}

#[test]
fn a_torn_write_is_truncated_and_damaged_bytes_are_moved() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(directory.path());
    spool.append(&[b"one", b"two"]).unwrap();
    drop(spool);
    let path = segments(directory.path(), "spool").remove(0);
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&[9, 0, 0, 0, 1, 2, 3, 4, 5]).unwrap();
    let (spool, recovered) = open(directory.path());
    assert_eq!(recovered, Recovered { entries: 2, torn_bytes: 9, damaged_bytes: 0 });
    drop(spool);

    let mut bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 22, "the torn write was truncated");
    bytes[8] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (mut spool, recovered) = open(directory.path());
    assert_eq!(recovered, Recovered { entries: 1, torn_bytes: 0, damaged_bytes: 11 });
    let (number, segment) = spool.first_segment().unwrap().unwrap();
    let parts: Vec<_> = Parts::of(&segment).collect();
    assert_eq!(parts, [(0, Part::Damaged(&bytes[..11])), (11, Part::Entry(b"two"))]);

    spool.quarantine(number, 0, Cause::Damaged, &bytes[..11]).unwrap();
    spool.quarantine(number, 0, Cause::Damaged, &bytes[..11]).unwrap();
    spool.remove_segment(number).unwrap();
    assert_eq!(spool.quarantined(), Quarantined { items: 1, bytes: 11 });
    drop(spool);
    let (mut spool, recovered) = open(directory.path());
    assert_eq!(recovered, Recovered::default());
    assert_eq!(spool.quarantined(), Quarantined { items: 1, bytes: 11 }, "after a restart");
    let items = QuarantinedItem::all(directory.path()).unwrap();
    assert_eq!((items[0].segment, items[0].offset, items[0].cause), (number, 0, Cause::Damaged));
    assert_eq!(items[0].read().unwrap(), bytes[..11]);
    spool.append(&[b"three"]).unwrap();
    assert_ne!(spool.first_segment().unwrap().unwrap().0, number, "the number is in a name");
}

#[test]
fn what_is_in_quarantine_counts_towards_the_limit_until_it_is_readmitted() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = Spool::open(directory.path(), 100).unwrap();
    spool.quarantine(0, 0, Cause::BadHeaders, &[7; 60]).unwrap();
    assert_eq!(spool.append(&[[1; 40]]).unwrap_err().code(), "spool_full");
    assert_eq!(spool.check_capacity().unwrap_err().code(), "spool_full");
    spool.append(&[[1; 20]]).unwrap();
    let item = QuarantinedItem::all(directory.path()).unwrap().remove(0);
    drop(spool);
    let (mut spool, _) = open(directory.path());
    spool.readmit(&item, &item.read().unwrap()).unwrap();
    assert_eq!(spool.quarantined(), Quarantined::default());
    assert_eq!(drain(&mut spool), [vec![1; 20], vec![7; 60]]);
}

#[test]
fn damaged_bytes_that_an_earlier_release_moved_are_in_quarantine() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(format!("{:020}.damaged", 3)), b"torn").unwrap();
    let (spool, _) = open(directory.path());
    assert_eq!(spool.quarantined(), Quarantined { items: 1, bytes: 4 });
    assert_eq!(QuarantinedItem::all(directory.path()).unwrap()[0].read().unwrap(), b"torn");
}

#[test]
fn only_the_owner_can_read_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let spool_directory = directory.path().join("a/spool");
    let (mut spool, _) = open(&spool_directory);
    spool.append(&[b"one"]).unwrap();
    spool.quarantine(0, 0, Cause::Damaged, b"x").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = spool_directory.join("quarantine");
    assert_eq!((mode(&spool_directory), mode(&folder)), (0o700, 0o700));
    let mut files = Vec::new();
    for directory in [&spool_directory, &folder] {
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        files.extend(entries.filter(|path| path.is_file()));
    }
    assert_eq!(files.len(), 3, "lock, segment, item: {files:?}");
    assert!(files.iter().all(|path| mode(path) == 0o600));
}

/// Appends numbers until it is killed, and prints how many are durable.
#[test]
#[ignore = "run by successful_appends_survive_kills"]
fn part_that_appends_until_it_is_killed() {
    let directory = std::env::var_os("SPOOL_DIRECTORY").unwrap();
    let (mut spool, _) = open(Path::new(&directory));
    let mut number = spool.entries();
    loop {
        let payloads: Vec<_> = (0..3).map(|n| format!("{}", number + n).repeat(50)).collect();
        spool.append(&payloads).unwrap();
        number += 3;
        println!("durable {number}");
    }
}

#[test]
fn successful_appends_survive_kills() {
    let directory = tempfile::tempdir().unwrap();
    let mut durable = 0;
    for round in 1..=5 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "part_that_appends_until_it_is_killed"])
            .env("SPOOL_DIRECTORY", directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(writer.stdout.take().unwrap());
        let mut numbers = output.lines().map_while(Result::ok).filter_map(|line| {
            line.strip_prefix("durable ").and_then(|number| number.parse::<u64>().ok())
        });
        let enough = durable + 30 * round;
        durable = numbers.by_ref().find(|&number| number >= enough).unwrap();
        writer.kill().unwrap();
        durable = numbers.last().unwrap_or(durable);
        writer.wait().unwrap();
        let (spool, recovered) = open(directory.path());
        assert_eq!(recovered.damaged_bytes, 0);
        assert!(spool.entries() >= durable, "{} of {durable}", spool.entries());
    }
    let expected = |n: usize| n.to_string().repeat(50).into_bytes();
    let all = drain(&mut open(directory.path()).0);
    assert!(all.iter().enumerate().all(|(n, payload)| *payload == expected(n)));
}
