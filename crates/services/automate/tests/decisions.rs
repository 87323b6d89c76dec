//! The real binary on real Kafka: what is decided equals a model that remembers everything, by id, however often
//! members are killed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use automation::{
    ActionRecord, AutomationSettings, Intent, LimitState, RuleSet, Verdict, action_id,
};
use common::{HOUR, Step, T0, TestEvent, action_ids, cluster, decided, member, records};
use event::{EventId, Kind};
use harness::{Cluster, Record};
use record::names;

const RULES: &str = r#"
[[automation.rule]]
name = "cooled"
when = { kinds = ["clicked"] }
cooldown = "6h"
do = [
  { type = "segment.add", name = "warm" },
  { type = "followup", after = "2h", unless = "opened", do = [ { type = "points", add = 1 } ] },
]
[[automation.rule]]
name = "capped"
when = { kinds = ["opened"] }
limit = { count = 7, per = "1h" }
campaign_limit = 40
do = [ { type = "points", add = 5 } ]
[[automation.rule]]
name = "patterned"
when = { kinds = ["clicked"] }
and = [ { pattern = "2 clicked within 3h" } ]
do = [ { type = "list.add", name = "fans" } ]
"#;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn traffic(seed: u64, events: u64) -> Vec<Step> {
    let (mut numbers, mut at, mut steps) = (Numbers(seed), T0, Vec::new());
    for number in 0..events {
        at += i64::try_from(numbers.below(6)).unwrap() * HOUR / 60;
        let kinds = [Kind::Clicked, Kind::Clicked, Kind::Opened, Kind::Opened, Kind::Delivered];
        let kind = kinds[usize::try_from(numbers.below(5)).unwrap()];
        let recipient = numbers.below(30);
        let mut event = TestEvent::new(number, kind, recipient, at);
        event.message = recipient * 10 + numbers.below(3);
        event.human = numbers.below(6) > 0;
        event.authentic = numbers.below(12) > 0;
        steps.push(Step::Event(event));
        if number % 10 == 9 {
            steps.push(Step::Time(at));
        }
    }
    steps.push(Step::Time(at + 1000 * HOUR));
    steps
}

/// A rule, an event and a follow-up.
type Wanted = (String, EventId, Option<u16>);

/// What the rules want, by a model of what they mean. It shares no code with `automation`.
fn wanted(steps: &[Step]) -> BTreeSet<Wanted> {
    let (mut wanted, mut acted) = (BTreeSet::new(), BTreeMap::<u64, i64>::new());
    let mut clicks: Vec<(u64, i64)> = Vec::new();
    let mut waiting: Vec<(i64, TestEvent)> = Vec::new();
    for step in steps {
        let event = match step {
            Step::Time(time) => {
                waiting.retain(|(due, event)| {
                    let is_due = due <= time;
                    if is_due {
                        wanted.insert(("cooled".to_owned(), event.id(), Some(1)));
                    }
                    !is_due
                });
                continue;
            }
            Step::Event(event) if event.human && event.authentic => event,
            Step::Event(_) => continue,
        };
        if event.kind != Kind::Delivered {
            waiting.retain(|(_, first)| {
                (first.recipient, first.message) != (event.recipient, event.message)
            });
        }
        let mut want = |rule: &str| wanted.insert((rule.to_owned(), event.id(), None));
        if event.kind == Kind::Opened {
            want("capped");
        }
        if event.kind == Kind::Clicked {
            clicks.push((event.recipient, event.at));
            let recent =
                |click: &&(u64, i64)| click.0 == event.recipient && event.at - click.1 < 3 * HOUR;
            if clicks.iter().filter(recent).count() >= 2 {
                want("patterned");
            }
            if acted.get(&event.recipient).is_none_or(|at| event.at - at >= 6 * HOUR) {
                want("cooled");
                acted.insert(event.recipient, event.at);
                waiting.push((event.at + 2 * HOUR, event.clone()));
            }
        }
    }
    wanted
}

/// What the limits allow, from the order of `mail.intents`, by a model.
fn allowed(intents: &[Record]) -> Vec<String> {
    let (mut ids, mut times, mut campaigns) = (Vec::new(), Vec::new(), BTreeMap::new());
    for record in intents {
        let intent: Intent = serde_json::from_slice(record.value()).unwrap();
        let index = match (&*intent.rule, intent.follow_up) {
            ("capped", None) => {
                let now = times.iter().copied().chain([intent.at]).max().unwrap();
                let recent = times.iter().filter(|at| now - **at < HOUR).count();
                let of_campaign: &mut u32 =
                    campaigns.entry(intent.subject.campaign().unwrap().to_owned()).or_default();
                if recent >= 7 || *of_campaign >= 40 {
                    continue;
                }
                *of_campaign += 1;
                times.push(now);
                "0"
            }
            ("cooled", Some(1)) => "1.0",
            (_, None) => "0",
            other => panic!("{other:?}"),
        };
        ids.push(action_id(&intent.rule, intent.subject.id(), index).to_string());
    }
    ids.sort();
    ids
}

