//! Tests the mappings of senders with a form of their own: the three usual envelopes, every field,
//! and what happens to a record whose mapping is not known.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use event::{Event, Kind, Permanence, Provider, ReceivedAt};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use providers::{
    Authenticator, Envelope, Mappings, Options, ParseError, ReceivedRequest, Rejection,
    SourceMapping, SourceSettings, SplitError,
};
use serde_json::{Value, json};

const GENERIC: Provider = Provider::Generic;

fn mappings(mut settings: Value) -> Mappings {
    settings["provider"] = "generic".into();
    settings["name"] = "own".into();
    let source: SourceMapping = serde_json::from_value(settings).unwrap();
    Mappings::new([source]).unwrap()
}

fn envelope(recipient: &str) -> Envelope<'_> {
    let received_at = ReceivedAt(1_762_788_000_000_000);
    Envelope { source: "own", recipient, received_at, request_id: "r-1" }
}

/// Splits and parses, and passes the events on.
fn events<T>(mappings: &Mappings, body: &str, use_event: impl Fn(&Event<'_>) -> T) -> Vec<T> {
    let split = mappings.split(GENERIC, "own", body.as_bytes()).unwrap();
    let parse = |raw: providers::RawEvent<'_>| {
        let envelope = envelope(raw.recipient);
        let event = mappings.parse(GENERIC, true, raw.raw, &envelope).unwrap();
        assert_eq!(event.kind, raw.kind, "split and parse agree");
        assert_eq!(event.recipient.as_deref().unwrap_or_default(), raw.recipient);
        use_event(&event)
    };
    split.events().map(parse).collect()
}

/// Kind, recipient, time in seconds, id.
fn brief(event: &Event<'_>) -> (Kind, String, i64, String) {
    let text = |text: &Option<event::Text<'_>>| text.as_deref().unwrap_or_default().to_owned();
    let seconds = event.occurred_at.micros() / 1_000_000;
    (event.kind, text(&event.recipient), seconds, text(&event.provider_event_id))
}

#[test]
fn a_list_in_an_envelope() {
    let mappings = mappings(json!({ "events": "/events" }));
    let body = r#"{"batch":7,"events":[
        {"id":"a","event":"delivered","recipient":"Ada@Example.com","timestamp":1762787700},
        {"id":"b","event":"opened","recipient":"grace@example.org","timestamp":1762787701}]}"#;
    assert_eq!(
        events(&mappings, body, brief),
        [
            (Kind::Delivered, "ada@example.com".into(), 1_762_787_700, "a".into()),
            (Kind::Opened, "grace@example.org".into(), 1_762_787_701, "b".into()),
        ]
    );
    // The raw events are slices of the body.
    let split = mappings.split(GENERIC, "own", body.as_bytes()).unwrap();
    for raw in split.events() {
        assert!(body.as_bytes().as_ptr_range().contains(&raw.raw.as_ptr()));
    }
}

#[test]
fn one_event_in_an_envelope() {
    let mappings = mappings(json!({
        "events": "/event",
        "fields": { "event": "/type", "recipient": "/to", "timestamp": "/at" },
        "kinds": { "mail.click": "clicked" },
    }));
    let body = r#"{"event":{"type":"mail.click","to":["ada@example.com","GRACE@example.org"],
        "at":"2025-11-10T15:15:00Z","id":5}}"#;
    let at = 1_762_787_700;
    assert_eq!(
        events(&mappings, body, brief),
        [
            (Kind::Clicked, "ada@example.com".into(), at, "5".into()),
            (Kind::Clicked, "grace@example.org".into(), at, "5".into()),
        ]
    );
}

fn envelope_with_data() -> Value {
    json!({
        "fields": {
            "event": "/event_type", "id": "/event_id", "timestamp": "/timestamp",
            "recipient": "/data/email", "message_id": "/data/mail/id",
            "campaign": "/data/campaign/name", "stream": "/data/pool", "tags": "/data/labels",
            "url": "/data/link", "ip": "/data/client/ip", "user_agent": "/data/client/agent",
            "machine": "/data/client/bot", "reason": "/data/smtp/text",
            "status": "/data/smtp/code", "permanence": "/data/smtp/class",
        },
        "kinds": { "email.bounce": "bounced", "email.hard": "bounced hard", "email.open": "opened" },
    })
}

