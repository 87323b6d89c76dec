//! Opens a spool whose directory has segments with any bytes.

use std::cell::RefCell;
use std::path::Path;

use spool::{Part, Parts, Recovered, Spool};

/// The input is divided into this number of segments.
const SEGMENTS: usize = 3;
const LIMIT: u64 = 1 << 20;

thread_local! {
    static DIRECTORY: RefCell<tempfile::TempDir> =
        RefCell::new(tempfile::tempdir().expect("a directory"));
}

/// Checks that a spool can be opened with any bytes in its segments, that it returns exactly the
/// entries that [`Parts`] finds, that it keeps damaged bytes, and that opening it again repairs
/// nothing.
pub fn check(data: &[u8]) {
    DIRECTORY.with_borrow(|directory| check_in(directory.path(), data));
}

fn check_in(directory: &Path, data: &[u8]) {
    for entry in std::fs::read_dir(directory).expect("the directory") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("the entry can be removed");
    }
    let (mut expected, mut damaged, mut torn) = (Vec::new(), 0, 0);
    for (number, bytes) in data.chunks(data.len() / SEGMENTS + 1).enumerate() {
        std::fs::write(directory.join(format!("{number:020}.spool")), bytes).expect("a segment");
        let mut last = 0;
        for (_, part) in Parts::of(bytes) {
            last = 0;
            match part {
                Part::Entry(payload) => expected.push(payload.to_vec()),
                Part::Damaged(bytes) => {
                    damaged += bytes.len() as u64;
                    last = bytes.len() as u64;
                }
            }
        }
        torn = torn.max(last);
    }
    let entries = expected.len() as u64;

    let (spool, recovered) = Spool::open(directory, LIMIT).expect("the spool opens");
    assert_eq!(recovered.entries, entries);
    // Only the last part of a segment can be torn.
    assert_eq!(recovered.torn_bytes + recovered.damaged_bytes, damaged);
    assert!(recovered.torn_bytes <= SEGMENTS as u64 * torn);
    drop(spool);
    let (mut spool, reopened) = Spool::open(directory, LIMIT).expect("the spool opens again");
    assert_eq!(reopened, Recovered { torn_bytes: 0, ..recovered });
    if spool.append(&[b"new"]).is_ok() {
        expected.push(b"new".to_vec());
    }
    assert_eq!(spool.entries(), expected.len() as u64);
    assert_eq!(drain(&mut spool), (expected, recovered.damaged_bytes));
}

/// Removes all segments. Returns their entries in order, and how many bytes are damaged.
fn drain(spool: &mut Spool) -> (Vec<Vec<u8>>, u64) {
    let (mut all, mut damaged) = (Vec::new(), 0);
    while let Some((number, bytes)) = spool.first_segment().expect("a segment can be read") {
        for (_, part) in Parts::of(&bytes) {
            match part {
                Part::Entry(payload) => all.push(payload.to_vec()),
                Part::Damaged(bytes) => damaged += bytes.len() as u64,
            }
        }
        spool.remove_segment(number).expect("a segment can be removed");
    }
    assert!(spool.is_empty() && spool.bytes() == 0);
    (all, damaged)
}
