//! Sources that change while the ingress runs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod common;

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use client::{Client, Posting};
use common::{Ingress, genuine, now_unix, outcome};
use event::Provider;
use harness::{DEADLINE, Response, eventually, http, seen};
use serde_json::json;
use testkit::{Credentials, SignedRequest, sign};

const SUCCESSFUL: &str = "mailpulse_ingress_last_reload_successful";
const SUCCEEDED_AT: &str = "mailpulse_ingress_last_reload_success_timestamp_seconds";
const OF_SOURCES: &[(&str, &str)] = &[("part", "sources")];
const TOKEN: &str = "a token of 22 bytes..";

/// An ingress whose configuration the test changes.
struct Reloaded {
    ingress: Ingress,
    /// The configuration that it was started with.
    base: String,
}

impl Reloaded {
    fn start() -> Self {
        Self::start_with("")
    }

    fn start_with(keys: &str) -> Self {
        // The tests ask for what is not there yet, again and again.
        let ingress = Ingress::start_with(&format!("rejection_burst = 1000000\n{keys}"));
        let base = std::fs::read_to_string(ingress.service.home().join("mailpulse.toml")).unwrap();
        Self { ingress, base }
    }

    fn path(&self) -> PathBuf {
        self.ingress.service.home().join("mailpulse.toml")
    }

    /// Replaces the configuration file by its first content and these lines.
    fn append(&self, lines: &str) {
        self.replace(&format!("{}{lines}", self.base));
    }

    /// Replaces the configuration file by another file.
    fn replace(&self, text: &str) {
        write(&self.path(), text);
    }

    fn hang_up(&self) {
        let pid = self.ingress.service.pid().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    }

    fn post(&self, source: &str, token: &str) -> Response {
        let headers = [("x-token", token)];
        self.ingress.post_body(&format!("/webhooks/postmark/{source}"), &headers, &delivery())
    }

    /// Waits until a request with this token has this result.
    fn await_result(&self, source: &str, token: &str, expected: (u16, &str)) {
        eventually(&format!("{expected:?} from {source}"), DEADLINE, || {
            seen(outcome(&self.post(source, token)), |(status, code)| {
                (*status, &**code) == expected
            })
        });
    }

    fn await_successful(&self, is_successful: bool) {
        let expected = f64::from(u8::from(is_successful));
        self.ingress.service.await_metric(SUCCESSFUL, OF_SOURCES, |value| value == expected);
    }
}

/// Writes a file next to `path` and renames it.
fn write(path: &Path, text: &str) {
    let other = path.with_extension("new");
    std::fs::write(&other, text).unwrap();
    std::fs::rename(&other, path).unwrap();
}

/// Returns a Postmark source with a secret in a header of its own.
fn source(name: &str, secret: &str) -> String {
    format!(
        "[[source]]\nprovider = \"postmark\"\nname = \"{name}\"\nheader = \"x-token\"\n\
         secrets = [\"{secret}\"]\n"
    )
}

fn delivery() -> Vec<u8> {
    json!({"RecordType": "Delivery", "MessageID": "m-1", "Recipient": "ada@example.com",
        "DeliveredAt": "2026-11-21T10:00:00Z"})
    .to_string()
    .into_bytes()
}

const ACCEPTED: (u16, &str) = (200, "");
const UNKNOWN: (u16, &str) = (404, "unknown_source");
const WRONG: (u16, &str) = (401, "wrong_credentials");

#[test]
fn reloads_under_load_give_no_wrong_answer() {
    let reloaded = Reloaded::start();
    let clients = (0..3).map(|_| Client::new(&reloaded.ingress.address)).collect();
    let posting = Posting::start(&reloaded.ingress.credentials, clients, 7);
    for round in 0..12 {
        let before = posting.posted();
        let name = format!("round-{round}");
        let text =
            reloaded.base.replacen("[[source]]", &format!("{}[[source]]", source(&name, TOKEN)), 1);
        if round % 2 == 0 {
            reloaded.replace(&text);
        } else {
            // In place and slowly. The first part of the file is valid, and lacks all sources.
            let (part, _) = text.split_at(text.find("[[source]]").unwrap());
            std::fs::write(reloaded.path(), part).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            std::fs::write(reloaded.path(), &text).unwrap();
        }
        if round % 3 == 0 {
            reloaded.hang_up();
        }
        reloaded.await_result(&name, TOKEN, ACCEPTED);
        eventually("requests to be accepted", DEADLINE, || {
            seen(posting.posted(), |posted| *posted >= before + 20)
        });
    }
    let (posted, failures) = posting.stop();
    assert!(failures.is_empty(), "{} of {posted}: {:?}", failures.len(), failures.first());
    assert_eq!(outcome(&reloaded.post("round-0", TOKEN)).0, 404, "the sources were replaced");
    // Each of the rounds has also had one accepted request of its own.
    let records = usize::try_from(posted).unwrap() + 12;
    let ingress = &reloaded.ingress;
    assert_eq!(ingress.records(&ingress.all_topics(), records).len(), records);
}

