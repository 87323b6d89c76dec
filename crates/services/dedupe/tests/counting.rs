//! The real binary on a real Kafka: what each event of a message counts for.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Cluster, delete_state, id, text, would_count};
use event::{DimensionDigests, EventId, Kind, Provider};
use harness::{Outgoing, Record, records};
use record::names;

const SMALL: &str = "batch_records = 3\nbatch_wait = \"5ms\"\nimmediate_within = \"0s\"";
/// Microseconds.
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
const START: i64 = 1_780_000_000 * SECOND;
const KEY: &str = "ada@example.com";

/// Produces events of one recipient as enrich does.
struct Mail<'a> {
    cluster: &'a Cluster,
    events: u64,
}

impl<'a> Mail<'a> {
    const fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, events: 0 }
    }

    /// Returns an event of a message, with an id of its own. `at` is microseconds after [`START`].
    fn event(&mut self, message: u64, kind: Kind, at: i64) -> Outgoing {
        self.counting(message, kind, at, would_count(kind))
    }

    fn counting(&mut self, message: u64, kind: Kind, at: i64, counters: &str) -> Outgoing {
        self.without_counters(message, kind, at).header(names::WOULD_COUNT, counters)
    }

    /// Returns an event as earlier releases of enrich wrote it.
    fn without_counters(&mut self, message: u64, kind: Kind, at: i64) -> Outgoing {
        self.events += 1;
        let headers = records::Enriched {
            provider: Provider::Ses,
            id: id(self.events),
            kind,
            occurred_at: START + at,
            engagement: (message > 0).then(|| id(1_000_000 + message)),
            link: None,
        };
        records::enriched(&self.cluster.topics, KEY, "{}", &headers)
    }

    /// Produces events of no message, enough to move the event hour to `at`.
    fn pass_time(&mut self, at: i64) {
        let events: Vec<_> = (0..1_100).map(|_| self.event(0, Kind::Opened, at)).collect();
        self.cluster.produce(&events);
        self.cluster.await_all_processed();
    }
}

/// Returns what dedupe added to the events that name a message: the headers after those of the input,
/// as `name=value`. Times are seconds after [`START`].
fn added(cluster: &Cluster, events: &[Outgoing]) -> Vec<String> {
    let passed = cluster.read_settled(&cluster.topics.events);
    events.iter().map(|event| added_to(event, &passed)).collect()
}

fn added_to(event: &Outgoing, passed: &[Record]) -> String {
    let (_, id) = event.headers.iter().find(|(name, _)| name == names::EVENT_ID).unwrap();
    let mut same = passed.iter().filter(|it| it.header(names::EVENT_ID) == Some(id));
    let (record, None) = (same.next().unwrap(), same.next()) else { panic!("passed twice") };
    assert_eq!(record.headers[..event.headers.len()], event.headers, "the input's come first");
    let added = record.headers[event.headers.len()..].iter().flat_map(|(name, value)| {
        let value = std::str::from_utf8(value).unwrap().to_owned();
        let fields = match name.as_str() {
            names::TALLY => value.split(';').map(str::to_owned).collect(),
            _ => vec![value],
        };
        let names =
            if name == names::TALLY { vec!["seen", "sent", "counts"] } else { vec![&**name] };
        assert_eq!(names.len(), fields.len(), "{name}");
        let fields = names.into_iter().zip(fields).map(|(name, field)| (name.to_owned(), field));
        fields.collect::<Vec<_>>()
    });
    let known =
        added.filter(|(name, value)| !(["seen", "sent"].contains(&&**name) && value.is_empty()));
    let text = known.map(|(name, value)| match value.is_empty() {
        true => name,
        false => format!("{name}={value}"),
    });
    let text = text.collect::<Vec<_>>().join(" ");
    // 1780000009000000 → 9
    let mut short = String::new();
    let mut rest = &*text;
    while let Some(at) = rest.find("1780") {
        let (before, number) = rest.split_at(at);
        let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        let micros: i64 = number[..end].parse().unwrap();
        short += &format!("{before}{}", (micros - START) / SECOND);
        rest = &number[end..];
    }
    short + rest
}

