//! The channel `email` against a real SMTP server (Python's aiosmtpd), with and without TLS.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods, reason = "the header Date is now")]

mod support;

use std::process::Command;
use std::time::Duration;

use alerting::Change::{Escalated, Opened, Resolved};
use devstack::process::{self, Child};
use harness::{DEADLINE, eventually, free_port, seen};
use notify::delivery::Retry;
use serde_json::Value;
use support::{await_done, await_undeliverable, delivery_settings, received, start};

const RETRY: Retry = Retry {
    min: Duration::from_millis(50),
    max: Duration::from_millis(200),
    give_up_after: DEADLINE,
};

/// An SMTP server that writes each e-mail to its log as one line of JSON.
struct Mailbox {
    _process: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Mailbox {
    /// `mode` is `none`, `starttls`, `tls`, `rejecting` (5xx) or `busy` (4xx to the first e-mail).
    fn start(mode: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("ca.pem"), certified.cert.pem()).unwrap();
        std::fs::write(path("key.pem"), certified.signing_key.serialize_pem()).unwrap();
        let port = free_port();
        let mut command = Command::new(fetch::aiosmtpd(&fetch::cache()).unwrap());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mailbox.py");
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.arg(script).args([mode, &port.to_string()]).arg(directory.path());
        let child = process::spawn(command, &path("log")).unwrap();
        let mailbox = Self { _process: child, port, directory };
        eventually("the SMTP server to listen", DEADLINE, || {
            seen(mailbox.log(), |log| log.contains("listening"))
        });
        mailbox
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn mails(&self) -> Vec<Value> {
        let log = self.log();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn channel(&self, host: &str, more: &str) -> String {
        format!(
            r#"{{ kind = "email", name = "mail", host = "{host}", port = {}, from = "Mailpulse <alerts@news.example>", to = ["On call <oncall@acme.example>", "second@acme.example"], allow_private = true{more} }}"#,
            self.port
        )
    }

    fn ca_file(&self) -> String {
        self.directory.path().join("ca.pem").display().to_string()
    }
}

#[test]
fn an_incident_is_one_thread() {
    let mailbox = Mailbox::start("none");
    let channel = mailbox.channel("127.0.0.1", r#", encryption = "none""#);
    let (mut deliveries, _) = start(&[channel], delivery_settings(RETRY));
    for (seq, change) in (1..).zip([Opened, Escalated, Resolved]) {
        deliveries.send(received(change, seq, "acme", i64::from(seq)));
        assert_eq!(await_done(&mut deliveries), i64::from(seq));
    }
    let mails = mailbox.mails();
    assert_eq!(mails.len(), 3, "{}", mailbox.log());
    let header = |n: usize, name: &str| mails[n]["headers"][name].as_str().unwrap_or("").to_owned();
    let root = header(0, "Message-ID");
    assert!(root.ends_with("@news.example>"), "{root}");
    assert_eq!((header(0, "In-Reply-To"), header(0, "References")), (String::new(), String::new()));
    for n in 1..3 {
        assert_eq!(
            (header(n, "In-Reply-To"), header(n, "References")),
            (root.clone(), root.clone())
        );
        assert_eq!(header(n, "Subject"), header(0, "Subject"));
        assert_ne!(header(n, "Message-ID"), header(n - 1, "Message-ID"));
    }
    assert!(header(0, "Subject").starts_with("[Mailpulse] acme at sendgrid: bounces, incident "));
    assert_eq!(header(0, "From"), "Mailpulse <alerts@news.example>");
    assert_eq!(header(0, "Auto-Submitted"), "auto-generated");
    assert_eq!(header(1, "X-Mailpulse-Severity"), "page");
    assert!(!header(0, "Date").is_empty());
    assert_eq!(mails[0]["to"], serde_json::json!(["oncall@acme.example", "second@acme.example"]));
    let body = |n: usize| mails[n]["body"].as_str().unwrap();
    assert!(body(0).starts_with("[WARNING] acme at SendGrid: hard bounces 16.4 %"), "{}", body(0));
    assert!(body(1).starts_with("Now worse: [PAGE]"), "{}", body(1));
    assert!(body(2).starts_with("[RESOLVED]"), "{}", body(2));
}

#[test]
fn tls_is_verified_and_the_login_is_sent_after_it() {
    for mode in ["starttls", "tls"] {
        let mailbox = Mailbox::start(mode);
        let login = format!(
            r#", encryption = "{mode}", user = "mailpulse", password = "an invented password", ca_file = "{}""#,
            mailbox.ca_file()
        );
        let channel = mailbox.channel("localhost", &login);
        let (mut deliveries, _) = start(&[channel], delivery_settings(RETRY));
        deliveries.send(received(Opened, 1, "acme", 1));
        assert_eq!(await_done(&mut deliveries), 1, "{mode}");
        let mails = mailbox.mails();
        assert_eq!(mails.len(), 1, "{mode}: {}", mailbox.log());
        assert_eq!(mails[0]["login"], "mailpulse", "{mode}");
        assert_eq!(mails[0]["tls"], true, "{mode}");

        // An authority that is not known, and a name that is not in the certificate.
        let unknown = mailbox.channel("localhost", &format!(r#", encryption = "{mode}""#));
        let other = format!(r#", encryption = "{mode}", ca_file = "{}""#, mailbox.ca_file());
        let other = mailbox.channel("127.0.0.1", &other);
        for channel in [unknown, other] {
            let retry = Retry { give_up_after: Duration::from_millis(500), ..RETRY };
            let (mut deliveries, _) = start(&[channel], delivery_settings(retry));
            deliveries.send(received(Opened, 1, "acme", 1));
            let (_, detail) = await_undeliverable(&mut deliveries);
            assert!(detail.contains("certificate"), "{mode}: {detail}");
        }
        assert_eq!(mailbox.mails().len(), 1, "{mode}");
    }
}

/// A server without STARTTLS must not get the e-mail as plain text.
#[test]
fn a_server_without_starttls_gets_nothing() {
    let mailbox = Mailbox::start("none");
    let retry = Retry { give_up_after: Duration::from_millis(300), ..RETRY };
    let channel = mailbox.channel("localhost", "");
    let (mut deliveries, _) = start(&[channel], delivery_settings(retry));
    deliveries.send(received(Opened, 1, "acme", 1));
    await_undeliverable(&mut deliveries);
    assert_eq!(mailbox.mails().len(), 0);
}

#[test]
fn temporary_refusals_are_retried_and_permanent_ones_are_not() {
    let busy = Mailbox::start("busy");
    let channel = busy.channel("127.0.0.1", r#", encryption = "none""#);
    let (mut deliveries, _) = start(&[channel], delivery_settings(RETRY));
    deliveries.send(received(Opened, 1, "acme", 1));
    assert_eq!(await_done(&mut deliveries), 1);
    assert_eq!(busy.mails().len(), 1);

    let rejecting = Mailbox::start("rejecting");
    let channel = rejecting.channel("127.0.0.1", r#", encryption = "none""#);
    let (mut deliveries, _) = start(&[channel], delivery_settings(RETRY));
    deliveries.send(received(Opened, 1, "acme", 1));
    let (_, detail) = await_undeliverable(&mut deliveries);
    assert!(detail.contains("554"), "{detail}");
}
