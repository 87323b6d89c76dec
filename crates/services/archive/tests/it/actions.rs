//! Records of `mail.actions` become rows of `actions`, and its view adds them up.

use std::collections::{BTreeMap, BTreeSet};

use automation::{ActionRecord, Facts, Subject};
use event::{EventId, Kind};
use harness::Outgoing;
use record::names;

use crate::stack::Stack;

/// The columns that follow from the value of a record, in the order of [`columns`].
const COLUMNS: &str = "[action_id, rule, index, type, name, toString(add), toString(toUnixTimestamp64Micro(at)), \
    intent_id, toString(follow_up), event_id, kind, provider, source, tenant, campaign, message_id, recipient, \
    mailbox_provider]";

/// Returns an action with every field that any has.
pub fn full() -> ActionRecord {
    let mut event = Facts::sample();
    event.labels = [("team".to_owned(), "growth".to_owned())].into();
    ActionRecord {
        action_id: EventId([1; 16]),
        rule: "vip-clicked".to_owned(),
        index: "2.0".to_owned(),
        action: "email".to_owned(),
        name: Some("still-there".to_owned()),
        add: Some(-5),
        at: 1_795_255_201_000_001,
        intent_id: EventId([2; 16]),
        subject: Subject::Event(event),
    }
}

/// Returns the event of an action, to change it.
pub fn event_of(action: &mut ActionRecord) -> &mut Facts {
    match &mut action.subject {
        Subject::Event(event) => event,
        Subject::Incident(_) => panic!("an incident started the rule"),
    }
}

/// Returns an action with no more fields than every one has.
fn least() -> ActionRecord {
    let event = Facts {
        event_id: EventId([3; 16]),
        kind: Kind::Opened,
        source: "globex".to_owned(),
        recipient: "bob@example.com".to_owned(),
        mailbox_provider: None,
        message_id: None,
        campaign: None,
        stream: None,
        tenant: None,
        sender: None,
        url: None,
        interest: None,
        conversion: None,
        time_zone: None,
        tags: Vec::new(),
        ..Facts::sample()
    };
    let (action_id, index) = (EventId([4; 16]), "0".to_owned());
    let subject = Subject::Event(event);
    ActionRecord { action_id, index, name: None, add: None, subject, ..full() }
}

/// Returns the record as `automate-limit` writes it.
pub fn record(stack: &Stack, action: &ActionRecord) -> Outgoing {
    let value = serde_json::to_vec(action).unwrap();
    Outgoing::new(&stack.cluster.topics.actions, action.subject.key(), value)
        .on(0)
        .header(names::SOURCE, action.subject.source())
}

/// Returns what [`COLUMNS`] must have.
fn columns(action: &ActionRecord) -> Vec<Option<String>> {
    let text = |text: &Option<String>| Some(text.clone().unwrap_or_default());
    let event = action.subject.event().unwrap();
    vec![
        Some(action.action_id.to_string()),
        Some(action.rule.clone()),
        Some(action.index.clone()),
        Some(action.action.clone()),
        text(&action.name),
        action.add.map(|add| add.to_string()),
        Some(action.at.to_string()),
        Some(action.intent_id.to_string()),
        Some((action.index == "2.0").to_string()),
        Some(event.event_id.to_string()),
        Some(event.kind.to_string()),
        Some(event.provider.as_str().to_owned()),
        Some(event.source.clone()),
        text(&event.tenant),
        text(&event.campaign),
        text(&event.message_id),
        Some(event.recipient.clone()),
        text(&event.mailbox_provider),
    ]
}

/// Returns a time before the present that no retention has reached, in UTC milliseconds.
#[allow(clippy::disallowed_methods, reason = "Kafka removes old records")]
fn an_hour_ago() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap() - 3_600_000
}

#[test]
fn rows_equal_records_and_what_is_for_others_is_no_row() {
    let stack = Stack::new();
    let decided_at = an_hour_ago();
    let (full, least) = (full(), least());
    stack.produce(
        &[
            record(&stack, &full).written_at(decided_at),
            record(&stack, &least).written_at(decided_at + 1),
            record(&stack, &full).header("redriven", b"automate-deliver"),
            record(&stack, &least).header("redriven", b"archive"),
        ],
        2,
    );
    let archive = stack.start();
    stack.database.await_count("actions", 3);
    let topics = &stack.cluster.topics;
    // Without the marker of the transaction, which follows the last record.
    let last: i64 = stack.cluster.end_offsets(&topics.actions).iter().sum();
    stack.cluster.await_committed(&topics.group("archive"), &topics.actions, last - 1);
    let committed = stack.cluster.committed(&topics.group("archive"), &topics.actions);
    let ledger = committed[0].as_ref().unwrap().metadata.clone();
    assert_eq!(ledger, "@4,3,1,0,1", "read, passed, dropped, dead letters, redriven");

    let rows: Vec<(Vec<Option<String>>, Option<i64>)> = stack.database.one(&format!(
        "SELECT groupArray(({COLUMNS}, toUnixTimestamp64Micro(decided_at))) \
         FROM (SELECT * FROM actions ORDER BY kafka_offset)"
    ));
    let expected = [
        (columns(&full), Some(decided_at * 1_000)),
        (columns(&least), Some((decided_at + 1) * 1_000)),
        // The time of the redrive is not that of the decision.
        (columns(&least), None),
    ];
    assert_eq!(rows, expected);
    assert!(stack.cluster.read_settled(&topics.dead_letters).is_empty());
    archive.await_ready();
}

