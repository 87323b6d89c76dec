//! A disk that becomes full while Kafka is away. No request that was answered with 200 is lost, all
//! others get 503, and once the disk has space again requests are accepted as before, without a
//! restart and without a request that has to fail first.
//!
//! Each test runs one of the two ignored tests in a child process, whose disk it can fill:
//! - with a limit on the size of files, which is set and removed while the ingress runs. Every system
//!   allows this, and writes fail as they do on a full disk.
//! - in a file system of four mebibytes, if this user may mount one. The log is in it as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod numbered;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::Ingress;
use numbered::{Numbered, assert_in_order, await_numbers, own_kafka};

/// A disk that can become full.
enum Disk {
    /// No file of the ingress may be longer than a few bytes.
    Limited,
    /// A small file system, mounted at this path.
    Mounted(PathBuf),
}

impl Disk {
    fn fill(&self, ingress: &Ingress) {
        match self {
            Self::Limited => limit(ingress, "64"),
            Self::Mounted(at) => {
                let ballast = at.join("ballast");
                let mut ballast = File::options().create(true).append(true).open(ballast).unwrap();
                while ballast.write_all(&[1; 4096]).is_ok() {}
            }
        }
    }

    fn make_space(&self, ingress: &Ingress) {
        match self {
            Self::Limited => limit(ingress, "unlimited"),
            Self::Mounted(at) => std::fs::remove_file(at.join("ballast")).unwrap(),
        }
    }
}

/// Sets the size of the largest file that the ingress may write, in bytes.
fn limit(ingress: &Ingress, bytes: &str) {
    let pid = ingress.service.pid().to_string();
    let limit = format!("--fsize={bytes}:");
    assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
}

/// Posts numbered events and remembers which were accepted.
struct Poster {
    events: Numbered,
    posted: u64,
    accepted: BTreeSet<u64>,
}

impl Poster {
    /// Posts `count` events and returns how many were accepted. The provider is asked to retry the
    /// others.
    fn post(&mut self, ingress: &Ingress, count: usize) -> usize {
        let before = self.accepted.len();
        for _ in 0..count {
            let response = self.events.post_for_response(ingress);
            match response.status {
                200 => _ = self.accepted.insert(self.posted),
                503 => {
                    assert_eq!(response.json()["code"], "spool_failed");
                    assert!(response.header("retry-after").is_some(), "{}", response.text);
                }
                _ => panic!("{}", response.text),
            }
            self.posted += 1;
        }
        self.accepted.len() - before
    }
}

fn survive(disk: &Disk) {
    let (_dirs, mut kafka) = own_kafka();
    let mut ingress = Ingress::start_on(kafka.bootstrap(), "spool_bytes = 1073741824");
    let events = Numbered::new(&ingress);
    let mut poster = Poster { events, posted: 0, accepted: BTreeSet::new() };
    kafka.kill().unwrap();
    assert_eq!(poster.post(&ingress, 10), 10, "the disk has space");

    disk.fill(&ingress);
    // A block that is already allocated may have space for some.
    assert!(poster.post(&ingress, 40) < 10);
    assert_eq!(poster.post(&ingress, 40), 0, "the disk is full");
    ingress.service.await_unready("");

    // A process that starts on the full disk behaves in the same way.
    ingress.kill_and_start();
    disk.fill(&ingress);
    assert_eq!(poster.post(&ingress, 40), 0, "the disk is still full");
    ingress.service.await_unready("");

    disk.make_space(&ingress);
    // The ingress finds out by itself that there is space.
    ingress.service.await_ready();
    assert_eq!(poster.post(&ingress, 10), 10, "the disk has space again");

    kafka.restart().unwrap();
    ingress.service.await_ready();
    assert_in_order(&await_numbers(&ingress, &poster.accepted));
    ingress.service.await_metric("mailpulse_ingress_spool_bytes", &[], |bytes| bytes == 0.0);
}

#[test]
#[ignore = "run by writes_that_fail_lose_nothing_that_was_accepted"]
fn with_writes_that_fail() {
    survive(&Disk::Limited);
}

#[test]
fn writes_that_fail_lose_nothing_that_was_accepted() {
    // The ingress inherits that the signal is ignored; its writes then fail with EFBIG.
    run(&["sh", "-c"], "trap '' XFSZ;", "with_writes_that_fail");
}

#[test]
#[ignore = "run by a_full_disk_loses_nothing_that_was_accepted"]
fn with_a_disk_that_fills() {
    survive(&Disk::Mounted(std::env::temp_dir()));
}

#[test]
fn a_full_disk_loses_nothing_that_was_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let mount = format!("mount -t tmpfs -o size=4m disk {path} && export TMPDIR={path} &&");
    let inside = ["unshare", "-rm", "sh", "-c"];
    let tried = shell(&inside, &format!("{mount} true")).stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        // The same writes fail in the test above, for another reason.
        return eprintln!("skipped: this user cannot mount a file system");
    }
    run(&inside, &mount, "with_a_disk_that_fills");
}

/// Runs the ignored test `part` of this file in a shell, after the commands `before`.
fn run(inside: &[&str], before: &str, part: &str) {
    let command = format!("{before} exec \"$0\" --exact --ignored --nocapture {part}");
    let output = shell(inside, &command).arg(std::env::current_exe().unwrap()).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{error}");
}

fn shell(inside: &[&str], command: &str) -> Command {
    let mut shell = Command::new(inside[0]);
    shell.args(&inside[1..]).arg(command);
    shell
}
