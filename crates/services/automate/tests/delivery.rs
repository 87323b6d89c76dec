//! Deliveries of the real binary to real HTTP receivers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{HOUR, Step, T0, TestEvent, cluster, decided, launch, records};
use event::Kind;
use harness::{Cluster, DEADLINE, Service, eventually, seen};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

const KEY: [u8; 32] = [7; 32];

/// A request that was received.
#[derive(Debug, Clone)]
struct Posted {
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Posted {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn id(&self) -> String {
        self.headers["idempotency-key"].clone()
    }

    /// Verifies the signature as the specification of Standard Webhooks says.
    fn is_signed(&self) -> bool {
        let mut mac = Hmac::<Sha256>::new_from_slice(&KEY).unwrap();
        let (id, time) = (&self.headers["webhook-id"], &self.headers["webhook-timestamp"]);
        mac.update(format!("{id}.{time}.").as_bytes());
        mac.update(&self.body);
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        self.headers["webhook-signature"] == signature && *id == self.id()
    }
}

/// Receives requests. `/slow` never gets an answer, `/bad` gets 400, `/flaky` gets 503 the first time for each id, `/down` always.
#[derive(Clone)]
struct Receiver {
    address: String,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let receiver = Self { address, posted: Arc::default() };
        let server = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        receiver
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let path = line.split(' ').nth(1)?.to_owned();
            let mut headers = BTreeMap::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                let Some((name, value)) = line.trim().split_once(": ") else { break };
                headers.insert(name.to_lowercase(), value.to_owned());
            }
            let length = headers.get("content-length")?.parse().ok()?;
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let posted = Posted { path, headers, body };
            let is_first = {
                let mut all = self.posted.lock().unwrap();
                let same = |it: &&Posted| {
                    it.path == posted.path && it.headers["idempotency-key"] == posted.id()
                };
                let is_first = all.iter().find(same).is_none();
                all.push(posted.clone());
                is_first
            };
            let status = match &*posted.path {
                "/slow" => {
                    let mut rest = [0; 1];
                    let _ = reader.read(&mut rest); // until the client gives up
                    return None;
                }
                "/bad" => "400 Bad Request",
                "/down" => "503 Service Unavailable",
                "/flaky" if is_first => "503 Service Unavailable",
                _ => "200 OK",
            };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).ok()?;
        }
    }

    fn of(&self, path: &str) -> Vec<Posted> {
        let all = self.posted.lock().unwrap();
        all.iter().filter(|posted| posted.path == path).cloned().collect()
    }

    fn ids(&self, path: &str) -> BTreeSet<String> {
        self.of(path).iter().map(Posted::id).collect()
    }
}

fn rules(receiver: &Receiver) -> String {
    let Receiver { address, .. } = receiver;
    let secret = format!("whsec_{}", STANDARD.encode(KEY));
    format!(
        r#"
[automate]
allow_private = true
timeout = "1s"
retry_min = "10ms"
retry_max = "50ms"
[[automation.rule]]
name = "slow"
when = {{ kinds = ["clicked"] }}
priority = 10
do = [ {{ type = "webhook", url = "http://{address}/slow", secret = "{secret}" }} ]
[[automation.rule]]
name = "hook"
when = {{ kinds = ["clicked"] }}
do = [
  {{ type = "webhook", url = "http://{address}/ok", secret = "{secret}" }},
  {{ type = "webhook", url = "http://{address}/flaky", secret = "{secret}" }},
  {{ type = "crm", url = "http://{address}/crm", fields = {{ email = "event.recipient", link = "event.url", tenant = "event.tenant", stage = "static:engaged" }} }},
  {{ type = "slack", url = "http://{address}/slack", text = "{{{{ event.recipient }}}} clicked" }},
  {{ type = "task", url = "http://{address}/task", title = "Call {{{{ event.recipient }}}}" }},
]
[[automation.rule]]
name = "bad"
when = {{ kinds = ["opened"] }}
do = [ {{ type = "webhook", url = "http://{address}/bad", secret = "{secret}" }} ]
"#
    )
}

fn clicks(numbers: std::ops::Range<u64>) -> Vec<Step> {
    let click = |number| {
        let at = T0 + i64::try_from(number).unwrap() * HOUR;
        Step::Event(TestEvent::new(number, Kind::Clicked, number % 7, at))
    };
    numbers.map(click).collect()
}

/// The ids of the actions of a rule at an index, in the order of each recipient.
fn decided_ids(cluster: &Cluster, rule: &str, index: &str) -> BTreeMap<String, Vec<String>> {
    let (_, actions) = decided(cluster);
    let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for action in actions.iter().map(harness::Record::json) {
        if action["rule"] == rule && action["index"] == index {
            let recipient = common::text(&action["event"]["recipient"]);
            ids.entry(recipient).or_default().push(common::text(&action["action_id"]));
        }
    }
    ids
}

