//! A spool with keys: requests are unreadable on the disk, and are published when Kafka is back.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod numbered;

use common::Ingress;
use numbered::{Numbered, assert_in_order, await_numbers, own_kafka};
use spool::{Spool, SpoolKeys};

const KEYS: &str = "spool_keys = [\"the key of these tests alone\"]\n";

#[test]
fn requests_are_encrypted_in_the_spool_and_published_in_order() {
    let (_dirs, mut kafka) = own_kafka();
    let mut ingress = Ingress::start_on(kafka.bootstrap(), KEYS);
    let mut events = Numbered::new(&ingress);
    kafka.kill().unwrap();
    assert!((0..40).all(|_| events.post(&ingress) == 200));
    let on_disk = ingress.spooled();
    assert!(on_disk.len() > 4_000, "{} bytes", on_disk.len());
    for readable in [&b"@example"[..], b"received_at", b"event"] {
        let is_there = on_disk.windows(readable.len()).any(|window| window == readable);
        assert!(!is_there, "{}", String::from_utf8_lossy(readable));
    }

    // An entry whose key this ingress does not have, and one of the time before there were keys.
    ingress.service.kill();
    let directory = ingress.service.home().join("spool");
    let other = SpoolKeys::new(["a key that nobody has any more"]).unwrap();
    let (mut spool, _) = Spool::open_sealed(&directory, u64::MAX, other).unwrap();
    spool.append(&[b"lost for now"]).unwrap();
    drop(spool);
    Spool::open(&directory, u64::MAX).unwrap().0.append(&[b"\x09\0\0\0{\"x\":\"y\"}body"]).unwrap();
    ingress.service.respawn();
    kafka.restart().unwrap();
    ingress.service.await_ready();
    let records = await_numbers(&ingress, &(0..40).collect());
    assert_in_order(&records);
    ingress.service.await_metric("mailpulse_ingress_spool_bytes", &[], |bytes| bytes == 0.0);
    for cause in ["sealed", "bad_headers"] {
        let labels = [("cause", cause)];
        let moved = ingress.service.metric("mailpulse_ingress_quarantined_total", &labels);
        assert_eq!(moved, 1.0, "{cause}");
    }
    assert!(ingress.service.log().contains("add that key to the end of the list"));
}

#[test]
fn a_short_key_is_refused_at_start() {
    let cluster = harness::Cluster::new("sealed", harness::layout(1, 1));
    let launch = harness::Launch::new("ingress", env!("CARGO_BIN_EXE_ingress"), &cluster);
    let (status, log) = launch.config("[ingress]\nspool_keys = [\"short\"]\n").run();
    assert!(!status.success() && log.contains("ingress.spool_keys"), "{log}");
    assert!(log.contains("use at least 16 random bytes"), "{log}");
}
