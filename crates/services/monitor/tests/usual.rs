//! The real binary on real Kafka: after four weeks of ordinary mail, in virtual time, what is unusual opens one
//! episode each. A source without history opens none.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use harness::{Cluster, DEADLINE, Launch, Outgoing, Service, eventually, layout, seen};
use record::names;
use serde_json::{Value, json};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
/// Monday, 2026-01-05, 00:00 UTC.
const MONDAY: i64 = 1_767_571_200 * SECOND;
/// The week in which unusual things happen, after four ordinary ones.
const LAST: i64 = 4;
/// The rules that are judged by what is usual.
const RULES: [&str; 4] = ["silence", "deliveries_missing", "complaint_burst", "spam_foldering"];

/// Events in any order; they are published in that of their time.
#[derive(Default)]
struct Mail(Vec<(i64, Outgoing)>);

impl Mail {
    /// Adds an event every `every` microseconds in `[from, to)`. Its message was sent `age` before.
    fn add(&mut self, source: &str, counts: &str, (from, to): (i64, i64), every: i64, age: i64) {
        let mut at = from;
        while at < to {
            // As fold needs them: the fields that rates depend on, and one after them.
            let value = json!({
                "provider": "sendgrid", "source": source, "occurred_at": at,
                "received_at": at + SECOND, "mailbox_provider": "gmail",
            });
            let value = value.to_string().replace('}', r#","provider_event":"x"}"#);
            let tally = format!("1;{};{counts}", at - age);
            let record = Outgoing::new("", "ada@example.com", value).header(names::TALLY, tally);
            self.0.push((at, record));
            at += every;
        }
    }

    /// Lets time pass to this moment.
    fn time(&mut self, at: i64) {
        self.0.push((at, Outgoing::new("", "", "").header(names::TIME, at.to_string())));
    }

    fn in_order(mut self, topic: &str) -> Vec<Outgoing> {
        self.0.sort_by_key(|(at, _)| *at);
        let records = self.0.into_iter().map(|(_, record)| record.on(0));
        records.map(|record| Outgoing { topic: topic.to_owned(), ..record }).collect()
    }
}

const DELIVERED: &str = "delivered,delivered_fbl";
const OPENED: &str = "opened,engaged";

/// `cast` sends every Monday from 9 to 10. In the last week it falls silent for 20 minutes.
fn cast(mail: &mut Mail, monday: i64, week: i64) {
    let (start, end) = (monday + 9 * HOUR, monday + 10 * HOUR);
    if week < LAST {
        mail.add("cast", DELIVERED, (start, end), 30 * SECOND, 0);
    } else {
        mail.add("cast", DELIVERED, (start, start + 20 * MINUTE), 30 * SECOND, 0);
        mail.add("cast", DELIVERED, (start + 40 * MINUTE, end), 30 * SECOND, 0);
        // So often that commits end within the silence.
        (120..240).for_each(|number| mail.time(start + number * 10 * SECOND));
    }
}

/// `bolt` sends every Monday from 11 to 12. In the last week nothing is delivered for 25 minutes, while people open what
/// was sent before.
fn bolt(mail: &mut Mail, monday: i64, week: i64) {
    let (start, end) = (monday + 11 * HOUR, monday + 12 * HOUR);
    mail.add("bolt", OPENED, (start, end), 20 * SECOND, HOUR);
    let resumes = if week < LAST { start } else { start + 30 * MINUTE };
    mail.add("bolt", DELIVERED, (start, start + 5 * MINUTE), 12 * SECOND, 0);
    mail.add("bolt", DELIVERED, (resumes.max(start + 5 * MINUTE), end), 12 * SECOND, 0);
}

/// `acme` sends every Wednesday from 9 to 12, and people open 30 % of it. In the last week many complain at 9:30, and few
/// people find the mail.
fn acme(mail: &mut Mail, monday: i64, week: i64) {
    let (start, end) = (monday + 2 * DAY + 9 * HOUR, monday + 2 * DAY + 12 * HOUR);
    mail.add("acme", DELIVERED, (start, end), 18 * SECOND, 0);
    let opens_every = if week < LAST { MINUTE } else { 5 * MINUTE };
    mail.add("acme", OPENED, (start + 5 * SECOND, end), opens_every, 4 * SECOND);
    let complaints = if week < LAST { 2 } else { 14 };
    let half = start + 30 * MINUTE;
    mail.add("acme", "complained", (half, half + complaints * 10 * SECOND), 10 * SECOND, HOUR);
}

/// `young` does all of this in the last week, and did nothing before.
fn young(mail: &mut Mail, monday: i64) {
    let at = |day: i64, hour: i64| monday + day * DAY + hour * HOUR;
    mail.add("young", DELIVERED, (at(0, 9), at(0, 9) + 20 * MINUTE), 5 * SECOND, 0);
    mail.add("young", OPENED, (at(0, 11), at(0, 11) + 30 * MINUTE), 20 * SECOND, 2 * HOUR);
    let complaints = (at(2, 9), at(2, 9) + 3 * MINUTE);
    mail.add("young", "complained", complaints, 10 * SECOND, HOUR);
    mail.add("young", DELIVERED, (at(2, 9), at(2, 12)), 18 * SECOND, 0);
    mail.add("young", OPENED, (at(2, 9), at(2, 12)), 10 * MINUTE, 0);
}

fn mail() -> Mail {
    let mut mail = Mail::default();
    for week in 0..=LAST {
        let monday = MONDAY + week * WEEK;
        cast(&mut mail, monday, week);
        bolt(&mut mail, monday, week);
        acme(&mut mail, monday, week);
        for hour in 0..7 * 24 {
            let is_busy = [0, 2].contains(&(hour / 24)) && (8..16).contains(&(hour % 24));
            for minute in 0..if is_busy { 60 } else { 1 } {
                mail.time(monday + hour * HOUR + minute * MINUTE);
            }
        }
    }
    young(&mut mail, MONDAY + LAST * WEEK);
    mail
}

fn member(cluster: &Cluster) -> Service {
    let settings = "
        [monitor]
        # Virtual time is fast, and what a commit contains happens at once.
        batch_records = 50
        out_of_orderness = \"5s\"
        [[source]]
        provider = \"sendgrid\"
        name = \"acme\"
        time_zone = \"Europe/Berlin\"
        ";
    Launch::new("monitor", env!("CARGO_BIN_EXE_monitor"), cluster)
        .config(settings)
        .instance("a")
        .start()
}

/// Waits until the shard has come to a moment.
fn await_clock(cluster: &Cluster, moment: i64) {
    eventually("the clock of the shard", DEADLINE, || {
        let clocks = cluster.read(&cluster.topics.alerts);
        let clocks = clocks.iter().filter(|record| record.key == b"clock");
        let latest = clocks.filter_map(|record| record.json()["now"].as_i64()).max();
        seen(latest.map(|now| (now - MONDAY) / HOUR), |_| latest >= Some(moment))
    });
}

#[test]
fn what_is_unusual_opens_one_episode_each() {
    let cluster = Cluster::new("monitor-usual", layout(1, 1));
    let records = mail().in_order(&cluster.topics.events);
    let half = records.len() / 2;
    let mut member = member(&cluster);
    cluster.produce(&records[..half]);
    await_clock(&cluster, MONDAY + 2 * WEEK);
    // What is usual is restored from the changelog.
    member.kill();
    member.restart();
    cluster.produce(&records[half..]);
    await_clock(&cluster, MONDAY + (LAST + 1) * WEEK - 2 * HOUR);
    let alerts: Vec<Value> = cluster
        .read(&cluster.topics.alerts)
        .iter()
        .filter(|record| record.key != b"clock")
        .map(harness::Record::json)
        .collect();
    let mut opened: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut resolved = 0;
    for alert in alerts.iter().filter(|alert| RULES.iter().any(|rule| alert["rule"] == *rule)) {
        let scope =
            format!("{}/{}", alert["scope"].as_str().unwrap(), alert["source"].as_str().unwrap());
        let key = (alert["rule"].as_str().unwrap().to_owned(), scope);
        *opened.entry(key).or_default() += usize::from(alert["seq"] == 1);
        resolved += usize::from(alert["state"] == "resolved");
    }
    let expected = [
        ("complaint_burst", "mailbox_provider/acme"),
        ("complaint_burst", "source/acme"),
        ("deliveries_missing", "source/bolt"),
        // Also of its deliveries alone.
        ("silence", "source/bolt"),
        ("silence", "source/cast"),
        ("spam_foldering", "mailbox_provider/acme"),
    ];
    let expected = expected.map(|(rule, scope)| ((rule.to_owned(), scope.to_owned()), 1));
    assert_eq!(opened, expected.into(), "{alerts:#?}");
    assert_eq!(resolved, 6, "all of them end");
    member.stop();
}
