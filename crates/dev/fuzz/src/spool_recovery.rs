//! A spool opened on whatever a former process may have left in its directory.

use std::cell::RefCell;
use std::path::Path;

use spool::{End, Records, Recovered, Spool};

/// How many segments the bytes are divided into.
const SEGMENTS: usize = 3;
const LIMIT: u64 = 1 << 20;

thread_local! {
    static DIRECTORY: RefCell<tempfile::TempDir> =
        RefCell::new(tempfile::tempdir().expect("a directory"));
}

/// Checks that a spool opens on any bytes in its segments, hands out exactly the records that
/// [`Records`] finds in each, sets aside what was once confirmed, and leaves nothing to mend for
/// the next to open it.
pub fn check(data: &[u8]) {
    DIRECTORY.with_borrow(|directory| check_in(directory.path(), data));
}

fn check_in(directory: &Path, data: &[u8]) {
    for entry in std::fs::read_dir(directory).expect("the directory") {
        std::fs::remove_file(entry.expect("its entry").path()).expect("an empty directory");
    }
    let mut expected = Vec::new();
    let mut left = Recovered::default();
    for (number, bytes) in data.chunks(data.len() / SEGMENTS + 1).enumerate() {
        std::fs::write(directory.join(format!("{number:020}.spool")), bytes).expect("a segment");
        let mut records = Records::of(bytes);
        expected.extend(records.by_ref().map(<[u8]>::to_vec));
        let rest = (bytes.len() - records.read_bytes()) as u64;
        match records.end() {
            End::Clean => {}
            End::Torn => left.torn_bytes += rest,
            End::Damaged => left.damaged_bytes += rest,
        }
    }
    left.records = expected.len() as u64;

    let (spool, recovered) = Spool::open(directory, LIMIT).expect("it opens");
    assert_eq!(recovered, left);
    drop(spool);
    let (mut spool, again) = Spool::open(directory, LIMIT).expect("it opens again");
    assert_eq!(again, Recovered { records: left.records, ..Recovered::default() });
    if spool.append(&[b"new"]).is_ok() {
        expected.push(b"new".to_vec());
    }
    assert_eq!(spool.records(), expected.len() as u64);
    assert_eq!(drained(&mut spool), expected);
    let set_aside: u64 = std::fs::read_dir(directory)
        .expect("the directory")
        .map(|entry| entry.expect("its entry"))
        .filter(|entry| entry.path().extension().is_some_and(|found| found == "damaged"))
        .map(|entry| entry.metadata().expect("its length").len())
        .sum();
    assert_eq!(set_aside, left.damaged_bytes);
}

/// Takes everything out, in order.
fn drained(spool: &mut Spool) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some((number, bytes)) = spool.first().expect("it reads") {
        all.extend(Records::of(&bytes).map(<[u8]>::to_vec));
        spool.remove(number).expect("it removes");
    }
    assert!(spool.is_empty() && spool.bytes() == 0);
    all
}