#[test]
fn an_event_with_data_and_every_field() {
    let mappings = mappings(envelope_with_data());
    let body = r#"{"event_type":"email.open","event_id":"e-1","timestamp":1762787700250,
        "data":{"email":"Ada@Example.com","mail":{"id":"m-1"},"campaign":{"name":"harvest"},
        "pool":"bulk","labels":["eu","receipt"],"link":"https://shop.example.com/",
        "client":{"ip":"203.0.113.9","agent":"Agent/1","bot":"TRUE"}}}"#;
    let seen = events(&mappings, body, |event| {
        let owned = serde_json::to_value(event).unwrap();
        ["message_id", "campaign", "stream", "tags", "url", "ip", "user_agent", "provider_event"]
            .map(|key| owned[key].clone())
    });
    let expected = json!([
        "m-1",
        "harvest",
        "bulk",
        ["eu", "receipt"],
        "https://shop.example.com/",
        "203.0.113.9",
        "Agent/1",
        "email.open",
    ]);
    assert_eq!(json!(seen[0]), expected);
    assert!(events(&mappings, body, |event| event.automation.is_some())[0]);

    let bounce = r#"{"event_type":"email.bounce","event_id":"e-2","timestamp":1762787700,
        "data":{"email":"ada@example.com","smtp":{"code":"5.2.2","class":"Temporary",
        "text":"552 over quota"}}}"#;
    let refusals = |body: &str| {
        events(&mappings, body, |event| {
            let bounce = event.bounce.as_ref().unwrap();
            let status = bounce.status.as_deref().unwrap_or_default().to_owned();
            (bounce.permanence, bounce.class.as_str(), status)
        })
    };
    assert_eq!(refusals(bounce), [(Permanence::Soft, "mailbox_full", "5.2.2".to_owned())]);
    let hard = refusals(&bounce.replace("email.bounce", "email.hard"));
    assert_eq!(hard[0].0, Permanence::Hard, "the name of the event says it");
}

#[test]
fn the_same_bytes_and_mapping_give_the_same_id_and_other_events_give_others() {
    let mappings = mappings(envelope_with_data());
    let id = |body: &str| events(&mappings, body, |event| event.event_id)[0];
    let body = r#"{"event_type":"email.open","event_id":"e-1","timestamp":1762787700,
        "data":{"email":"ada@example.com","mail":{"id":"m-1"}}}"#;
    assert_eq!(id(body), id(body));
    assert_ne!(id(body), id(&body.replace("e-1", "e-2")));
    assert_ne!(id(body), id(&body.replace("ada@", "grace@")));
    // Without ids: the whole event is the key.
    let bare = r#"{"event_type":"list.joined","timestamp":1762787700,"data":{"email":"ada@example.com","n":1}}"#;
    assert_eq!(id(bare), id(bare));
    assert_ne!(id(bare), id(&bare.replace(":1}", ":2}")));
}

#[test]
fn events_inside_a_text_are_read() {
    let mappings = mappings(json!({ "events": "/payload" }));
    let body = r#"{"payload":"[{\"event\":\"opened\",\"recipient\":\"ada@example.com\",\"id\":\"1\",\"timestamp\":1762787700}]"}"#;
    assert_eq!(events(&mappings, body, brief)[0].0, Kind::Opened);
}