#[test]
fn a_request_is_answered_by_the_list_that_it_began_with() {
    let reloaded = Reloaded::start_with(&source("tokens", TOKEN));
    let body = delivery();
    let headers = [("x-token".to_owned(), TOKEN.to_owned())];
    let path = "/webhooks/postmark/tokens";
    let head = http::head("x", "POST", path, &headers, body.len(), false);
    let (first, rest) = body.split_at(10);
    let mut slow = reloaded.ingress.connect_and_send(&[head.as_bytes(), first].concat());
    // The next connection is accepted after this one, and its request is answered after this head was read.
    reloaded.await_result("tokens", TOKEN, ACCEPTED);
    reloaded.replace(&reloaded.base.replace(&source("tokens", TOKEN), ""));
    reloaded.await_result("tokens", TOKEN, UNKNOWN);
    slow.write_all(rest).unwrap();
    let response = Response::read(slow);
    assert_eq!(outcome(&response), (200, String::new()), "{}", response.text);
}

#[test]
fn sources_are_added_disabled_and_removed() {
    let reloaded = Reloaded::start();
    assert_eq!(outcome(&reloaded.post("tokens", TOKEN)), (404, "unknown_source".into()));
    reloaded.append(&source("tokens", TOKEN));
    reloaded.await_result("tokens", TOKEN, ACCEPTED);
    reloaded.ingress.service.await_log("added=\"postmark/tokens\"");
    reloaded.append(&format!("{}disabled = true\n", source("tokens", TOKEN)));
    reloaded.await_result("tokens", TOKEN, (503, "source_disabled"));
    reloaded.ingress.service.await_log("changed=\"postmark/tokens\"");
    reloaded.ingress.service.await_log("disabled=\"postmark/tokens\"");
    reloaded.append(&source("tokens", TOKEN));
    reloaded.await_result("tokens", TOKEN, ACCEPTED);
    reloaded.append("");
    reloaded.await_result("tokens", TOKEN, UNKNOWN);
    reloaded.ingress.service.await_log("removed=\"postmark/tokens\"");
    let labels = [("source", "tokens"), ("code", "accepted")];
    let accepted = || reloaded.ingress.service.metric("mailpulse_ingress_requests_total", &labels);
    let before = accepted();
    reloaded.append(&source("tokens", TOKEN));
    reloaded.await_result("tokens", TOKEN, ACCEPTED);
    assert_eq!(accepted(), before + 1.0, "the counter continues");
}

#[test]
fn an_invalid_list_changes_nothing_and_says_why() {
    let reloaded = Reloaded::start_with(&source("tokens", TOKEN));
    let service = &reloaded.ingress.service;
    reloaded.await_successful(true);
    let started = service.metric(SUCCEEDED_AT, OF_SOURCES);
    assert!(started > 1_700_000_000.0, "{started}");
    let good = source("good", TOKEN);
    for (bad, code) in [
        ("[[source]]\nprovider = \"fax\"\nname = \"a\"\n", "settings_invalid_value"),
        ("[[source]\n", "settings_not_toml"),
        ("[sauce]\n", "settings_unknown_key"),
        ("[[source]]\nprovider = \"mailgun\"\nname = \"a\"\n", "source_unusable"),
        ("[[source]]\nprovider = \"brevo\"\nname = \"a\"\ntopics = []\n", "source_invalid_option"),
        (
            "[[source]]\nprovider = \"brevo\"\nname = \"a\"\nsecrets = [\"env:NO_SUCH_VARIABLE\"]\n",
            "NO_SUCH_VARIABLE is not set",
        ),
    ] {
        reloaded.append(&format!("{good}{bad}"));
        service.await_log(code);
        reloaded.await_successful(false);
        assert_eq!(
            outcome(&reloaded.post("good", TOKEN)).0,
            404,
            "{code}: nothing of it is applied"
        );
        assert_eq!(reloaded.post("tokens", TOKEN).status, 200, "{code}: the former list stays");
        reloaded.append(&good);
        reloaded.await_result("good", TOKEN, ACCEPTED);
        reloaded.await_successful(true);
        reloaded.append("");
        reloaded.await_result("good", TOKEN, UNKNOWN);
    }
    // A mistake elsewhere would prevent the next start.
    reloaded.replace(&reloaded.base.replacen("[ingress]", "[ingress]\nbody_memory_bytes = 1\n", 1));
    service.await_log("ingress.body_memory_bytes");
    reloaded.await_successful(false);
    assert!(service.log().contains("the former sources stay in force"));
    assert!(service.metric(SUCCEEDED_AT, OF_SOURCES) >= started);
    assert!(service.is_running());
}

