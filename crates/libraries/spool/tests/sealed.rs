//! With keys, nothing of a payload is readable on the disk, and without the right key nothing is lost.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use spool::{Cause, Part, Parts, QuarantinedItem, Spool, SpoolKeys, is_sealed};

const OLD: &str = "the old key of the tests";
const NEW: &str = "the new key of the tests";

fn keys(secrets: &[&str]) -> SpoolKeys {
    SpoolKeys::new(secrets.iter().copied()).unwrap()
}

fn open(directory: &Path, secrets: &[&str]) -> Spool {
    Spool::open_sealed(directory, 1 << 20, keys(secrets)).unwrap().0
}

/// Returns the payloads of the first segment, and the offset of each.
fn payloads(spool: &mut Spool) -> Vec<(usize, Vec<u8>)> {
    let (_, bytes) = spool.first_segment().unwrap().unwrap();
    let part = |(offset, part): (usize, Part<'_>)| match part {
        Part::Entry(payload) => (offset, payload.to_vec()),
        Part::Damaged(bytes) => panic!("damaged: {bytes:?}"),
    };
    Parts::of(&bytes).map(part).collect()
}

/// Returns everything in the directory and its folders.
fn on_disk(directory: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(on_disk(&path));
        } else {
            all.extend(std::fs::read(path).unwrap());
        }
    }
    all
}

fn names(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[test]
fn payloads_are_unreadable_on_the_disk_and_survive_a_rotation() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    open(path, &[]).append(&[b"plain ada@example.com"]).unwrap();
    assert!(names(&on_disk(path), b"ada@"), "the search works");
    let mut first = open(path, &[]);
    let number = first.first_segment().unwrap().unwrap().0;
    first.remove_segment(number).unwrap();
    drop(first);

    open(path, &[OLD]).append(&[b"one ada@example.com"]).unwrap();
    open(path, &[NEW, OLD]).append(&[&b"two ada@example.com"[..], b"three"]).unwrap();
    assert!(!names(&on_disk(path), b"ada@"));
    let mut spool = open(path, &[NEW, OLD]);
    let (number, _) = spool.first_segment().unwrap().unwrap();
    assert_eq!(payloads(&mut spool)[0].1, b"one ada@example.com");
    spool.remove_segment(number).unwrap();
    let read: Vec<_> = payloads(&mut spool).into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(read, [&b"two ada@example.com"[..], b"three"]);
    spool.quarantine(9, 0, Cause::BadHeaders, b"ada@example.com").unwrap();
    assert!(!names(&on_disk(path), b"ada@"), "the quarantine is encrypted too");
}

#[test]
fn plain_segments_of_an_earlier_release_stay_readable() {
    let directory = tempfile::tempdir().unwrap();
    Spool::open(directory.path(), 1 << 20).unwrap().0.append(&[&b"plain"[..], b"too"]).unwrap();
    let mut spool = open(directory.path(), &[NEW]);
    assert_eq!(payloads(&mut spool), [(0, b"plain".to_vec()), (13, b"too".to_vec())]);
}

#[test]
fn an_entry_without_its_key_stays_encrypted_until_the_key_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    open(path, &[OLD]).append(&[b"request"]).unwrap();
    let mut spool = open(path, &[NEW]);
    let (number, _) = spool.first_segment().unwrap().unwrap();
    let (offset, sealed) = payloads(&mut spool).remove(0);
    assert!(is_sealed(&sealed));
    spool.quarantine(number, offset, Cause::Sealed, &sealed).unwrap();
    spool.remove_segment(number).unwrap();
    drop(spool);

    let mut spool = open(path, &[NEW, OLD]);
    let item = QuarantinedItem::all(path).unwrap().remove(0);
    assert_eq!(item.cause, Cause::Sealed);
    let payload = keys(&[NEW, OLD]).open(&item.read().unwrap()).unwrap().into_owned();
    spool.readmit(&item, &payload).unwrap();
    assert_eq!(payloads(&mut spool), [(0, b"request".to_vec())]);
    assert_eq!(spool.quarantined().items, 0);
}

#[test]
fn a_changed_entry_beside_good_ones_costs_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    open(path, &[NEW]).append(&[&b"one"[..], b"two", b"three"]).unwrap();
    let file = path.join(format!("{:020}.spool", 0));
    let mut bytes = std::fs::read(&file).unwrap();
    let (second, _) = Parts::of(&bytes).nth(1).unwrap();
    bytes[second + 40] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let mut spool = open(path, &[NEW]);
    let (_, segment) = spool.first_segment().unwrap().unwrap();
    let parts: Vec<_> = Parts::of(&segment).map(|(_, part)| part).collect();
    assert!(matches!(parts[..], [Part::Entry(b"one"), Part::Damaged(_), Part::Entry(b"three")]));
}
