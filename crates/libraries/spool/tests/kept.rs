//! What was confirmed is there, whatever happens to the process or the file's end.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use spool::{End, Records, Recovered, Spool, SpoolError};

const ROOM: u64 = 64 << 20;

fn open(directory: &Path) -> (Spool, Recovered) {
    Spool::open(directory, ROOM).unwrap()
}

/// Takes everything out, in order.
fn drained(spool: &mut Spool) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some((number, bytes)) = spool.first().unwrap() {
        let mut records = Records::of(&bytes);
        all.extend(records.by_ref().map(<[u8]>::to_vec));
        assert_eq!(records.end(), End::Clean);
        spool.remove(number).unwrap();
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
fn records_come_back_in_order_over_segments_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let payload = |n: u32| [n.to_le_bytes().as_slice(), &vec![7; 100_000]].concat();
    let (mut spool, recovered) = open(directory.path());
    assert_eq!(recovered, Recovered::default());
    for n in 0..100 {
        spool.append(&[payload(2 * n), payload(2 * n + 1)]).unwrap();
    }
    assert!(segments(directory.path(), "spool").len() > 2, "of 8 MiB each");
    drop(spool);
    let (mut spool, recovered) = open(directory.path());
    assert_eq!(recovered, Recovered { records: 200, ..Recovered::default() });
    spool.append(&[payload(200)]).unwrap();
    let all = drained(&mut spool);
    assert_eq!(all, (0..=200).map(payload).collect::<Vec<_>>());
    drop(spool);
    assert_eq!(open(directory.path()).1, Recovered::default(), "what was removed stays removed");
}

#[test]
fn what_was_not_removed_comes_again() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(directory.path());
    spool.append(&[b"one"]).unwrap();
    let (first, _) = spool.first().unwrap().unwrap();
    spool.append(&[b"two"]).unwrap();
    assert_eq!(spool.first().unwrap().unwrap().0, first);
    drop(spool);
    assert_eq!(drained(&mut open(directory.path()).0), [b"one", b"two"]);
}

#[test]
fn it_is_bounded_and_takes_all_of_an_append_or_none() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = Spool::open(directory.path(), 1000).unwrap();
    spool.append(&[[1; 900]]).unwrap();
    let refused = spool.append(&[[2; 50], [3; 50]]).unwrap_err();
    assert_eq!(refused.code(), "spool_full");
    assert_eq!((spool.records(), spool.bytes()), (1, 908));
    spool.append(&[[4; 84]]).unwrap();
    assert_eq!(drained(&mut spool), [vec![1; 900], vec![4; 84]]);
    spool.check_room().unwrap();
    spool.append(&[[5; 900]]).unwrap();
    assert_eq!(spool.check_room().unwrap_err().code(), "spool_full");
    assert_eq!(spool.append(&[[]]).unwrap_err().code(), "spool_unfit");
}

#[test]
fn only_one_process_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _) = open(directory.path());
    assert!(matches!(Spool::open(directory.path(), ROOM), Err(SpoolError::InUse(_))));
    drop(spool);
    open(directory.path());
}

#[test]
fn a_torn_end_is_forgotten_and_damage_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(directory.path());
    spool.append(&[b"one", b"two"]).unwrap();
    drop(spool);
    let path = segments(directory.path(), "spool").remove(0);
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&[9, 0, 0, 0, 1, 2, 3, 4, 5]).unwrap();
    let (spool, recovered) = open(directory.path());
    assert_eq!(recovered, Recovered { records: 2, torn_bytes: 9, damaged_bytes: 0 });
    drop(spool);

    let mut bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 22, "the torn end is gone");
    bytes[20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (mut spool, recovered) = open(directory.path());
    assert_eq!(recovered, Recovered { records: 1, torn_bytes: 0, damaged_bytes: 11 });
    let aside = segments(directory.path(), "damaged").remove(0);
    assert_eq!(std::fs::read(aside).unwrap(), bytes[11..]);
    assert_eq!(drained(&mut spool), [b"one"]);
}

/// A process of the test below: appends numbers for ever and says each one that is durable.
#[test]
#[ignore = "a process of the test below"]
fn a_writer_to_be_killed() {
    let directory = std::env::var_os("SPOOL_DIRECTORY").unwrap();
    let (mut spool, _) = open(Path::new(&directory));
    let mut number = spool.records();
    loop {
        let payloads: Vec<_> = (0..3).map(|n| format!("{}", number + n).repeat(50)).collect();
        spool.append(&payloads).unwrap();
        number += 3;
        println!("durable {number}");
    }
}

#[test]
fn what_was_confirmed_survives_kills() {
    let directory = tempfile::tempdir().unwrap();
    let mut confirmed = 0;
    for round in 1..=5 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "a_writer_to_be_killed"])
            .env("SPOOL_DIRECTORY", directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(writer.stdout.take().unwrap());
        let mut numbers = said.lines().map_while(Result::ok).filter_map(|line| {
            line.strip_prefix("durable ").and_then(|number| number.parse::<u64>().ok())
        });
        let enough = confirmed + 30 * round;
        confirmed = numbers.by_ref().find(|&number| number >= enough).unwrap();
        writer.kill().unwrap();
        confirmed = numbers.last().unwrap_or(confirmed);
        writer.wait().unwrap();
        let (spool, recovered) = open(directory.path());
        assert_eq!(recovered.damaged_bytes, 0);
        assert!(spool.records() >= confirmed, "{} of {confirmed}", spool.records());
    }
    let expected = |n: usize| n.to_string().repeat(50).into_bytes();
    let all = drained(&mut open(directory.path()).0);
    assert!(all.iter().enumerate().all(|(n, payload)| *payload == expected(n)));
}
