//! The real binary on real Kafka: the incidents are those that the library computes from
//! `mail.alerts`, each record once, however often the member is killed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use alerting::{Action, Alert, IncidentSettings, Incidents, Received};
use harness::{Cluster, DEADLINE, Launch, Outgoing, Record, Service, eventually, layout, seen};
use serde_json::{Value, json};

const SECOND: i64 = 1_000_000;
const T0: i64 = 1_700_000_000 * SECOND;
/// The member is killed this many times.
const KILLS: usize = 4;

struct Stage {
    cluster: Cluster,
}

impl Stage {
    fn new(name: &str) -> Self {
        Self { cluster: Cluster::new(&format!("incidents-{name}"), layout(3, 3)) }
    }

    fn member(&self) -> Service {
        Launch::new("monitor", env!("CARGO_BIN_EXE_monitor"), &self.cluster).instance("a").start()
    }

    /// Returns the incidents that the library computes from partition 0, in order for each id.
    fn expected(&self) -> BTreeMap<String, Vec<Value>> {
        let (mut state, mut out) = (Incidents::default(), Vec::new());
        let settings = IncidentSettings::default();
        let alerts = self.cluster.read(&self.cluster.topics.alerts);
        for record in alerts.iter().filter(|record| record.partition == 0) {
            match record.key.as_slice() {
                b"clock" => {
                    let clock = record.json();
                    let (shard, now) =
                        (clock["shard"].as_u64().unwrap(), clock["now"].as_i64().unwrap());
                    let (shard, sources) = (u32::try_from(shard).unwrap(), BTreeMap::new());
                    state.receive_clock(shard, now, sources, &settings, &mut out);
                }
                b"action" => {
                    let Ok(action) = serde_json::from_slice::<Action>(record.value()) else {
                        continue;
                    };
                    let now = state.now();
                    let _ = state.handle(&action, now, &settings, &mut out);
                }
                _ => {
                    let alert: Alert = serde_json::from_slice(record.value()).unwrap();
                    let now = if state.now() == 0 { alert.at } else { state.now() };
                    let received = state.receive(&alert, now, &settings, &mut out);
                    assert_ne!(received, Received::TooMany);
                }
            }
        }
        by_id(out.iter().map(|incident| serde_json::to_value(incident).unwrap()))
    }

    fn published(&self) -> BTreeMap<String, Vec<Value>> {
        by_id(self.cluster.read(&self.cluster.topics.incidents).iter().map(Record::json))
    }

    fn assert_published(&self) {
        let expected = self.expected();
        eventually("all incidents to be published", DEADLINE, || {
            let count = |all: &BTreeMap<_, Vec<_>>| all.values().map(Vec::len).sum::<usize>();
            seen(count(&self.published()), |published| *published >= count(&expected))
        });
        assert_eq!(self.published(), expected);
    }
}

fn by_id(records: impl Iterator<Item = Value>) -> BTreeMap<String, Vec<Value>> {
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in records {
        all.entry(record["id"].as_str().unwrap().to_owned()).or_default().push(record);
    }
    all
}

/// Returns the fields of a scope: of a source, of its mail to Gmail, or of one campaign.
fn scope(source: usize, kind: usize) -> (String, Value) {
    let (key, of_kind) = match kind {
        0 => (format!("source/ses/s{source}"), json!({"scope": "source"})),
        1 => (
            format!("mailbox/ses/s{source}/gmail"),
            json!({"scope": "mailbox_provider", "mailbox_provider": "gmail"}),
        ),
        _ => (
            format!("campaign/ses/s{source}/spring"),
            json!({"scope": "campaign", "campaign": "spring"}),
        ),
    };
    let mut fields = json!({"provider": "ses", "source": format!("s{source}")});
    fields.as_object_mut().unwrap().extend(of_kind.as_object().unwrap().clone());
    (key, fields)
}

