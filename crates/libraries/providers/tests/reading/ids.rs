//! The ids of events: two events never share one, and the same bytes always have the same.

use std::collections::BTreeSet;

use event::{Kind, Provider};

use crate::{RECEIVED_AT, Read, read, read_at, read_one, samples};

const HOURS: i64 = 3_600_000_000;

fn id(provider: Provider, body: &str) -> String {
    read_one(provider, body).field("/event_id").unwrap().to_owned()
}

#[test]
fn an_undated_event_has_the_same_id_whenever_it_is_posted() {
    for provider in Provider::ALL {
        for time in ["null", "\"soon\"", "\"\"", "99999999999999999999"] {
            let body = samples::body(provider, "jun@ropewalk.example", "no", time);
            let [first, second] = [RECEIVED_AT, RECEIVED_AT + 3 * HOURS].map(|received_at| {
                let [read]: [Read; 1] =
                    read_at(provider, body.as_bytes(), received_at).try_into().unwrap();
                read.event.unwrap()
            });
            assert_eq!(first["event_id"], second["event_id"], "{provider}: {time}");
            assert_eq!(second["occurred_at"], RECEIVED_AT + 3 * HOURS, "{provider}: {time}");
        }
    }
}

/// The ids of events that have an id of their provider are in the archives of our users.
#[test]
fn ids_of_events_with_an_id_never_change() {
    insta::assert_snapshot!(
        Provider::ALL
            .map(|provider| {
                let body = samples::body(provider, "jun@ropewalk.example", "no", "1762787700");
                format!("{provider} {}\n", id(provider, &body))
            })
            .concat()
    );
}

/// Two bodies that differ in one field, which is all that tells the two events apart.
#[test]
fn events_without_an_id_are_told_apart_by_every_field() {
    let list =
        |name: &str| format!(r#"{{"type":"{name}","action":"add","ts":1762787700,"REJECT"}}"#);
    let sync = |reason: &str| {
        let reject = format!(r#""reject":{{"email":"jun@ropewalk.example","reason":"{reason}"}}"#);
        samples::wrap(
            Provider::Mandrill,
            format!("[{}]", list("blacklist").replace(r#""REJECT""#, &reject)),
        )
    };
    let pairs = [
        (
            Provider::SendGrid,
            r#"[{"event":"group_unsubscribe","email":"jun@ropewalk.example","timestamp":1762787700,
                "sg_message_id":"h.recvd-1.0","asm_group_id":ONE}]"#,
            ["17", "18"],
        ),
        (
            Provider::Mailgun,
            "event=clicked&recipient=jun%40ropewalk.example&timestamp=1762787700&ip=198.51.100.ONE",
            ["7", "8"],
        ),
        (
            Provider::Mailjet,
            r#"{"event":"unsub","time":1762787700,"MessageID":9,"email":"jun@ropewalk.example",
                "ip":"198.51.100.7","mj_list_id":ONE}"#,
            ["7", "8"],
        ),
        (
            Provider::Mailjet,
            r#"{"event":"open","MessageID":9,"email":"jun@ropewalk.example","CustomID":"ONE"}"#,
            ["7", "8"],
        ),
        (
            Provider::Postmark,
            r#"{"RecordType":"Open","MessageID":"m","Recipient":"jun@ropewalk.example","Geo":{"IP":"ONE"}}"#,
            ["198.51.100.7", "198.51.100.8"],
        ),
        (
            Provider::Resend,
            r#"{"type":"email.opened","data":{"email_id":"e","to":["jun@ropewalk.example"],
                "open":{"ipAddress":"ONE"}}}"#,
            ["198.51.100.7", "198.51.100.8"],
        ),
        (
            Provider::SparkPost,
            r#"[{"msys":{"track_event":{"type":"open","rcpt_to":"jun@ropewalk.example","x":"ONE"}}}]"#,
            ["7", "8"],
        ),
        (
            Provider::MailerSend,
            r#"{"type":"activity.opened","data":{"created_at":"2025-11-10T15:15:00Z","morph":{"ip":"ONE"}}}"#,
            ["198.51.100.7", "198.51.100.8"],
        ),
    ];
    for (provider, template, values) in pairs {
        let bodies = values.map(|value| template.replace("ONE", value));
        let ids: BTreeSet<_> = bodies.iter().map(|body| id(provider, body)).collect();
        assert_eq!(ids.len(), 2, "{provider}: {template}");
        assert_eq!(id(provider, &bodies[0]), id(provider, &bodies[0]), "{provider}");
    }
    assert_ne!(id(Provider::Mandrill, &sync("hard-bounce")), id(Provider::Mandrill, &sync("spam")));
}

/// A variable named `id` is the same in all events of a message.
#[test]
fn a_variable_in_a_form_is_not_taken_for_a_field() {
    let form = |event: &str| {
        let body = format!(
            "event=registration&id=order-7&severity=temporary&url=x&event={event}&timestamp=1762780000\
             &recipient=no&recipient=jun%40ropewalk.example&code=605&timestamp=1762787700"
        );
        read_one(Provider::Mailgun, &body)
    };
    let (delivered, opened) = (form("delivered"), form("opened"));
    assert_eq!((delivered.kind, opened.kind), (Kind::Delivered, Kind::Opened));
    assert_eq!(delivered.key, "jun@ropewalk.example");
    assert_ne!(delivered.field("/event_id"), opened.field("/event_id"));
    assert_eq!(delivered.event.as_ref().unwrap()["occurred_at"], 1_762_787_700_000_000_i64);
    assert_eq!((delivered.field("/url"), delivered.field("/provider_event_id")), (None, None));
    assert_eq!(delivered.field("/provider_event"), Some("delivered"));
    // Both values of a name are kept.
    assert!(
        String::from_utf8_lossy(&delivered.raw).contains(r#""event":["registration","delivered"]"#)
    );
}

/// Both values are signed, so the events of both are published.
#[test]
fn mandrills_field_may_come_twice() {
    let once = samples::body(Provider::Mandrill, "jun@ropewalk.example", "no", "1762787700");
    let twice = format!("{once}&{}", once.replace("jun%40", "odile%40"));
    let keys: Vec<_> = read(Provider::Mandrill, &twice).into_iter().map(|read| read.key).collect();
    assert_eq!(keys, ["jun@ropewalk.example", "odile@ropewalk.example"]);
}