#[test]
fn a_secret_is_rotated_by_changing_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "the old secret..").unwrap();
    let line = source("tokens", &format!("file:{}", secret.display()));
    let reloaded = Reloaded::start_with(&line);
    reloaded.await_result("tokens", "the old secret..", ACCEPTED);
    write(&secret, "the new secret..\n");
    reloaded.await_result("tokens", "the new secret..", ACCEPTED);
    assert_eq!(outcome(&reloaded.post("tokens", "the old secret..")), (401, WRONG.1.into()));
    // A file that is missing is a mistake, and its return corrects it.
    std::fs::remove_file(&secret).unwrap();
    reloaded.await_successful(false);
    assert_eq!(reloaded.post("tokens", "the new secret..").status, 200);
    write(&secret, "the last secret.");
    reloaded.await_result("tokens", "the last secret.", ACCEPTED);
    reloaded.await_successful(true);
}

#[test]
fn a_file_that_a_new_list_needs_may_come_later() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    let reloaded = Reloaded::start();
    reloaded.append(&source("tokens", &format!("file:{}", secret.display())));
    reloaded.await_successful(false);
    std::fs::write(&secret, TOKEN).unwrap();
    reloaded.await_result("tokens", TOKEN, ACCEPTED);
    reloaded.await_successful(true);
}

#[test]
fn networks_in_a_file_are_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("networks");
    std::fs::write(&file, "192.0.2.0/24 # the provider\n").unwrap();
    let keys = format!(
        "trusted_proxies = [\"127.0.0.0/8\"]\n{}allow_ips = [\"198.51.100.7\", \"file:{}\"]\n",
        source("tokens", TOKEN),
        file.display()
    );
    let reloaded = Reloaded::start_with(&keys);
    let from = |address: &str| {
        let headers = [("x-token", TOKEN), ("x-forwarded-for", address)];
        outcome(&reloaded.ingress.post_body("/webhooks/postmark/tokens", &headers, &delivery()))
    };
    let await_status = |address: &str, expected: u16| {
        eventually(&format!("{expected} for {address}"), DEADLINE, || {
            seen(from(address), |(status, _)| *status == expected)
        });
    };
    assert_eq!(from("192.0.2.7"), (200, String::new()));
    assert_eq!(from("198.51.100.7"), (200, String::new()));
    assert_eq!(from("203.0.113.7"), (403, "address_not_allowed".into()));
    let many: String = (0..60_000_u32).map(|n| format!("10.{}.{}.1\n", n >> 8, n & 255)).collect();
    write(&file, &format!("{many}203.0.113.0/24\n"));
    await_status("203.0.113.7", 200);
    assert_eq!(from("10.1.2.1").0, 200);
    assert_eq!(from("10.1.2.2").0, 403);
    assert_eq!(from("192.0.2.7").0, 403);
    for wrong in ["203.0.113.0/24\neverybody\n", "# nothing\n"] {
        write(&file, wrong);
        reloaded.await_successful(false);
        reloaded.ingress.service.await_log("`source[0].allow_ips[1]`");
        assert_eq!((from("203.0.113.7").0, from("192.0.2.7").0), (200, 403), "{wrong}");
        write(&file, "203.0.113.0/24\n");
        reloaded.await_successful(true);
    }
    assert!(reloaded.ingress.service.log().contains("code=\"settings_invalid_value\""));
}

#[test]
fn what_is_remembered_of_a_source_survives() {
    let rates = "rate = 1\nburst = 50\n";
    let reloaded = Reloaded::start_with(&format!("{}{rates}", source("tokens", TOKEN)));
    let request = genuine(&reloaded.ingress, Provider::Mailgun);
    assert_eq!(reloaded.ingress.post(&request).status, 200);
    let is_limited = |posts| (0..posts).any(|_| reloaded.post("tokens", TOKEN).status == 429);
    assert!(is_limited(100));
    // Both sources are at other positions of the list. The secret is another one too.
    let first = reloaded.base.find("[[source]]").unwrap();
    let (before, after) = reloaded.base.split_at(first);
    let text = format!("{before}{}{after}", source("first", TOKEN));
    reloaded.replace(
        &text.replace(&source("tokens", TOKEN), &source("tokens", "another token of 22 b")),
    );
    reloaded.hang_up();
    reloaded.await_result("first", TOKEN, ACCEPTED);
    assert_eq!(outcome(&reloaded.post("tokens", TOKEN)).1, "wrong_credentials");
    let limited = (0..20).any(|_| reloaded.post("tokens", "another token of 22 b").status == 429);
    assert!(limited, "the rate limit began anew");
    let body = String::from_utf8(request.body.to_vec()).unwrap();
    let body = Bytes::from(body.replacen("\"event\":", "\"event2\":", 1));
    let replayed = SignedRequest { body, ..request };
    assert_eq!(outcome(&reloaded.ingress.post(&replayed)), (406, "replayed_signature".into()));
}