fn start(cluster: &Cluster, receiver: &Receiver) -> Service {
    launch(cluster, &rules(receiver), "a").start()
}

#[test]
fn every_action_arrives_in_order_although_another_receiver_is_slow_and_the_service_is_killed() {
    let (cluster, receiver) = (cluster("delivery"), Receiver::start());
    let mut service = start(&cluster, &receiver);
    cluster.produce(&records(&cluster, &clicks(0..60)));
    eventually("something to arrive", DEADLINE, || seen(receiver.of("/ok").len(), |it| *it > 5));
    service.kill();
    cluster.produce(&records(&cluster, &clicks(60..120)));
    service.restart();
    for (index, path) in ["/ok", "/flaky", "/crm", "/slack", "/task"].into_iter().enumerate() {
        let expected = decided_ids(&cluster, "hook", &index.to_string());
        let all: BTreeSet<String> = expected.values().flatten().cloned().collect();
        assert_eq!(all.len(), 120);
        eventually(&format!("all actions at {path}"), DEADLINE, || {
            seen(receiver.ids(path).len(), |arrived| *arrived >= all.len())
        });
        assert_eq!(receiver.ids(path), all, "{path}: what was decided, and nothing else");
        for (recipient, ids) in expected {
            let mut arrived = Vec::new();
            for posted in receiver.of(path) {
                if ids.contains(&posted.id()) && !arrived.contains(&posted.id()) {
                    arrived.push(posted.id());
                }
            }
            assert_eq!(arrived, ids, "{path}: the order of {recipient}");
        }
    }
    assert!(receiver.of("/ok").iter().all(Posted::is_signed));
    let [first, ..] = &receiver.of("/ok")[..] else { panic!("nothing arrived") };
    let body = first.json();
    assert_eq!(body["data"]["action_id"].as_str(), Some(&*first.id()));
    assert_eq!(
        (&body["type"], &body["data"]["type"]),
        (&"automation.action".into(), &"webhook".into())
    );
    let [crm, ..] = &receiver.of("/crm")[..] else { panic!("nothing arrived") };
    let expected = serde_json::json!({
        "email": crm.json()["email"], "link": "https://acme.example/offer", "tenant": null, "stage": "engaged",
    });
    assert_eq!(crm.json(), expected);
    assert!(crm.json()["email"].as_str().unwrap().ends_with("@example.com"));
    assert!(receiver.of("/slack")[0].json()["text"].as_str().unwrap().ends_with(" clicked"));
    assert!(receiver.of("/task")[0].json()["title"].as_str().unwrap().starts_with("Call r"));
}

#[test]
fn a_rejected_action_becomes_a_dead_letter() {
    let (cluster, receiver) = (cluster("rejected"), Receiver::start());
    let _service = start(&cluster, &receiver);
    let open = Step::Event(TestEvent::new(1, Kind::Opened, 1, T0));
    cluster.produce(&records(&cluster, &[open]));
    let letter = eventually("the dead letter", DEADLINE, || {
        cluster.read(&cluster.topics.dead_letters).first().cloned()
    });
    assert_eq!(letter.header("stage"), Some(&b"automate-deliver"[..]));
    assert_eq!(letter.header("reason"), Some(&b"undeliverable"[..]));
    assert_eq!(letter.json()["rule"], "bad");
    assert_eq!(receiver.of("/bad").len(), 1, "400 is final");
    common::await_read(&cluster, "automate-deliver", &cluster.topics.actions);
}

/// A rule whose actions wait for a receiver that is down.
fn down(receiver: &Receiver) -> String {
    let address = &receiver.address;
    format!(
        r#"
[privacy]
erasure_key = "a-key-for-tests-only"
[automate]
allow_private = true
retry_min = "5s"
retry_max = "5s"
[[automation.rule]]
name = "down"
when = {{ kinds = ["clicked"] }}
do = [ {{ type = "task", url = "http://{address}/down", title = "Call" }} ]
"#
    )
}

#[test]
fn a_member_forgets_the_actions_of_partitions_that_it_loses() {
    const PENDING: &str = "mailpulse_automate_pending_actions";
    let (cluster, receiver) = (cluster("moved"), Receiver::start());
    let settings = down(&receiver);
    let first = launch(&cluster, &settings, "a").start();
    cluster.produce(&records(&cluster, &clicks(0..21)));
    first.await_metric(PENDING, &[], |pending| pending == 21.0);
    let second = launch(&cluster, &settings, "b").start();
    second.await_metric(PENDING, &[], |pending| pending > 0.0);
    first.await_metric(PENDING, &[], |pending| pending < 21.0);
}