/// What the limits allow, with the code of the service.
fn recomputed(intents: &[Record]) -> Vec<String> {
    let table: toml_like::Rules = toml_like::read(RULES);
    let rules = RuleSet::new(&table.automation).unwrap();
    let (mut states, mut ids) = (BTreeMap::<String, LimitState>::new(), Vec::new());
    for record in intents {
        let intent: Intent = serde_json::from_slice(record.value()).unwrap();
        let rule = rules.rule(&intent.rule).unwrap();
        let state = states.entry(intent.rule.clone()).or_default();
        if state.decide(Some(rule), &intent) == Verdict::Allowed {
            state.allow(rule, &intent).unwrap();
            ids.extend(
                ActionRecord::all(rule, &intent).iter().map(|it| it.0.action_id.to_string()),
            );
        }
    }
    ids.sort();
    ids
}

/// Rules from the text of a settings file.
mod toml_like {
    use super::AutomationSettings;

    #[derive(serde::Deserialize)]
    pub(super) struct Rules {
        pub(super) automation: AutomationSettings,
    }

    pub(super) fn read(text: &str) -> Rules {
        toml::from_str(text).unwrap()
    }
}

fn assert_decided(cluster: &Cluster, steps: &[Step]) {
    let (intents, actions) = decided(cluster);
    let found: Vec<Wanted> = intents
        .iter()
        .map(|record| serde_json::from_slice::<Intent>(record.value()).unwrap())
        .map(|intent| {
            let id = intent.subject.id();
            (intent.rule, id, intent.follow_up)
        })
        .collect();
    let expected = wanted(steps);
    let distinct: BTreeSet<_> = found.iter().cloned().collect();
    assert_eq!(distinct, expected);
    assert_eq!(found.len(), expected.len(), "an intent was written twice");
    assert!(expected.iter().any(|wanted| wanted.2.is_some()), "no follow-up was tested");
    let ids = action_ids(&actions);
    assert_eq!(ids, allowed(&intents));
    assert_eq!(ids, recomputed(&intents));
    assert!(ids.len() < found.len(), "no limit was tested");
    let members: BTreeSet<String> = cluster
        .read_settled(&cluster.topics.segments)
        .iter()
        .map(|record| String::from_utf8(record.key.clone()).unwrap())
        .collect();
    let warm: BTreeSet<String> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Event(event) if expected.contains(&("cooled".into(), event.id(), None)) => {
                let digest = automation::recipient_digest(event.address().as_bytes());
                Some(automation::segment_key("warm", digest))
            }
            _ => None,
        })
        .collect();
    assert_eq!(members, warm);
}

fn run(name: &str, instances: &[&str], (seed, events, rounds): (u64, u64, usize)) {
    let cluster = cluster(name);
    let steps = traffic(seed, events);
    let mut members: Vec<_> =
        instances.iter().map(|instance| member(&cluster, RULES, instance)).collect();
    let parts: Vec<_> = steps.chunks(steps.len().div_ceil(rounds)).collect();
    for (round, part) in parts.iter().enumerate() {
        let half = part.len() / 2;
        cluster.produce(&records(&cluster, &part[..half]));
        let victim = round % members.len();
        harness::eventually("some of it to be decided", harness::DEADLINE, || {
            !cluster.read(&cluster.topics.intents).is_empty()
        });
        members[victim].kill();
        cluster.produce(&records(&cluster, &part[half..]));
        members[victim].restart();
    }
    assert_decided(&cluster, &steps);
}

#[test]
fn decisions_of_one_member_are_exact_although_it_is_killed() {
    run("one", &["a"], (1, 900, 4));
}

#[test]
fn decisions_of_three_members_are_exact_although_they_are_killed() {
    run("three", &["a", "b", "c"], (2, 900, 4));
}

#[test]
#[ignore = "the long form takes minutes"]
fn decisions_are_exact_in_the_long_form() {
    run("long", &["a", "b", "c"], (3, 20_000, 20));
}

