//! A disk that takes no more while Kafka is away: what was answered with 200 is not lost, the rest is
//! asked to come again, and with room again requests are taken as before, without a restart and without
//! a request that tries.
//!
//! Each test runs one of two parts as a process of its own, whose disk can be filled: under a largest
//! file size that is set and lifted while the ingress runs, which every system allows and which fails
//! its writes as a full disk does; and in a file system of four mebibytes, where this user may mount
//! one. Its log is on that disk, too.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;
mod numbered;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{DEADLINE, Ingress};
use numbered::{Numbered, assert_in_order, await_numbers, own_kafka};

/// A disk that can be full.
enum Disk {
    /// No file of the ingress may be longer than a few bytes.
    Limited,
    /// A small file system, mounted here.
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

    fn make_room(&self, ingress: &Ingress) {
        match self {
            Self::Limited => limit(ingress, "unlimited"),
            Self::Mounted(at) => std::fs::remove_file(at.join("ballast")).unwrap(),
        }
    }
}

/// Sets the largest file the ingress may write, in bytes.
fn limit(ingress: &Ingress, bytes: &str) {
    let pid = ingress.child.pid().to_string();
    let limit = format!("--fsize={bytes}:");
    assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
}

/// Posts events and keeps the book of those that were taken.
struct Book {
    events: Numbered,
    posted: u64,
    taken: BTreeSet<u64>,
}

impl Book {
    /// Posts so many; returns how many were taken. The others were asked to come again.
    fn post(&mut self, ingress: &Ingress, count: usize) -> usize {
        let before = self.taken.len();
        for _ in 0..count {
            let answer = self.events.answer(ingress);
            match answer.status {
                200 => _ = self.taken.insert(self.posted),
                503 => {
                    assert_eq!(answer.json()["code"], "spool_failed");
                    assert!(answer.text.to_ascii_lowercase().contains("retry-after: "));
                }
                _ => panic!("{}", answer.text),
            }
            self.posted += 1;
        }
        self.taken.len() - before
    }
}

fn survive(disk: &Disk) {
    let (_dirs, mut kafka) = own_kafka();
    let mut ingress = Ingress::start_with(kafka.bootstrap(), "spool_bytes = 1073741824");
    let events = Numbered::new(&ingress);
    let mut book = Book { events, posted: 0, taken: BTreeSet::new() };
    kafka.kill().unwrap();
    assert_eq!(book.post(&ingress, 10), 10, "there is room");

    disk.fill(&ingress);
    // A block that is there already may still take some.
    assert!(book.post(&ingress, 40) < 10);
    assert_eq!(book.post(&ingress, 40), 0, "the disk is full");
    until("a balancer sends requests elsewhere", || !ingress.is_ready());

    // A process that starts on the full disk fares no worse.
    ingress.kill_and_start();
    disk.fill(&ingress);
    assert_eq!(book.post(&ingress, 40), 0, "the disk is still full");
    until("a balancer sends requests elsewhere", || !ingress.is_ready());

    disk.make_room(&ingress);
    until("it sees for itself that there is room", || ingress.is_ready());
    assert_eq!(book.post(&ingress, 10), 10, "there is room again");

    kafka.restart().unwrap();
    until("a balancer sends requests here", || ingress.is_ready());
    assert_in_order(&await_numbers(&ingress, &book.taken));
    until("all is handed on", || ingress.metric("mailpulse_ingress_spool_bytes") == 0.0);
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "a process of the test below"]
fn with_writes_that_fail() {
    survive(&Disk::Limited);
}

#[test]
fn writes_that_fail_lose_nothing_that_was_taken() {
    // A signal that is ignored stays so in the ingress, whose writes then fail (EFBIG).
    run(&["sh", "-c"], "trap '' XFSZ;", "with_writes_that_fail");
}

#[test]
#[ignore = "a process of the test below"]
fn with_a_disk_that_fills() {
    survive(&Disk::Mounted(std::env::temp_dir()));
}

#[test]
fn a_full_disk_loses_nothing_that_was_taken() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().display();
    let mount = format!("mount -t tmpfs -o size=4m disk {here} && export TMPDIR={here} &&");
    let inside = ["unshare", "-rm", "sh", "-c"];
    let tried = shell(&inside, &format!("{mount} true")).stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        // The same writes fail in the test above, for another reason.
        return eprintln!("no file system can be mounted here: not tried on a full one");
    }
    run(&inside, &mount, "with_a_disk_that_fills");
}

/// Runs the ignored test `part` of this file by a shell that was told `before`.
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
