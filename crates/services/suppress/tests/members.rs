//! Whatever happens to members, lookups equal a replay of the topic, and the topic equals the policy.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use common::{DAY, START, Setup, digest};
use event::Kind;
use harness::{DEADLINE, Outgoing, eventually};
use serde_json::json;
use suppression::{Mark, Policy, Signal, Streak};

/// Small transactions, so that a short test has many.
const SMALL: &str = "batch_records = 100\nbatch_wait = \"5ms\"";
const POLICY: Policy = Policy { soft_bounces: 5, soft_within: 30 * DAY, soft_for: 90 * DAY };

struct Traffic {
    state: u64,
    recipients: BTreeMap<String, (BTreeMap<&'static str, Mark>, Streak)>,
}

impl Traffic {
    fn random(&mut self, below: u64) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    /// Returns events of 200 recipients, and applies them to what is expected.
    fn events(&mut self, setup: &Setup, count: u64) -> Vec<Outgoing> {
        (0..count).map(|_| self.event(setup)).collect()
    }

    fn event(&mut self, setup: &Setup) -> Outgoing {
        let who = format!("r{}@x.com", self.random(200));
        let at = i64::try_from(self.random(20 * DAY.cast_unsigned())).unwrap();
        let (event, signal) = match self.random(12) {
            0 => (setup.bounce(&who, at, ("hard", "recipient")), Signal::HardBounce),
            1 => (setup.event(Kind::Complained, &who, at, &json!({})), Signal::Complaint),
            2 => (setup.event(Kind::Unsubscribed, &who, at, &json!({})), Signal::Unsubscribe),
            3 => (setup.event(Kind::Subscribed, &who, at, &json!({})), Signal::Subscribe),
            4 => (setup.event(Kind::Delivered, &who, at, &json!({})), Signal::Works),
            _ => (setup.bounce(&who, at, ("soft", "recipient")), Signal::SoftBounce),
        };
        let (marks, streak) = self.recipients.entry(who).or_default();
        let name = signal.reason().as_str();
        let mark = marks.get(name).copied();
        if let Some(mark) = POLICY.decide(signal, START + at, mark, streak) {
            marks.insert(name, mark);
        }
        event
    }

    /// Returns the expected rows, as [`Setup::replay`] returns them.
    fn expected(&self) -> BTreeMap<String, (String, i64)> {
        let mut rows = BTreeMap::new();
        for (who, (marks, _)) in &self.recipients {
            for (name, mark) in marks {
                let reason = suppression::Reason::from_name(name).unwrap();
                let key = format!("ses/news|{}|{reason:?}||Event", digest(who));
                let state = if mark.is_lifted { "Lifted" } else { "Suppressed" };
                rows.insert(key, (state.to_owned(), mark.at));
            }
        }
        rows
    }
}

#[test]
fn members_that_are_killed_decide_every_event_once() {
    let setup = Setup::new("suppress-kill");
    let mut traffic = Traffic { state: 7, recipients: BTreeMap::new() };
    let mut one = setup.start("one", SMALL);
    let mut two = setup.start("two", SMALL);
    let (group, topic) = (setup.cluster.topics.group("suppress"), &setup.cluster.topics.events);
    let mut produced = 0;
    for round in 0..6 {
        let events = traffic.events(&setup, 1_500);
        setup.cluster.produce(&events);
        produced += 1_500;
        // In the middle of its work, if it is not faster.
        setup.cluster.await_committed(&group, topic, produced - 1_200);
        let victim = if round % 2 == 0 { &mut one } else { &mut two };
        victim.service.kill();
        victim.service.respawn();
    }
    one.service.await_ready();
    two.service.await_ready();
    setup.await_processed();
    let replay = setup.replay();
    assert_eq!(replay, traffic.expected());
    let suppressed = replay.values().filter(|(state, _)| state == "Suppressed").count();
    assert!(suppressed > 100 && suppressed < replay.len(), "{suppressed} of {}", replay.len());

    for member in [&one, &two] {
        for who in traffic.recipients.keys() {
            let what = format!("the lookup of {who} to equal the replay");
            eventually(&what, DEADLINE, || {
                let answer = member.get(&format!("/suppressions/{who}"));
                let entries = answer["entries"].as_array().unwrap().clone();
                let found = entries.iter().map(|entry| {
                    (entry["reason"].as_str().unwrap().to_owned(), entry["since"].as_i64().unwrap())
                });
                let found: BTreeMap<_, _> = found.collect();
                let (marks, _) = &traffic.recipients[who];
                let expected: BTreeMap<_, _> =
                    marks.iter().map(|(name, mark)| ((*name).to_owned(), mark.at)).collect();
                if found == expected { Ok(()) } else { Err(format!("{found:?} {expected:?}")) }
            });
        }
    }
}