#[test]
fn a_follow_up_comes_once_although_the_service_was_away_when_it_was_due() {
    let cluster = cluster("follow-up");
    let mut service = member(&cluster, RULES, "a");
    let click =
        |number, recipient| Step::Event(TestEvent::new(number, Kind::Clicked, recipient, T0));
    let open = Step::Event(TestEvent::new(3, Kind::Opened, 2, T0 + HOUR));
    cluster.produce(&records(&cluster, &[click(1, 1), click(2, 2), open, Step::Time(T0 + HOUR)]));
    let (intents, _) = decided(&cluster);
    assert_eq!(intents.len(), 3, "two clicks and the open");
    service.stop();
    cluster.produce(&records(&cluster, &[Step::Time(T0 + 3 * HOUR)]));
    service.restart();
    let points = |cluster: &Cluster| -> Vec<String> {
        let (_, actions) = decided(cluster);
        let follow_ups = actions.iter().filter(|action| action.json()["index"] == "1.0");
        follow_ups.map(|action| common::text(&action.json()["event"]["recipient"])).collect()
    };
    assert_eq!(points(&cluster), ["r1@example.com"], "the other one was answered by an open");
    service.kill();
    service.restart();
    cluster.produce(&records(&cluster, &[Step::Time(T0 + 9 * HOUR)]));
    assert_eq!(points(&cluster), ["r1@example.com"]);
}

#[test]
fn scanners_and_unverified_requests_start_nothing() {
    let cluster = cluster("scanner");
    let _service = member(&cluster, RULES, "a");
    let mut steps = Vec::new();
    for number in 0..50 {
        let kind = if number % 2 == 0 { Kind::Clicked } else { Kind::Opened };
        let event = TestEvent::new(number, kind, number % 5, T0);
        let (human, authentic) = if number % 4 < 2 { (false, true) } else { (true, false) };
        steps.push(Step::Event(TestEvent { human, authentic, ..event }));
    }
    steps.push(Step::Time(T0 + 100 * HOUR));
    steps.push(Step::Event(TestEvent::new(100, Kind::Opened, 1, T0 + 101 * HOUR)));
    cluster.produce(&records(&cluster, &steps));
    let (intents, actions) = decided(&cluster);
    assert_eq!((intents.len(), actions.len()), (1, 1), "only the open of a person");
}

#[test]
fn a_member_of_a_segment_is_known_to_the_next_owner() {
    let rules = r#"
[[automation.rule]]
name = "joins"
when = { kinds = ["opened"] }
do = [ { type = "segment.add", name = "warm" } ]
[[automation.rule]]
name = "warm-clicked"
when = { kinds = ["clicked"] }
and = [ { segment = "warm" } ]
do = [ { type = "points", add = 1 } ]
"#;
    let cluster = cluster("segment");
    let mut service = member(&cluster, rules, "a");
    let event = |number, kind, recipient| {
        Step::Event(TestEvent::new(number, kind, recipient, T0 + i64::try_from(number).unwrap()))
    };
    cluster.produce(&records(&cluster, &[event(1, Kind::Opened, 1)]));
    let (_, actions) = decided(&cluster);
    assert_eq!(actions.len(), 1);
    service.kill();
    service.restart();
    cluster.produce(&records(&cluster, &[event(2, Kind::Clicked, 1), event(3, Kind::Clicked, 2)]));
    let (intents, _) = decided(&cluster);
    let clicked: Vec<_> = intents.iter().filter(|it| it.json()["rule"] == "warm-clicked").collect();
    let [intent] = &clicked[..] else { panic!("{clicked:?}") };
    assert_eq!(intent.json()["event"]["recipient"], "r1@example.com");
    assert_eq!(intent.json()["values"][0]["value"], true);
}

#[test]
fn a_score_is_known_to_the_next_owner() {
    let rules = r#"
[[automation.rule]]
name = "engaged"
when = { kinds = ["clicked"] }
and = [ { score = ">=0.5" } ]
do = [ { type = "points", add = 1 } ]
"#;
    let cluster = cluster("score");
    let mut service = member(&cluster, rules, "a");
    let mut number = 0;
    let mut produce = |kind, recipient, counts: &str, corrections: &str| {
        number += 1;
        let at = T0 + i64::try_from(number).unwrap();
        let step = Step::Event(TestEvent::new(number, kind, recipient, at));
        let [record] = &records(&cluster, &[step])[..] else { panic!() };
        let record = record.clone().header(names::TALLY, format!("1;;{counts}"));
        let has_corrections = !corrections.is_empty();
        cluster.produce(&[if has_corrections {
            record.header(names::CORRECTIONS, format!("campaign:{corrections}"))
        } else {
            record
        }]);
    };
    // Ada: two delivered, one of them after a soft bounce, and one opened. Bob: one delivered.
    produce(Kind::Bounced, 1, "bounced_soft", "");
    produce(Kind::Delivered, 1, "delivered", "-bounced_soft@5,+deferred@5");
    produce(Kind::Delivered, 1, "delivered", "");
    produce(Kind::Opened, 1, "opened,engaged", "");
    produce(Kind::Delivered, 2, "delivered", "");
    decided(&cluster);
    service.kill();
    service.restart();
    produce(Kind::Clicked, 1, "clicked", "");
    produce(Kind::Clicked, 2, "", ""); // another click in a message whose click is counted already
    produce(Kind::Clicked, 3, "clicked", "");
    let (intents, actions) = decided(&cluster);
    let [intent] = &intents[..] else { panic!("{intents:?}") };
    assert_eq!(actions.len(), 1);
    assert_eq!(intent.json()["event"]["recipient"], "r1@example.com");
    // 0.6 * 1 / 2 + 0.4 * 1 / 2, and no bounce.
    assert_eq!(
        intent.json()["values"],
        serde_json::json!([{"condition": "score >= 0.5", "value": 0.5, "held": true}])
    );
}