#[test]
fn a_body_of_another_form_becomes_a_dead_letter() {
    let mappings = mappings(json!({ "events": "/events" }));
    let code = |body: &[u8]| mappings.split(GENERIC, "own", body).unwrap_err().code();
    for other in [r#"{"data":[]}"#, r#"{"events":7}"#, r#"{"events":[7]}"#, r#"{"events":"x"}"#] {
        assert_eq!(code(other.as_bytes()), "wrong_shape", "{other}");
    }
    assert_eq!(code(br#"{"events":[{}]"#), "not_json");
    assert_eq!(code(br#"{"events":[{}]} x"#), "not_json");
    assert_eq!(code(b"\xff"), "not_utf8");
    let empty = mappings.split(GENERIC, "own", br#"{"events":[]}"#).unwrap();
    assert!(empty.is_empty());
}

#[test]
fn without_its_mapping_a_record_becomes_a_dead_letter() {
    let raw = br#"{"event":"opened","id":"1","timestamp":1762787700}"#;
    let parse = |mappings: &Mappings, is_mapped| {
        let parsed = mappings.parse(GENERIC, is_mapped, raw, &envelope("ada@example.com"));
        parsed.map(|event| event.kind)
    };
    let (none, ours) = (Mappings::default(), mappings(json!({})));
    for mappings in [&none, &ours] {
        assert_eq!(parse(mappings, true), Err(ParseError::NoMapping));
        assert_eq!(parse(mappings, false), Ok(Kind::Opened), "split before the source changed");
    }
    assert_eq!(none.split(GENERIC, "own", raw).unwrap_err(), SplitError::NoMapping);
    assert_eq!(ours.split(GENERIC, "own", raw).unwrap().len(), 1);
    assert!(none.split(Provider::Postmark, "own", raw).is_ok(), "only generic sources have one");
    assert!(!ours.has(GENERIC, "own") && !none.has(GENERIC, "own"));
    assert!(self::mappings(json!({ "events": "" })).has(GENERIC, "own"));
}

#[test]
fn a_wrong_mapping_names_source_key_and_fix() {
    for (settings, key) in [
        (json!({ "events": "events" }), "`events` is `events`"),
        (json!({ "fields": { "email": "/email" } }), "`fields.email` is not a field"),
        (json!({ "fields": { "recipient": "email" } }), "`fields.recipient` is `email`"),
        (json!({ "kinds": { "sent": "send" } }), "`kinds.\"sent\"` is `send`"),
        (json!({ "timestamp": "time" }), "`timestamp` is `time`"),
        (
            json!({ "timestamp": "/t", "signed": "{timestamp}.{body}" }),
            "`timestamp` and the {timestamp}",
        ),
        (
            json!({ "tolerance_seconds": 9, "signed": "{body}" }),
            "`tolerance_seconds` has no effect",
        ),
    ] {
        let options = Options::read(GENERIC, settings.clone()).unwrap();
        let settings = SourceSettings { name: "own".into(), secrets: vec!["k".into()], options };
        let error = Authenticator::new(&settings).unwrap_err().to_string();
        assert!(error.starts_with("source own (generic): ") && error.contains(key), "{error}");
    }
}

/// Verifies a body that is signed with the key `k` at `now`.
fn verify(options: Value, body: &str, now: i64) -> Result<(), Rejection> {
    use hmac::{KeyInit, Mac};
    let options = Options::read(GENERIC, options).unwrap();
    let settings = SourceSettings { name: "own".into(), secrets: vec!["k".into()], options };
    let source = Authenticator::new(&settings).unwrap();
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"k").unwrap();
    mac.update(body.as_bytes());
    let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    let name = HeaderName::from_static("x-mailpulse-signature");
    let headers = HeaderMap::from_iter([(name, HeaderValue::from_str(&signature).unwrap())]);
    let request =
        ReceivedRequest { headers: &headers, body: body.as_bytes(), remote_ip: None, now };
    source.verify(&request, &|_| None).map(drop)
}

#[test]
fn a_time_inside_the_signed_body_ends_replays() {
    let options = json!({ "timestamp": "/sent/at", "tolerance_seconds": 60 });
    let body = r#"{"sent":{"at":1762787700},"event":"opened"}"#;
    assert_eq!(verify(options.clone(), body, 1_762_787_760), Ok(()));
    assert_eq!(
        verify(options.clone(), body, 1_762_787_761),
        Err(Rejection::Stale { skew_seconds: 61 })
    );
    let rfc3339 = r#"{"sent":{"at":"2025-11-10T15:15:00Z"}}"#;
    assert_eq!(verify(options.clone(), rfc3339, 1_762_787_700), Ok(()));
    let undated = verify(options, r#"{"event":"opened"}"#, 1_762_787_700);
    assert!(matches!(undated, Err(Rejection::MalformedSignature(_))), "{undated:?}");
    let default = json!({ "timestamp": "/sent/at" });
    assert_eq!(verify(default.clone(), body, 1_762_787_700 + 300), Ok(()));
    assert!(verify(default, body, 1_762_787_700 + 301).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever the body and the mapping are, nothing panics, and parse agrees with split.
    #[test]
    fn any_body_and_any_mapping(
        paths in prop::collection::vec("(/[a-c0-2~]{0,2}){0,3}", 4),
        body in prop_oneof![
            "[\\[{}\\]\",:abc012 \\\\]{0,40}",
            "\\{\"a\":\\[\\{\"b\":\"(opened|x)\",\"c\":[0-9]{1,12}\\}(,\\{\\})?\\]\\}",
        ],
    ) {
        let [events, event, recipient, timestamp] = &paths[..] else { unreachable!() };
        let mappings = mappings(json!({
            "events": events,
            "fields": { "event": event, "recipient": recipient, "timestamp": timestamp },
            "kinds": { "x": "bounced soft" },
        }));
        if let Ok(split) = mappings.split(GENERIC, "own", body.as_bytes()) {
            for raw in split.events() {
                let parsed = mappings.parse(GENERIC, true, raw.raw, &envelope(raw.recipient));
                if let Ok(event) = parsed {
                    prop_assert_eq!(event.kind, raw.kind);
                }
            }
        }
    }
}

#[test]
fn a_mapping_finds_the_sender_and_the_delivery() {
    let mappings = mappings(json!({
        "fields": {"event": "/type", "sender": "/mail/from", "sent_at": "/mail/sent",
            "sending_ip": "/smtp/from", "server": "/smtp/to", "response": "/smtp/answer",
            "tls": "/smtp/tls", "millis": "/smtp/took"},
    }));
    let read = |kind: &str| {
        let body = json!({
            "type": kind, "id": "a", "recipient": "ada@example.com", "timestamp": 1_762_787_700,
            "mail": {"from": "Shop <News@shop.example>", "sent": 1_762_787_690},
            "smtp": {"from": "198.51.100.7", "to": "é".repeat(1_000), "answer": "250 OK",
                "tls": "TRUE", "took": "1180"},
        });
        let json =
            events(&mappings, &body.to_string(), |event| serde_json::to_value(event).unwrap());
        json.into_iter().next().unwrap()
    };
    let delivered = read("delivered");
    assert_eq!(delivered["sender"], "news@shop.example");
    assert_eq!(delivered["sent_at"], 1_762_787_690_000_000_i64);
    assert_eq!(delivered["sending_ip"], "198.51.100.7");
    let server = "é".repeat(event::limits::RECIPIENT / 2);
    let delivery = json!({"server": server, "response": "250 OK", "tls": true, "millis": 1_180});
    assert_eq!(delivered["delivery"], delivery, "texts have their limits");
    assert_eq!(read("opened").get("delivery"), None, "only attempts have one");
}