#[test]
fn an_action_of_a_recipient_who_is_erased_between_attempts_is_not_delivered() {
    let (cluster, receiver) = (cluster("erased"), Receiver::start());
    let _service = launch(&cluster, &down(&receiver), "a").start();
    cluster.produce(&records(&cluster, &clicks(1..2)));
    eventually("an attempt", DEADLINE, || seen(receiver.of("/down").len(), |it| *it > 0));
    let key = privacy::ErasureKey::new(b"a-key-for-tests-only").unwrap();
    let tombstone = format!(r#"{{"key_id":"{}","at":1}}"#, key.id());
    let digest = key.digest("r1@example.com").to_string();
    cluster.produce(&[harness::Outgoing::new(&cluster.topics.erased, digest, tombstone)]);
    // Without the tombstone, the attempts would go on for 12 hours.
    common::await_read(&cluster, "automate-deliver", &cluster.topics.actions);
    assert!(cluster.read_settled(&cluster.topics.dead_letters).is_empty());
}

#[test]
fn an_address_of_the_own_network_is_refused() {
    let (cluster, receiver) = (cluster("private"), Receiver::start());
    let settings = rules(&receiver).replace("allow_private = true", "allow_private = false");
    let (status, log) = launch(&cluster, &settings, "a").run();
    assert!(!status.success() && log.contains("not an address of the public Internet"), "{log}");
    assert!(log.contains("rule `slow`: action 0"), "{log}");
}

/// An SMTP server that accepts every mail. Returns its port, and the mails as they were sent.
fn smtp() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, mails) =
        (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
    let received = Arc::clone(&mails);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let received = Arc::clone(&received);
            std::thread::spawn(move || converse(stream, &received));
        }
    });
    (port, mails)
}

fn converse(stream: TcpStream, received: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    reader.get_mut().write_all(b"220 test\r\n").ok()?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let answer = match line.get(..4)?.to_uppercase().as_str() {
            "DATA" => {
                reader.get_mut().write_all(b"354 go on\r\n").ok()?;
                let mut mail = String::new();
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
                    if line == ".\r\n" {
                        break;
                    }
                    mail.push_str(&line);
                }
                received.lock().unwrap().push(mail);
                "250 accepted"
            }
            "QUIT" => "221 bye",
            _ => "250 fine",
        };
        reader.get_mut().write_all(format!("{answer}\r\n").as_bytes()).ok()?;
    }
}

#[test]
fn a_mail_is_sent_unless_the_recipient_is_suppressed() {
    let (cluster, (port, mails)) = (cluster("mail"), smtp());
    let settings = format!(
        r#"
[privacy]
erasure_key = "a-key-for-tests-only"
[automate]
allow_private = true
[automate.smtp]
host = "127.0.0.1"
port = {port}
encryption = "none"
from = "Acme <news@acme.example>"
[[automation.rule]]
name = "thanks"
when = {{ kinds = ["clicked"] }}
do = [ {{ type = "email", template = "thanks" }} ]
[[automation.template]]
name = "thanks"
subject = "Thank you, {{{{ event.recipient }}}}"
text = "You clicked {{{{ event.url }}}}"
html = "<p>You clicked</p>"
"#
    );
    let key = privacy::ErasureKey::new(b"a-key-for-tests-only").unwrap();
    let digests = suppression::RecipientKey::new(key, None);
    let entry = suppression::EntryKey {
        list: "ses/acme".into(),
        recipient: digests.of_address("r1@example.com").unwrap(),
        reason: suppression::Reason::Complaint,
        scope: "".into(),
        author: suppression::Author::Event,
    };
    let value = suppression::EntryValue::new(&entry, suppression::State::Suppressed, T0);
    let topic = &cluster.topics.suppressions;
    let suppressed =
        harness::Outgoing::new(topic, entry.to_string(), serde_json::to_vec(&value).unwrap());
    cluster.produce(&[suppressed]);
    let _service = launch(&cluster, &settings, "a").start();
    cluster.produce(&records(&cluster, &clicks(1..4)));
    let (_, actions) = decided(&cluster);
    assert_eq!(actions.len(), 3);
    common::await_read(&cluster, "automate-deliver", &cluster.topics.actions);
    let mails = mails.lock().unwrap().clone();
    assert_eq!(mails.len(), 2, "{mails:?}");
    for mail in &mails {
        assert!(!mail.contains("r1@example.com"), "{mail}");
        assert!(mail.contains("Subject: Thank you, r"), "{mail}");
        assert!(mail.contains("Auto-Submitted: auto-generated"), "{mail}");
        assert!(mail.contains("You clicked https://acme.example/offer"), "{mail}");
    }
}
