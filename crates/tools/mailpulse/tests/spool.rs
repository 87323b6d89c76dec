//! `mailpulse spool` on spools with pending, damaged and unreadable entries.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tool;

use std::path::PathBuf;

use event::{Provider, ReceivedAt};
use record::RawHeaders;
use spool::{Cause, FRAME_BYTES, Part, Parts, Quarantined, Spool, SpoolKeys};
use tool::{Output, Tool};

const UNREADABLE: &[u8] = b"\x09\0\0\0{\"x\":\"y\"}body";

fn entry(request_id: &str) -> Vec<u8> {
    let headers = RawHeaders {
        provider: Provider::Mailgun,
        source: "shop",
        received_at: ReceivedAt(1_795_255_200_123_456),
        request_id,
        authentic: true,
    };
    spool::request::encode(&headers, b"{\"event\":\x1b[31m}").unwrap()
}

/// A spool with three pending entries, of which the last has headers that cannot be read. In
/// quarantine are a damaged entry (0/100), another whose length is damaged (0/200), and one with bad
/// headers (0/300).
struct Setup {
    tool: Tool,
}

impl Setup {
    fn new() -> Self {
        let setup = Self { tool: Tool::new() };
        setup.tool.write("mailpulse.toml", "[ingress]\nspool_directory = \"spool\"\n");
        let (mut spool, _) = Spool::open(&setup.directory(), u64::MAX).unwrap();
        spool.append(&[entry("r1"), entry("r2"), UNREADABLE.to_vec()]).unwrap();
        let frame =
            |payload: &[u8]| [&(payload.len() as u32).to_le_bytes(), &[0; 4], payload].concat();
        let damaged = frame(&entry("r3"));
        spool.quarantine(0, 100, Cause::Damaged, &damaged).unwrap();
        spool.quarantine(0, 200, Cause::Damaged, &damaged[..damaged.len() - 1]).unwrap();
        spool.quarantine(0, 300, Cause::BadHeaders, UNREADABLE).unwrap();
        setup
    }

    fn directory(&self) -> PathBuf {
        self.tool.path("spool")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.tool.run(&[&["spool"], arguments].concat())
    }

    /// Returns the payloads of all pending entries.
    fn pending(&self) -> Vec<Vec<u8>> {
        let directory = self.directory();
        let mut payloads = Vec::new();
        for number in spool::pending_segments(&directory).unwrap() {
            let segment = spool::read_segment(&directory, number).unwrap().unwrap();
            payloads.extend(Parts::of(&segment).map(|(_, part)| match part {
                Part::Entry(payload) => payload.to_vec(),
                Part::Damaged(bytes) => panic!("damaged: {bytes:?}"),
            }));
        }
        payloads
    }

    fn quarantined(&self) -> u64 {
        let (spool, _) = Spool::open(&self.directory(), u64::MAX).unwrap();
        let Quarantined { items, .. } = spool.quarantined();
        items
    }
}

#[test]
fn pending_and_quarantined_entries_are_listed_while_the_ingress_runs() {
    let setup = Setup::new();
    // As the ingress does while it runs.
    let (_lock, _) = Spool::open(&setup.directory(), u64::MAX).unwrap();
    let segments = setup.run(&["ls"]);
    assert_eq!(segments.code, 0, "{segments:?}");
    assert_eq!(segments.text.lines().count(), 4, "{}", segments.text);
    assert!(segments.text.starts_with("0 ") && segments.text.contains("3 entries"));
    assert!(segments.err.starts_with("3 pending, "), "{}", segments.err);
    assert!(segments.err.contains("3 in quarantine"), "{}", segments.err);

    let entries = setup.run(&["ls", "--entries", "--json"]);
    let rows: Vec<serde_json::Value> =
        entries.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |key: &str| -> Vec<String> {
        rows.iter().map(|row| row[key].as_str().unwrap_or("-").to_owned()).collect()
    };
    let states = ["pending", "pending", "unreadable", "quarantined", "quarantined", "quarantined"];
    assert_eq!(of("state"), states);
    assert_eq!(of("cause"), ["-", "-", "bad_headers", "damaged", "damaged", "bad_headers"]);
    assert_eq!(of("request_id"), ["r1", "r2", "-", "r3", "-", "-"]);
    assert_eq!(of("received_at")[0], "2026-11-21T10:00:00.123Z");
    let second = (FRAME_BYTES + entry("r1").len()).to_string();
    assert_eq!(of("id")[1], format!("0/{second}"));
    assert_eq!(setup.pending().len(), 3, "nothing has changed");
}

#[test]
fn an_entry_is_shown_with_its_headers_and_the_fix() {
    let setup = Setup::new();
    let (_lock, _) = Spool::open(&setup.directory(), u64::MAX).unwrap();
    let pending = setup.run(&["show", "0/0"]);
    assert_eq!(pending.code, 0, "{pending:?}");
    for words in ["pending", "waits for Kafka", "mailgun", "shop", "r1", "\\u{1b}[31m"] {
        assert!(pending.text.contains(words), "{words} in {}", pending.text);
    }
    let damaged = setup.run(&["show", "0/100"]);
    for words in ["quarantined", "damaged", "checksum", "--accept-damage", "r3"] {
        assert!(damaged.text.contains(words), "{words} in {}", damaged.text);
    }
    assert!(setup.run(&["show", "0/200"]).text.contains("cannot be redriven"));
    assert!(setup.run(&["show", "0/300"]).text.contains("another release"));
    assert_eq!(setup.run(&["show", "0/0", "--raw"]).out, b"{\"event\":\x1b[31m}");
    assert_eq!(setup.run(&["show", "0/300", "--raw"]).out, UNREADABLE);
    let missing = setup.run(&["show", "7/0"]);
    assert_eq!((missing.code, missing.text.as_str()), (1, ""), "{missing:?}");
}

