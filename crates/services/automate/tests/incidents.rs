//! Rules that start from incidents: the real binary on real Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use automation::{IncidentFacts, action_id};
use common::{HOUR, T0, action_ids, await_read, cluster, launch};
use harness::{Cluster, DEADLINE, Outgoing, Record, eventually, seen};
use serde_json::{Value, json};

/// A change of an incident of a source, as monitor writes it.
fn incident(number: u8, seq: u32, (change, severity): (&str, &str), at: i64) -> Value {
    let page = u32::from(change != "updated");
    json!({
        "id": format!("{number:032x}"), "seq": seq, "page": page * seq, "change": change,
        "state": if change == "resolved" { "resolved" } else { "open" }, "severity": severity,
        "family": "bounces", "group": "source", "of": "ses/acme", "opened_at": T0, "at": at,
        "lead": {
            "episode_id": "00112233445566778899aabbccddeeff", "rule": "bounce-rate", "scope": "source",
            "provider": "ses", "source": "acme", "severity": severity, "state": "firing",
            "metric": "bounce", "width": "5m", "value": 0.2, "threshold": 0.1, "numerator": 40,
            "volume": 200, "started_at": T0, "at": at, "runbook": "docs/runbooks.md#bounce-rate",
            "summary": "source/ses/acme: bounce rate 20 % in 5m", "family": "bounces", "seq": 1,
        },
        "cause": {
            "scope": {"scope": "campaign", "provider": "ses", "source": "acme", "campaign": "spring"},
            "share": 0.9, "numerator": 38, "volume": 100, "rest_numerator": 2, "rest_volume": 100,
        },
        "episodes": 1, "open_episodes": 1, "opened_by": "00112233445566778899aabbccddeeff",
    })
}

fn record(cluster: &Cluster, incident: &Value) -> Outgoing {
    let id = common::text(&incident["id"]);
    let partition = i32::from_str_radix(&id[31..], 16).unwrap() % 2;
    Outgoing::new(&cluster.topics.incidents, id, incident.to_string()).on(partition)
}

fn produce(cluster: &Cluster, incidents: &[Value]) {
    let records: Vec<_> = incidents.iter().map(|incident| record(cluster, incident)).collect();
    cluster.produce(&records);
}

/// Waits until everything that follows from `mail.incidents` is decided. Returns `mail.intents` and `mail.actions`.
fn decided(cluster: &Cluster) -> (Vec<Record>, Vec<Record>) {
    await_read(cluster, "automate-limit", &cluster.topics.incidents);
    await_read(cluster, "automate-limit", &cluster.topics.intents);
    let read = |topic| cluster.read_settled(topic);
    (read(&cluster.topics.intents), read(&cluster.topics.actions))
}

/// Returns the id that the action of a rule about a change must have.
fn id_of(rule: &str, incident: &Value) -> String {
    let incident = serde_json::from_value(incident.clone()).unwrap();
    let facts = IncidentFacts::of(&incident).unwrap();
    action_id(rule, facts.transition_id(), "0").to_string()
}

/// Requests that were received: path, `Idempotency-Key` and body.
type Posted = Arc<Mutex<Vec<(String, String, Value)>>>;

/// Accepts every request. Returns the address.
fn receiver() -> (String, Posted) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, posted) = (listener.local_addr().unwrap().to_string(), Posted::default());
    let all = Arc::clone(&posted);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let all = Arc::clone(&all);
            std::thread::spawn(move || serve(stream, &all));
        }
    });
    (address, posted)
}

