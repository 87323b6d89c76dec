//! Opens a spool whose directory has segments with any bytes.

use std::cell::RefCell;
use std::path::Path;

use spool::{End, Entries, Recovered, Spool};

/// The input is divided into this number of segments.
const SEGMENTS: usize = 3;
const LIMIT: u64 = 1 << 20;

thread_local! {
    static DIRECTORY: RefCell<tempfile::TempDir> =
        RefCell::new(tempfile::tempdir().expect("a directory"));
}

/// Checks that a spool can be opened with any bytes in its segments, that it returns exactly the
/// entries that [`Entries`] finds, that it keeps damaged bytes in other files, and that opening it
/// again repairs nothing.
pub fn check(data: &[u8]) {
    DIRECTORY.with_borrow(|directory| check_in(directory.path(), data));
}

fn check_in(directory: &Path, data: &[u8]) {
    for entry in std::fs::read_dir(directory).expect("the directory") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("the entry can be removed");
    }
    let mut expected = Vec::new();
    let mut expected_report = Recovered::default();
    for (number, bytes) in data.chunks(data.len() / SEGMENTS + 1).enumerate() {
        std::fs::write(directory.join(format!("{number:020}.spool")), bytes).expect("a segment");
        let mut entries = Entries::of(bytes);
        expected.extend(entries.by_ref().map(<[u8]>::to_vec));
        let rest = (bytes.len() - entries.read_bytes()) as u64;
        match entries.end() {
            End::Clean => {}
            End::Torn => expected_report.torn_bytes += rest,
            End::Damaged => expected_report.damaged_bytes += rest,
        }
    }
    expected_report.entries = expected.len() as u64;

    let (spool, recovered) = Spool::open(directory, LIMIT).expect("the spool opens");
    assert_eq!(recovered, expected_report);
    drop(spool);
    let (mut spool, reopened) = Spool::open(directory, LIMIT).expect("the spool opens again");
    assert_eq!(reopened, Recovered { entries: expected_report.entries, ..Recovered::default() });
    if spool.append(&[b"new"]).is_ok() {
        expected.push(b"new".to_vec());
    }
    assert_eq!(spool.entries(), expected.len() as u64);
    assert_eq!(drain(&mut spool), expected);
    let damaged_bytes: u64 = std::fs::read_dir(directory)
        .expect("the directory")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().extension().is_some_and(|found| found == "damaged"))
        .map(|entry| entry.metadata().expect("a length").len())
        .sum();
    assert_eq!(damaged_bytes, expected_report.damaged_bytes);
}

/// Removes and returns all entries in order.
fn drain(spool: &mut Spool) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some((number, bytes)) = spool.first_segment().expect("a segment can be read") {
        all.extend(Entries::of(&bytes).map(<[u8]>::to_vec));
        spool.remove_segment(number).expect("a segment can be removed");
    }
    assert!(spool.is_empty() && spool.bytes() == 0);
    all
}
