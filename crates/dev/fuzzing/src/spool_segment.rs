//! Segments of the spool: arbitrary bytes, and valid segments that were truncated or changed.

use spool::{End, Entries, FRAME_BYTES};

/// Checks that every entry has the right checksum. Also checks that damage to a valid segment loses
/// only entries from the damaged one on, and never returns a wrong entry.
pub fn check(data: &[u8]) {
    check_frames(data);

    // The same bytes also determine which entries to write, and where to damage them.
    let Some((&[at_high, at_low, change], payloads)) = data.split_first_chunk::<3>() else {
        return;
    };
    let payloads: Vec<&[u8]> =
        payloads.split(|&byte| byte == 0).filter(|payload| !payload.is_empty()).collect();
    let segment = segment(&payloads);
    assert_eq!(read(&segment), (payloads.clone(), End::Clean));
    let at = usize::from(u16::from_be_bytes([at_high, at_low])) % (segment.len() + 1);

    let (found, end) = read(&segment[..at]);
    assert!(payloads.starts_with(&found));
    assert_ne!(end, End::Damaged, "a truncated segment is not damaged");

    if let Some(changed) = segment.get(at).map(|byte| byte ^ change.max(1)) {
        let mut segment = segment;
        segment[at] = changed;
        let (found, end) = read(&segment);
        assert!(payloads.starts_with(&found) && found.len() < payloads.len());
        assert_ne!(end, End::Clean);
    }
}

/// Checks the frame of each entry against the documented format.
fn check_frames(bytes: &[u8]) {
    let mut entries = Entries::of(bytes);
    let mut at = 0;
    while let Some(payload) = entries.next() {
        assert_eq!(&bytes[at..at + FRAME_BYTES], &frame(payload)[..], "at {at}");
        at += FRAME_BYTES;
        assert_eq!(&bytes[at..at + payload.len()], payload);
        at += payload.len();
        assert_eq!(entries.read_bytes(), at);
    }
    assert_eq!(entries.end() == End::Clean, at == bytes.len());
    assert!(entries.next().is_none(), "an iterator stays at its end");
}

fn read(bytes: &[u8]) -> (Vec<&[u8]>, End) {
    let mut entries = Entries::of(bytes);
    let found = entries.by_ref().collect();
    (found, entries.end())
}

/// Returns a segment with these entries.
pub fn segment(payloads: &[&[u8]]) -> Vec<u8> {
    payloads.iter().flat_map(|payload| [&frame(payload)[..], payload].concat()).collect()
}

/// Returns the length and the checksum that precede a payload.
fn frame(payload: &[u8]) -> [u8; FRAME_BYTES] {
    let length = (payload.len() as u32).to_le_bytes();
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&length);
    checksum.update(payload);
    let mut frame = [0; FRAME_BYTES];
    frame[..4].copy_from_slice(&length);
    frame[4..].copy_from_slice(&checksum.finalize().to_le_bytes());
    frame
}