#[test]
fn the_rate_of_a_campaign_decides_and_the_intent_tells_it() {
    let rules = r#"
[[automation.rule]]
name = "healthy"
when = { kinds = ["clicked"] }
and = [ { campaign_rate = "bounce < 0.02" } ]
do = [ { type = "points", add = 1 } ]
"#;
    let cluster = cluster("campaign-rate");
    let counted = |campaign: &str, bounced: u64, partition| {
        let value = format!(
            r#"{{"since":{T0},"counts":{{"delivered":{},"bounced_hard":{bounced}}}}}"#,
            100 - bounced
        );
        let key = format!("campaign/ses/acme/{campaign}");
        harness::Outgoing::new(&cluster.topics.campaigns, key, value).on(partition)
    };
    // Recipient 1 clicks in c1, 2 in c2 and 3 in c0.
    cluster.produce(&[counted("c1", 1, 0), counted("c2", 5, 1), counted("c0", 1, 1)]);
    cluster.produce(&[harness::Outgoing::tombstone(
        &cluster.topics.campaigns,
        "campaign/ses/acme/c0",
    )
    .on(1)]);
    let mut service = member(&cluster, rules, "a");
    let clicks = |from: u64| -> Vec<Step> {
        let click = |recipient| {
            let number = from + recipient;
            let at = T0 + i64::try_from(number).unwrap();
            Step::Event(TestEvent::new(number, Kind::Clicked, recipient, at))
        };
        (1..4).map(click).collect()
    };
    cluster.produce(&records(&cluster, &clicks(0)));
    let values = |cluster: &Cluster| -> Vec<(String, serde_json::Value)> {
        let (intents, actions) = decided(cluster);
        assert_eq!(intents.len(), actions.len());
        let of = |record: &Record| {
            let json = record.json();
            (common::text(&json["event"]["recipient"]), json["values"][0].clone())
        };
        intents.iter().map(of).collect()
    };
    let value = |rate: f64| serde_json::json!({"condition": "campaign_rate bounce < 0.02", "value": rate, "held": true});
    let first = ("r1@example.com".to_owned(), value(0.01));
    assert_eq!(values(&cluster), std::slice::from_ref(&first));
    // What monitor publishes later is followed, and known after a restart.
    cluster.produce(&[counted("c1", 9, 0), counted("c2", 0, 1)]);
    service.kill();
    service.restart();
    cluster.produce(&records(&cluster, &clicks(10)));
    assert_eq!(values(&cluster), [first, ("r2@example.com".to_owned(), value(0.0))]);
}

#[test]
fn a_lost_changelog_stops_the_service() {
    let cluster = cluster("lost");
    let mut service = member(&cluster, RULES, "a");
    let click = Step::Event(TestEvent::new(1, Kind::Clicked, 1, T0));
    cluster.produce(&records(&cluster, &[click]));
    decided(&cluster);
    service.stop();
    let changelog = cluster.topics.automate_changelog.clone();
    cluster.delete_topic(&changelog);
    cluster.create_topics();
    service.respawn();
    service.await_log("rules would act again on people");
}

#[test]
fn a_record_that_is_no_event_becomes_a_dead_letter() {
    let cluster = cluster("letters");
    let _service = member(&cluster, RULES, "a");
    let click = TestEvent::new(1, Kind::Clicked, 1, T0);
    let mut broken = records(&cluster, &[Step::Event(click)]);
    broken[0].value = b"{\"event_id\":7}".to_vec();
    cluster.produce(&broken);
    let next = Step::Event(TestEvent::new(2, Kind::Clicked, 1, T0));
    cluster.produce(&records(&cluster, &[next]));
    let (intents, _) = decided(&cluster);
    assert_eq!(intents.len(), 1);
    let letters = cluster.read_settled(&cluster.topics.dead_letters);
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(letter.header("stage"), Some(&b"automate-match"[..]));
    assert_eq!(letter.header("reason"), Some(&b"wrong_shape"[..]));
}