#[test]
fn redrive_needs_the_spool_for_itself() {
    let setup = Setup::new();
    let (lock, _) = Spool::open(&setup.directory(), u64::MAX).unwrap();
    let refused = setup.run(&["redrive", "--all", "--accept-damage"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("stop the ingress first"), "{}", refused.err);
    drop(lock);
    assert_eq!((setup.pending().len(), setup.quarantined()), (3, 3));
}

#[test]
fn what_can_be_read_is_redriven_once() {
    let setup = Setup::new();
    let careful = setup.run(&["redrive", "0/100"]);
    assert_eq!(careful.code, 1, "{careful:?}");
    assert!(careful.text.contains("--accept-damage"), "{}", careful.text);
    let preview = setup.run(&["redrive", "--all", "--accept-damage", "--dry-run"]);
    assert!(preview.err.contains("1 would be redriven, 2 not redriven"), "{}", preview.err);
    assert_eq!((setup.pending().len(), setup.quarantined()), (3, 3), "nothing has changed");

    let redriven = setup.run(&["redrive", "0/100", "--accept-damage"]);
    assert_eq!(redriven.code, 0, "{redriven:?}");
    let expected = [entry("r1"), entry("r2"), UNREADABLE.to_vec(), entry("r3")];
    assert_eq!((setup.pending(), setup.quarantined()), (expected.to_vec(), 2));

    let again = setup.run(&["redrive", "0/100", "--accept-damage"]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.text.contains("not in quarantine"), "{}", again.text);
    assert_eq!(setup.pending().len(), 4);
}

#[test]
fn a_missing_spool_and_an_invalid_id_are_errors_of_the_arguments() {
    let tool = Tool::new();
    let missing = tool.run(&["spool", "ls", "--directory", "nowhere"]);
    assert_eq!(missing.code, 2, "{missing:?}");
    assert!(missing.err.contains("nowhere") && missing.err.contains("--directory"));
    assert_eq!(tool.run(&["spool", "show", "12", "--directory", "."]).code, 2);
    assert_eq!(tool.run(&["spool", "redrive", "--directory", "."]).code, 2);
}

#[test]
fn an_encrypted_entry_is_shown_and_redriven_with_its_key() {
    let setup = Setup { tool: Tool::new() };
    let keys = |secret| SpoolKeys::new([secret]).unwrap();
    let (old, new) = ("the old key of the tests", "the new key of the tests");
    let settings = |keys: &str| {
        let toml = format!("[ingress]\nspool_directory = \"spool\"\nspool_keys = [{keys}]\n");
        setup.tool.write("mailpulse.toml", toml);
    };
    settings(&format!("{new:?}"));
    let (mut spool, _) = Spool::open_sealed(&setup.directory(), u64::MAX, keys(new)).unwrap();
    spool.append(&[entry("r1")]).unwrap();
    let sealed = keys(old).seal(&entry("r2")).unwrap().into_owned();
    spool.quarantine(0, 400, Cause::Sealed, &sealed).unwrap();
    drop(spool);

    let listed = setup.run(&["ls", "--entries"]);
    assert!(listed.text.contains("mailgun/shop r1"), "{listed:?}");
    let shown = setup.run(&["show", "0/400"]);
    assert!(shown.text.contains("add the key that encrypted it to the end of"), "{shown:?}");
    let stays = setup.run(&["redrive", "0/400"]);
    assert_eq!(stays.code, 1, "{stays:?}");
    assert!(stays.text.contains("no key of ingress.spool_keys decrypts it"), "{stays:?}");

    settings(&format!("{new:?}, {old:?}"));
    assert!(setup.run(&["show", "0/400"]).text.contains("request-id   r2"));
    assert_eq!(setup.run(&["redrive", "0/400"]).code, 0);
    let plain: Vec<_> = setup
        .pending()
        .iter()
        .map(|payload| keys(new).open(payload).unwrap().into_owned())
        .collect();
    assert_eq!(plain, [entry("r1"), entry("r2")]);
}

#[test]
fn drain_waits_until_the_ingress_has_published_everything() {
    let setup = Setup::new();
    let left = setup.run(&["drain", "--wait", "1s"]);
    assert_eq!(left.code, 1, "{left:?}");
    assert!(left.err.contains("waiting until the ingress has published 3 entries"), "{}", left.err);
    assert!(left.err.contains("3 entries are still in the spool after 1 s"), "{}", left.err);
    assert_eq!(setup.pending().len(), 3, "nothing has changed");

    // What the ingress does while the command waits: it removes the segment that it has published.
    let directory = setup.directory();
    let publishing = std::thread::spawn(move || {
        let (mut spool, _) = Spool::open(&directory, u64::MAX).unwrap();
        while let Some((number, _)) = spool.first_segment().unwrap() {
            spool.remove_segment(number).unwrap();
        }
    });
    let drained = setup.run(&["drain", "--wait", "60s"]);
    publishing.join().unwrap();
    assert_eq!(drained.code, 1, "{drained:?}");
    assert!(
        drained.err.contains("nothing is pending, but 3 items are in quarantine"),
        "{}",
        drained.err
    );

    std::fs::remove_dir_all(setup.directory().join("quarantine")).unwrap();
    let empty = setup.run(&["drain"]);
    assert_eq!((empty.code, empty.err.as_str()), (0, "the spool is empty\n"), "{empty:?}");
}