/// Runs a member over events in this order, and returns what it added to them.
fn run(events: impl FnOnce(&mut Mail<'_>) -> Vec<Outgoing>) -> Vec<String> {
    let cluster = Cluster::new();
    let _member = cluster.member("", SMALL).spawn();
    let events = events(&mut Mail::new(&cluster));
    cluster.produce(&events);
    cluster.await_all_processed();
    added(&cluster, &events)
}

#[test]
fn every_event_says_what_it_counts_for() {
    let headers = run(|mail| {
        let mut at = 0;
        let kinds = [
            Kind::Accepted,
            Kind::Deferred,
            Kind::Deferred,
            Kind::Delivered,
            Kind::Opened,
            Kind::Opened,
            Kind::Clicked,
            Kind::Complained,
        ];
        let events = kinds.map(|kind| {
            at += 10 * SECOND;
            mail.event(1, kind, at)
        });
        let alone = mail.event(0, Kind::Delivered, 99 * SECOND);
        events.into_iter().chain([alone]).collect()
    });
    let expected = [
        "seen=1 counts=injected",
        "seen=1 sent=20 counts=deferred,deferrals",
        "seen=2 sent=20 counts=deferrals",
        "seen=1 sent=20 counts=delivered,deferred_settled",
        "seen=1 sent=20 counts=opened,engaged first=kind,engagement",
        "seen=2 sent=20 counts first",
        "seen=1 sent=20 counts=clicked first=kind",
        "seen=1 sent=20 counts=complained",
        "sent=99 counts=delivered",
    ];
    assert_eq!(headers, expected);
}

#[test]
fn bounces_and_deliveries_count_the_same_in_any_order() {
    let campaign = |event: Outgoing, campaign: u16| {
        let digests = DimensionDigests([1, campaign, 3, 4, 0]);
        event.header(names::DIMENSION_DIGESTS, digests.to_bytes())
    };
    let headers = run(|mail| {
        let (fbl, hard) = ("delivered,delivered_fbl", "bounced_hard,late_bounces_fbl");
        vec![
            // A late bounce, in order and before its delivery.
            mail.counting(1, Kind::Delivered, SECOND, fbl),
            mail.counting(1, Kind::Bounced, 9 * SECOND, hard),
            mail.counting(2, Kind::Bounced, 9 * SECOND, hard),
            mail.counting(2, Kind::Delivered, SECOND, fbl),
            // A soft bounce, then the delivery.
            campaign(mail.event(3, Kind::Bounced, SECOND), 7),
            campaign(mail.event(3, Kind::Delivered, 9 * SECOND), 8),
            // The provider knows that it is late, and when it was sent.
            mail.counting(4, Kind::Bounced, 9 * SECOND, "late_bounces")
                .header(names::SENT_AT, (START + 5 * SECOND).to_string()),
        ]
    });
    let expected = [
        "seen=1 sent=1 counts=delivered,delivered_fbl",
        "seen=1 sent=1 counts=late_bounces,late_bounces_fbl late",
        "seen=1 sent=9 counts=bounced_hard",
        "seen=1 sent=9 counts=delivered,delivered_fbl corrections=mailbox_provider,campaign,sender_domain,\
         sending_ip,tenant:-bounced_hard@9,+late_bounces@9,+late_bounces_fbl@9",
        "seen=1 sent=1 counts=bounced_soft,unclassified",
        "seen=1 sent=1 counts=delivered,deferred_settled corrections=mailbox_provider,\
         sender_domain,sending_ip,tenant:-bounced_soft@1,+deferred@1",
        "seen=1 sent=5 counts=late_bounces late",
    ];
    assert_eq!(headers, expected);
}

#[test]
fn an_open_on_the_fifth_day_is_not_the_first_and_one_after_the_horizon_is() {
    let cluster = Cluster::new();
    let mut member = cluster.member("one", SMALL).spawn();
    let mut mail = Mail::new(&cluster);
    let first = [
        mail.event(1, Kind::Delivered, 0),
        mail.event(1, Kind::Opened, SECOND),
        mail.event(2, Kind::Opened, SECOND),
    ];
    cluster.produce(&first);
    mail.pass_time(5 * DAY);
    let later = [mail.event(1, Kind::Opened, 5 * DAY), mail.event(1, Kind::Bounced, 5 * DAY)];
    cluster.produce(&later);
    // Nine days after the latest event of message 2, but not of message 1; with an empty disk.
    mail.pass_time(10 * DAY);
    member.kill();
    delete_state(&member);
    member.respawn();
    let last = [mail.event(1, Kind::Opened, 10 * DAY), mail.event(2, Kind::Opened, 10 * DAY)];
    cluster.produce(&last);
    cluster.await_all_processed();
    let expected = [
        "seen=2 sent=0 counts first",
        "seen=1 sent=0 counts=late_bounces,unclassified late",
        "seen=3 sent=0 counts first",
        "seen=1 counts=opened,engaged first=kind,engagement",
    ];
    assert_eq!(added(&cluster, &[&later[..], &last].concat()), expected);
}

#[test]
fn an_event_beyond_the_horizon_of_ids_counts_if_its_message_tells_that_it_is_no_duplicate() {
    let cluster = Cluster::new();
    let _member = cluster.member("", SMALL).spawn();
    let mut mail = Mail::new(&cluster);
    let known = mail.event(1, Kind::Deferred, 0);
    cluster.produce(std::slice::from_ref(&known));
    mail.pass_time(5 * DAY);
    let late = [
        mail.event(1, Kind::Delivered, SECOND),
        mail.event(2, Kind::Delivered, SECOND),
        mail.event(0, Kind::Delivered, SECOND),
        mail.event(3, Kind::Opened, -5 * DAY),
    ];
    cluster.produce(&[&late[..], &[known]].concat());
    cluster.await_all_processed();
    let expected = [
        "seen=1 sent=0 counts=delivered,deferred_settled unjudged",
        "seen=1 sent=1 counts=delivered unjudged",
        "sent=1 counts unjudged",
        "counts unjudged first",
    ];
    assert_eq!(added(&cluster, &late), expected);
    let passed = cluster.read_settled(&cluster.topics.events);
    let again = passed.last().unwrap();
    assert!(again.header(names::UNJUDGED).is_some());
    let tally = text(again, names::TALLY).unwrap();
    assert!(tally.ends_with(';'), "it counted before: {tally}");
}

#[test]
fn unauthentic_events_are_deduplicated_and_count_only_if_enrich_says_so() {
    let headers = run(|mail| {
        let forged = |event: Outgoing| event.header(names::UNAUTHENTIC, "");
        let delivered = mail.without_counters(1, Kind::Delivered, 0);
        vec![
            forged(delivered),
            forged(mail.without_counters(1, Kind::Opened, SECOND)),
            mail.event(1, Kind::Opened, SECOND),
            forged(mail.event(2, Kind::Delivered, SECOND)),
        ]
    });
    let expected = [
        "counts",
        "counts first",
        "seen=1 counts=opened,engaged first=kind,engagement",
        "seen=1 sent=1 counts=delivered",
    ];
    assert_eq!(headers, expected);
}

#[test]
fn events_of_an_earlier_release_of_enrich_are_counted_by_their_values() {
    let headers = run(|mail| {
        let mut event = |kind: Kind, rest: &str| {
            let mut record = mail.without_counters(0, kind, SECOND);
            let id = EventId([1; 16]);
            record.value = format!(
                r#"{{"event_id":"{id}","kind":"{kind}","provider":"ses","source":"acme","occurred_at":1,"received_at":4000000000000000,"message_id":"m1",{rest}"provider_event":"x","request_id":"r","raw":{{}}}}"#
            )
            .into_bytes();
            record
        };
        let bounce = r#""bounce":{"permanence":"hard","class":"other","side":"unknown"},"#;
        vec![
            event(Kind::Delivered, ""),
            event(Kind::Bounced, bounce),
            event(Kind::Opened, r#""automation":{"reason":"bot","confidence":1},"#),
        ]
    });
    let expected = [
        "seen=1 sent=1 counts=delivered",
        "seen=1 sent=1 counts=late_bounces,unclassified late",
        "seen=1 sent=1 counts=machine_opened first=kind,engagement",
    ];
    assert_eq!(headers, expected);
}

#[test]
fn the_retention_of_an_existing_changelog_is_raised() {
    // The harness creates it for messages that are remembered for nine days.
    let cluster = Cluster::new();
    let member = cluster.member("", &format!("{SMALL}\nremember = \"20d\"\n")).start();
    let log = member.log();
    let raised = "raised_to=1814400000";
    assert!(log.contains("has been raised") && log.contains(raised), "{log}");
}
