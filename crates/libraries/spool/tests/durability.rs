//! Successful appends survive kills, restarts and damage to the end of a file.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use spool::{End, Entries, Recovered, Spool, SpoolError};

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
    bytes[20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (mut spool, recovered) = open(directory.path());
    assert_eq!(recovered, Recovered { entries: 1, torn_bytes: 0, damaged_bytes: 11 });
    let damaged = segments(directory.path(), "damaged").remove(0);
    assert_eq!(std::fs::read(damaged).unwrap(), bytes[11..]);
    assert_eq!(drain(&mut spool), [b"one"]);
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