#[test]
fn a_hangup_reads_everything_at_once_and_ends_nothing() {
    let reloaded = Reloaded::start();
    let service = &reloaded.ingress.service;
    assert!(!service.log().contains("sources reloaded"), "the start is no reload");
    reloaded.hang_up();
    service.await_log("SIGHUP received");
    service.await_log("sources reloaded");
    assert!(service.log().contains("added=\"none\" removed=\"none\" changed=\"none\""));
    reloaded.await_successful(true);
    assert!(service.is_running());
}

#[test]
fn other_settings_need_a_restart() {
    let reloaded = Reloaded::start();
    let text = reloaded.base.replacen("[ingress]", "[ingress]\nmax_events = 7\n", 1);
    reloaded.replace(&format!("{text}{}[clickhouse]\nuser = \"me\"\n", source("tokens", TOKEN)));
    reloaded.await_result("tokens", TOKEN, ACCEPTED);
    let service = &reloaded.ingress.service;
    service.await_log("code=\"restart_needed\" keys=\"ingress.max_events\"");
    reloaded.await_successful(true);
}

/// As Kubernetes mounts a ConfigMap: the file is a link through `..data`, and an update replaces `..data`.
#[test]
fn a_file_behind_links_is_watched_by_its_content() {
    let reloaded = Reloaded::start();
    let at = |name: &str| reloaded.ingress.service.home().join(name);
    for (version, name) in [("v1", "first"), ("v2", "second")] {
        std::fs::create_dir(at(version)).unwrap();
        let text = format!("{}{}", reloaded.base, source(name, TOKEN));
        std::fs::write(at(version).join("mailpulse.toml"), text).unwrap();
    }
    symlink("v1", at("..data")).unwrap();
    symlink("..data/mailpulse.toml", at("link")).unwrap();
    std::fs::rename(at("link"), reloaded.path()).unwrap();
    reloaded.await_result("first", TOKEN, ACCEPTED);
    symlink("v2", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    reloaded.await_result("second", TOKEN, ACCEPTED);
}

/// `enrich` must have a mapping before the ingress uses it.
#[test]
fn a_new_source_has_its_mapping_and_another_mapping_needs_a_restart() {
    let mapped = |name: &str, recipient: &str| {
        let source = Credentials::new("http://127.0.0.1").source_toml(Provider::Generic, name);
        format!(
            "{source}events = \"/list\"\nfields = {{ event = \"/type\", recipient = \"{recipient}\" }}\n"
        )
    };
    let mut reloaded = Reloaded::start_with(&mapped("own", "/old"));
    let post = |reloaded: &Reloaded, name: &str| {
        let event = r#"{"type":"delivered","old":"old@example.com","new":"new@example.com"}"#;
        let body = format!("{{\"list\":[{event}]}}");
        let credentials = &reloaded.ingress.credentials;
        let request = sign::generic_body(credentials, name, body.into(), now_unix());
        reloaded.ingress.post(&request).status
    };
    let keys = |reloaded: &Reloaded, count: usize| -> Vec<String> {
        let records = reloaded.ingress.records(&reloaded.ingress.all_topics(), count);
        let mut keys: Vec<_> =
            records.into_iter().map(|record| String::from_utf8(record.key).unwrap()).collect();
        keys.sort();
        keys
    };
    assert_eq!(post(&reloaded, "own"), 200);
    let text = reloaded.base.replace(&mapped("own", "/old"), &mapped("own", "/new"));
    reloaded.replace(&format!("{text}{}", mapped("other", "/new")));
    reloaded.ingress.service.await_log("code=\"mapping_needs_restart\" sources=\"generic/own\"");
    assert_eq!((post(&reloaded, "own"), post(&reloaded, "other")), (200, 200));
    assert_eq!(keys(&reloaded, 3), ["new@example.com", "old@example.com", "old@example.com"]);
    reloaded.ingress.kill_and_start();
    assert_eq!(post(&reloaded, "own"), 200);
    let new = keys(&reloaded, 4).iter().filter(|key| *key == "new@example.com").count();
    assert_eq!(new, 2, "the restart applies the mapping");
}