fn serve(stream: TcpStream, posted: &Mutex<Vec<(String, String, Value)>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let path = line.split(' ').nth(1)?.to_owned();
        let (mut length, mut id) = (0, String::new());
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            match name.to_lowercase().as_str() {
                "content-length" => length = value.parse().ok()?,
                "idempotency-key" => value.clone_into(&mut id),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        posted.lock().unwrap().push((path, id, serde_json::from_slice(&body).ok()?));
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

fn rules(address: &str) -> String {
    format!(
        r#"
[automate]
allow_private = true
[[automation.rule]]
name = "all"
when = {{ incidents = {{ changes = ["opened", "escalated", "resolved"] }} }}
do = [ {{ type = "webhook", url = "http://{address}/hook", secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3" }} ]
[[automation.rule]]
name = "pause"
when = {{ incidents = {{ severities = ["page"], sources = ["acme"], campaigns = ["spring"], changes = ["opened", "escalated"] }} }}
do = [
  {{ type = "task", url = "http://{address}/task", title = "Pause {{{{ incident.campaign }}}}" }},
  {{ type = "crm", url = "http://{address}/crm", fields = {{ campaign = "incident.campaign", why = "incident.summary", state = "static:paused" }} }},
  {{ type = "slack", url = "http://{address}/slack" }},
]
[[automation.rule]]
name = "cooled"
when = {{ incidents = {{}} }}
cooldown = "5h"
do = [ {{ type = "slack", url = "http://{address}/cooled" }} ]
"#
    )
}

#[test]
fn every_transition_acts_exactly_once_although_it_is_published_again_and_members_are_killed() {
    let (cluster, (address, _)) = (cluster("incidents"), receiver());
    let mut members =
        ["a", "b"].map(|instance| launch(&cluster, &rules(&address), instance).start());
    let changes: Vec<Value> = (0..60)
        .flat_map(|number: u8| {
            let at = T0 + i64::from(number) * HOUR;
            [
                incident(number, 1, ("opened", "warning"), at),
                incident(number, 2, ("updated", "warning"), at + 1),
                incident(number, 3, ("escalated", "page"), at + 2),
                incident(number, 4, ("reminder", "page"), at + 3),
                incident(number, 5, ("escalated", "page"), at + 4), // the same transition
                incident(number, 6, ("resolved", "page"), at + 5),
            ]
        })
        .collect();
    for (round, part) in changes.chunks(changes.len() / 6).enumerate() {
        produce(&cluster, part);
        eventually("some of it to be decided", DEADLINE, || {
            !cluster.read(&cluster.topics.actions).is_empty()
        });
        let victim = &mut members[round % 2];
        victim.kill();
        produce(&cluster, part); // monitor publishes it again
        victim.restart();
    }
    let (intents, actions) = decided(&cluster);
    assert!(intents.len() > actions.len(), "repetitions are refused");
    let wanted: BTreeSet<String> = changes
        .iter()
        .filter(|it| ["opened", "escalated", "resolved"].iter().any(|name| it["change"] == *name))
        .map(|it| id_of("all", it))
        .collect();
    assert_eq!(wanted.len(), 180);
    let of_rule = |rule: &str| -> Vec<Record> {
        actions.iter().filter(|it| it.json()["rule"] == rule).cloned().collect()
    };
    assert_eq!(action_ids(&of_rule("all")), wanted.into_iter().collect::<Vec<_>>());
    assert_eq!(of_rule("pause").len(), 60 * 3, "each escalation once, three actions");
    // The incidents of a partition have an order; those of the two partitions have none.
    let mut times: Vec<i64> =
        of_rule("cooled").iter().map(|it| it.json()["at"].as_i64().unwrap()).collect();
    times.sort_unstable();
    assert!(times.len() > 5, "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 5 * HOUR), "{times:?}");
    for action in &actions {
        let json = action.json();
        assert_eq!(action.key, common::text(&json["incident"]["id"]).into_bytes());
        assert!(json.get("event").is_none(), "{json}");
    }
}

#[test]
fn receivers_get_the_incident() {
    let (cluster, (address, posted)) = (cluster("incident"), receiver());
    let _service = launch(&cluster, &rules(&address), "a").start();
    produce(&cluster, &[incident(1, 1, ("opened", "page"), T0)]);
    let all = eventually("all requests", DEADLINE, || {
        let all = posted.lock().unwrap().clone();
        (all.len() >= 5).then_some(all)
    });
    let of = |path: &str| all.iter().find(|it| it.0 == path).unwrap().clone();
    let (_, id, body) = of("/hook");
    assert_eq!(body["data"]["action_id"], json!(id));
    let incident = &body["data"]["incident"];
    assert_eq!(
        (&incident["campaign"], &incident["cause"], &incident["family"]),
        (&json!("spring"), &json!("campaign/ses/acme/spring"), &json!("bounces"))
    );
    let (_, _, task) = of("/task");
    assert_eq!((&task["title"], task.get("recipient")), (&json!("Pause spring"), None));
    let summary = "source/ses/acme: bounce rate 20 % in 5m";
    let expected = json!({"campaign": "spring", "why": summary, "state": "paused"});
    assert_eq!(of("/crm").2, expected);
    assert_eq!(of("/slack").2, json!({"text": format!("pause: page opened: {summary}")}));
}

#[test]
fn what_is_for_other_stages_or_no_incident_starts_nothing() {
    let (cluster, (address, _)) = (cluster("no-incident"), receiver());
    let _service = launch(&cluster, &rules(&address), "a").start();
    let opened = incident(1, 1, ("opened", "page"), T0);
    let topic = &cluster.topics.incidents;
    cluster.produce(&[
        record(&cluster, &opened).header("redriven", b"notify"),
        Outgoing::new(topic, "x", b"{\"id\":7}").on(0),
        record(&cluster, &incident(2, 1, ("updated", "page"), T0)),
        record(&cluster, &incident(3, 1, ("opened", "page"), T0))
            .header("redriven", b"automate-limit"),
    ]);
    let (_, actions) = decided(&cluster);
    let ids: BTreeSet<String> =
        actions.iter().map(|it| common::text(&it.json()["incident"]["id"])).collect();
    assert_eq!(ids, [format!("{:032x}", 3)].into());
    let letters = cluster.read_settled(&cluster.topics.dead_letters);
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(letter.header("stage"), Some(&b"automate-limit"[..]));
    assert_eq!(letter.header("reason"), Some(&b"wrong_shape"[..]));
}

#[test]
fn a_mail_about_an_incident_goes_to_its_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let received = Arc::clone(&lines);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            converse(stream, &received);
        }
    });
    let rules = format!(
        r#"
[automate]
allow_private = true
[automate.smtp]
host = "127.0.0.1"
port = {port}
encryption = "none"
from = "Mailpulse <alerts@acme.example>"
[[automation.rule]]
name = "mail"
when = {{ incidents = {{ families = ["bounces"] }} }}
do = [ {{ type = "email", template = "incident", to = "ops@acme.example" }} ]
[[automation.template]]
name = "incident"
subject = "{{{{ incident.severity }}}}: {{{{ incident.campaign }}}}"
text = "{{{{ incident.summary }}}}"
"#
    );
    let cluster = cluster("incident-mail");
    // Without `privacy.erasure_key`: nobody is looked up in mail.suppressions.
    let _service = launch(&cluster, &rules, "a").start();
    produce(&cluster, &[incident(1, 1, ("opened", "page"), T0)]);
    eventually("the mail", DEADLINE, || {
        let lines = lines.lock().unwrap().clone();
        seen(lines, |lines| lines.iter().any(|line| line == "."))
    });
    let lines = lines.lock().unwrap().clone();
    for wanted in ["RCPT TO:<ops@acme.example>", "To: ops@acme.example", "Subject: page: spring"] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted}: {lines:?}");
    }
}

/// Accepts a mail, and notes every line.
fn converse(stream: TcpStream, received: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    reader.get_mut().write_all(b"220 test\r\n").ok()?;
    let mut is_content = false;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let line = line.trim_end().to_owned();
        received.lock().unwrap().push(line.clone());
        let answer = match &*line {
            "." => {
                is_content = false;
                "250 accepted"
            }
            _ if is_content => continue,
            "DATA" => {
                is_content = true;
                "354 go on"
            }
            "QUIT" => "221 bye",
            _ => "250 fine",
        };
        reader.get_mut().write_all(format!("{answer}\r\n").as_bytes()).ok()?;
    }
}
