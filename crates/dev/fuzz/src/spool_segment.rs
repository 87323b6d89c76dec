//! Segments of the spool: bytes of any origin, and good ones that were cut or changed.

use spool::{End, FRAME_BYTES, Records};

/// Checks that what is read as a record has its checksum, and that damage to a good segment costs
/// the records from there on, never one before and never a wrong one.
pub fn check(data: &[u8]) {
    assert_framed(data);

    // The same bytes as orders: what records to write, and where to break them.
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
    assert_ne!(end, End::Damaged, "a cut is a torn write at worst");

    if let Some(changed) = segment.get(at).map(|byte| byte ^ change.max(1)) {
        let mut segment = segment;
        segment[at] = changed;
        let (found, end) = read(&segment);
        assert!(payloads.starts_with(&found) && found.len() < payloads.len());
        assert_ne!(end, End::Clean);
    }
}

/// Checks each record against the form that the spool documents, by hand.
fn assert_framed(bytes: &[u8]) {
    let mut records = Records::of(bytes);
    let mut at = 0;
    while let Some(payload) = records.next() {
        assert_eq!(&bytes[at..at + FRAME_BYTES], &frame(payload)[..], "at {at}");
        at += FRAME_BYTES;
        assert_eq!(&bytes[at..at + payload.len()], payload);
        at += payload.len();
        assert_eq!(records.read_bytes(), at);
    }
    assert_eq!(records.end() == End::Clean, at == bytes.len());
    assert!(records.next().is_none(), "it stays at its end");
}

fn read(bytes: &[u8]) -> (Vec<&[u8]>, End) {
    let mut records = Records::of(bytes);
    let found = records.by_ref().collect();
    (found, records.end())
}

/// A segment of these records.
pub fn segment(payloads: &[&[u8]]) -> Vec<u8> {
    payloads.iter().flat_map(|payload| [&frame(payload)[..], payload].concat()).collect()
}

/// Length and checksum before a payload.
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