#[test]
fn a_record_that_cannot_be_read_becomes_a_dead_letter_and_affects_no_other() {
    let stack = Stack::new();
    let topic = &stack.cluster.topics.actions;
    let unreadable = |value: &[u8]| Outgoing::new(topic, "ada@example.com", value).on(0);
    let without_recipient = {
        let mut value = serde_json::to_value(full()).unwrap();
        value["event"].as_object_mut().unwrap().remove("recipient");
        value.to_string()
    };
    let records = [
        unreadable(b"{\"action_id\":"),
        record(&stack, &full()),
        unreadable(without_recipient.as_bytes()),
        unreadable(b""),
        record(&stack, &least()),
    ];
    stack.produce(&records, 2);
    let archive = stack.start();
    stack.database.await_count("actions", 2);
    stack.database.await_count("dead_letters", 3);
    let found: Vec<(String, String, String)> = stack.database.one(
        "SELECT groupArray((reason, key, value)) FROM (SELECT * FROM dead_letters \
         WHERE stage = 'archive' AND origin LIKE '%mail.actions/0/%' ORDER BY toUInt64(splitByChar('/', origin)[3]))",
    );
    let expected =
        [("not_json", "{\"action_id\":"), ("wrong_shape", &*without_recipient), ("not_json", "")]
            .map(|(reason, value)| {
                (reason.to_owned(), "ada@example.com".to_owned(), value.to_owned())
            });
    assert_eq!(found, expected);
    archive.await_ready();
}

/// A day in milliseconds.
const DAY: i64 = 86_400_000;
/// A rule, a type, and the number of a day.
type Key = (String, String, u16);
/// Actions, recipients and follow-ups, and of the times to the decision the average in microseconds, and the least and
/// the greatest in milliseconds.
type Sums = (u64, u64, u64, Option<i64>, Option<i64>, Option<i64>);

/// An invented action.
struct Sample {
    rule: &'static str,
    of: &'static str,
    day: i64,
    recipient: u64,
    is_follow_up: bool,
    /// The time from the receipt to the decision. It is below 0 where the clocks differ.
    millis: Option<i64>,
}

/// Returns actions of two rules, three types and three days.
fn samples() -> Vec<Sample> {
    (0..60_u64)
        .map(|n| Sample {
            rule: if n.is_multiple_of(3) { "vip" } else { "late" },
            of: ["webhook", "points", "email"][usize::try_from(n / 2 % 3).unwrap()],
            day: i64::try_from(n / 25).unwrap(),
            recipient: n * n % 7,
            is_follow_up: n.is_multiple_of(4),
            // The times of some actions are not known, and of some groups none is.
            millis: (n % 5 != 0 && n < 50).then(|| i64::try_from(n * 37 % 1_000).unwrap() - 20),
        })
        .collect()
}

#[test]
fn the_view_of_rules_adds_actions_up_by_rule_type_and_day() {
    let stack = Stack::without_topics();
    let database = &stack.database;
    database.create();
    stack.migrate();
    for (offset, sample) in samples().iter().enumerate() {
        let Sample { rule, of, day, recipient, is_follow_up, millis } = sample;
        let at = 20_000 * DAY + day * DAY + i64::try_from(offset).unwrap();
        let decided_at = millis.map_or_else(
            || "NULL".to_owned(),
            |millis| format!("fromUnixTimestamp64Milli({}, 'UTC')", at + millis),
        );
        database.execute(&format!(
            "INSERT INTO actions (rule, type, at, decided_at, recipient, follow_up, kafka_offset) VALUES \
             ('{rule}', '{of}', fromUnixTimestamp64Milli({at}, 'UTC'), {decided_at}, 'u{recipient}@example.com', \
             {is_follow_up}, {offset})"
        ));
    }
    let mut groups: BTreeMap<Key, Vec<Sample>> = BTreeMap::new();
    for sample in samples() {
        let day = 20_000 + u16::try_from(sample.day).unwrap();
        let key = (sample.rule.to_owned(), sample.of.to_owned(), day);
        groups.entry(key).or_default().push(sample);
    }
    let expected: Vec<(Key, Sums)> = groups
        .into_iter()
        .map(|(key, of_key)| {
            let recipients: BTreeSet<u64> = of_key.iter().map(|it| it.recipient).collect();
            let millis: Vec<i64> = of_key.iter().filter_map(|it| it.millis).collect();
            let average = (!millis.is_empty()).then(|| {
                let sum: i64 = millis.iter().sum();
                (sum * 1_000).div_euclid(i64::try_from(millis.len()).unwrap())
            });
            let sums = (
                of_key.len() as u64,
                recipients.len() as u64,
                of_key.iter().filter(|it| it.is_follow_up).count() as u64,
                average,
                millis.iter().min().copied(),
                millis.iter().max().copied(),
            );
            (key, sums)
        })
        .collect();
    assert!(expected.iter().any(|(_, sums)| sums.3.is_none()), "a group without times");
    let found: Vec<(Key, Sums)> = database.one(
        "SELECT groupArray(((rule, type, toUInt16(day)), (actions, recipients, follow_ups, \
         toInt64(floor(seconds_to_decision_avg * 1000000 + 0.001)), toInt64(round(seconds_to_decision_min * 1000)), \
         toInt64(round(seconds_to_decision_max * 1000))))) \
         FROM (SELECT * FROM automation_rules ORDER BY rule, type, day)",
    );
    assert_eq!(found, expected);
}