fn alert(topic: &str, rule: &str, source: usize, kind: usize, seq: u64, state: &str) -> Outgoing {
    let (key, mut value) = scope(source, kind);
    let metric = if rule == "blocks" { "block_bounce" } else { "hard_bounce" };
    let family = if rule == "blocks" { "blocks" } else { "bounces" };
    let rule_number = u64::from(rule == "blocks");
    let id = seq / 2 * 1000 + source as u64 * 10 + kind as u64 * 2 + rule_number;
    let further = json!({
        "episode_id": format!("{id:032x}"), "rule": rule, "severity": "critical", "state": state,
        "metric": metric, "family": family, "width": "5m", "value": 0.2, "threshold": 0.1,
        "numerator": 40, "volume": 200, "started_at": T0, "at": T0, "runbook": "",
        "summary": "a summary", "seq": seq % 2 + 1, "from": T0 - 300 * SECOND, "to": T0,
    });
    value.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    Outgoing::new(topic, key, value.to_string()).on(0)
}

/// Returns the clock of a shard. Shard 1 is two minutes slower than shard 0.
fn clock(topic: &str, second: i64) -> Outgoing {
    let shard = second / 700 % 2;
    let value = json!({"shard": shard, "now": T0 + (second - shard * 120) * SECOND});
    Outgoing::new(topic, "clock", value.to_string()).on(0)
}

#[test]
fn a_member_that_is_killed_publishes_every_record_once() {
    let stage = Stage::new("killed");
    let topic = &stage.cluster.topics.alerts;
    let mut member = stage.member();
    for round in 0..=KILLS {
        let mut records = vec![clock(topic, round as i64 * 700)];
        for number in 0..60_usize {
            let (source, kind) = (number * 7 % 5, number % 3);
            let rule = if source < 3 { "blocks" } else { "hard_bounces" };
            let round = round as u64 * 2;
            records.push(alert(topic, rule, source, kind, round, "firing"));
            if number % 4 == 0 {
                records.push(alert(topic, rule, source, kind, round + 1, "resolved"));
            }
            if number % 10 == 0 {
                records.push(clock(topic, round as i64 * 350 + number as i64));
            }
        }
        let half = records.len() / 2;
        stage.cluster.produce(&records[..half]);
        if round < KILLS {
            eventually("the member to publish", DEADLINE, || {
                seen(stage.published().len(), |published| *published > 0)
            });
            member.kill();
        }
        stage.cluster.produce(&records[half..]);
        if round < KILLS {
            member.restart();
        }
    }
    stage.cluster.produce(&[clock(topic, 100_000), clock(topic, 200_000)]);
    stage.assert_published();
    let records: Vec<_> = stage.published().into_values().flatten().collect();
    let changes = |change: &str| records.iter().filter(|record| record["change"] == change).count();
    assert!(changes("opened") > 0 && changes("resolved") > 0 && changes("reminder") > 0);
    member.stop();
}

#[test]
fn records_of_an_earlier_release_move_to_partition_0_and_invalid_ones_are_dead_letters() {
    let stage = Stage::new("moved");
    let topic = &stage.cluster.topics.alerts;
    let member = stage.member();
    let first = alert(topic, "hard_bounces", 1, 0, 0, "firing").on(2);
    stage.cluster.produce(&[first]);
    eventually("the incident to be published", DEADLINE, || {
        seen(stage.published().len(), |published| *published == 1)
    });
    let incident = stage.published().into_keys().next().unwrap();
    let action = |value: Value| Outgoing::new(topic, "action", value.to_string()).on(1);
    stage.cluster.produce(&[
        action(json!({"action": "acknowledge", "incident": incident, "by": "ada"})),
        action(json!({"action": "acknowledge", "incident": "00".repeat(16), "by": "ada"})),
        action(json!({"action": "shout"})),
        Outgoing::new(topic, "source/ses/s1", "{").on(0),
    ]);
    let dead_letters = || stage.cluster.read(&stage.cluster.topics.dead_letters);
    eventually("the invalid records to be dead letters", DEADLINE, || {
        seen(dead_letters().len(), |letters| *letters == 3)
    });
    eventually("the action to be published", DEADLINE, || {
        let last = stage.published()[&incident].last().unwrap().clone();
        seen(last, |last| last["people"]["acknowledged_by"] == "ada")
    });
    let header =
        |record: &Record, name| String::from_utf8(record.header(name).unwrap().to_vec()).unwrap();
    let mut reasons: Vec<_> =
        dead_letters().iter().map(|record| header(record, "reason")).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["not_json", "wrong_shape", "wrong_shape"]);
    let open = member.metric("mailpulse_monitor_open_incidents", &[]);
    assert_eq!(open, 1.0);
}
