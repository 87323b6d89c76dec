//! For any input: nothing panics, the results depend on the bytes only, and `parse` agrees with
//! `split`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use event::{Kind, Provider, ReceivedAt};
use proptest::prelude::*;
use providers::{Content, Envelope, ParseError, SplitError, parse, split};

type OwnedEvent = (Kind, String, Vec<u8>);

fn events(provider: Provider, body: &[u8]) -> Result<(Content, Vec<OwnedEvent>), SplitError> {
    let split = split(provider, body)?;
    let events = split.events();
    let owned = events.map(|event| (event.kind, event.recipient.to_owned(), event.raw.to_vec()));
    Ok((split.content().clone(), owned.collect()))
}

fn parsed(provider: Provider, recipient: &str, raw: &[u8]) -> Result<(Kind, String), ParseError> {
    let envelope = Envelope {
        source: "acme",
        recipient,
        received_at: ReceivedAt(1_762_788_000_000_000),
        request_id: "r-1",
    };
    let event = parse(provider, raw, &envelope)?;
    Ok((event.kind, serde_json::to_string(&event).unwrap()))
}

fn check_consistency(provider: Provider, body: &[u8]) {
    let outcome = events(provider, body);
    assert_eq!(events(provider, body), outcome, "split is deterministic");
    let (content, found) = outcome.unwrap_or((Content::Ping, Vec::new()));
    match content {
        Content::Events(count) => assert_eq!(count, found.len()),
        other => assert!(found.is_empty(), "{other:?} has events"),
    }
    for (kind, recipient, raw) in found {
        let event = parsed(provider, &recipient, &raw);
        assert_eq!(event, parsed(provider, &recipient, &raw), "parse is deterministic");
        if let Ok((parsed_kind, _)) = event {
            assert_eq!(parsed_kind, kind, "split and parse agree");
        }
    }
    let _ = parsed(provider, "", body);
}

fn provider() -> impl Strategy<Value = Provider> {
    prop::sample::select(&Provider::ALL)
}

/// Returns every fixture with its provider.
fn fixtures() -> Vec<(Provider, Vec<u8>)> {
    let mut fixtures = Vec::new();
    for provider in Provider::ALL {
        let folder = format!("{}/src/{}/fixtures", env!("CARGO_MANIFEST_DIR"), provider.as_str());
        let mut paths: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        fixtures.extend(paths.iter().map(|path| (provider, std::fs::read(path).unwrap())));
    }
    fixtures
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes(provider in provider(), body in prop::collection::vec(any::<u8>(), 0..64)) {
        check_consistency(provider, &body);
    }

    #[test]
    fn anything_like_json(provider in provider(), body in "[\\[\\]{}\",:\\\\ue0-9.tfn \r\n]{0,48}") {
        check_consistency(provider, body.as_bytes());
    }

    #[test]
    fn damaged_fixtures(
        (provider, body) in prop::sample::select(fixtures()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut: prop::sample::Index,
    ) {
        let mut damaged = body.clone();
        for (index, byte) in damage {
            let offset = index.index(damaged.len());
            damaged[offset] = byte;
        }
        check_consistency(provider, &damaged);
        check_consistency(provider, &body[..cut.index(body.len())]);
    }

    /// An unknown key, whatever its value, changes only the raw bytes.
    #[test]
    fn unknown_keys_pass(value in prop::sample::select(&["null", "[[]]", "{\"a\":{}}", "1e9", "\"\\u00e9\""])) {
        let with = |extra: &str| format!(
            r#"[{{"event":"open"{extra},"email":"ada@example.com","timestamp":1762787700,"sg_event_id":"x"}}]"#
        );
        let plain = events(Provider::SendGrid, with("").as_bytes()).unwrap().1;
        let body = with(&format!(r#","new key":{value}"#));
        let extra = events(Provider::SendGrid, body.as_bytes()).unwrap().1;
        prop_assert_eq!(plain[0].0, extra[0].0);
        prop_assert_eq!(&plain[0].1, &extra[0].1);
        let id = |event: &OwnedEvent| {
            let envelope = Envelope {
                source: "acme", recipient: &event.1, received_at: ReceivedAt(0), request_id: "r",
            };
            parse(Provider::SendGrid, &event.2, &envelope).map(|event| event.event_id)
        };
        prop_assert_eq!(id(&plain[0]), id(&extra[0]));
    }
}

/// The same for the fixtures of every provider: the body's first object gets an unknown key.
#[test]
fn unknown_keys_change_nothing_but_the_raw_bytes() {
    let understood = |provider: Provider, body: &str| -> Vec<_> {
        let Ok((_, found)) = events(provider, body.as_bytes()) else { return Vec::new() };
        let understood = found.iter().map(|(kind, recipient, raw)| {
            let fields = parsed(provider, recipient, raw).map(|(_, json)| {
                let mut event: serde_json::Value = serde_json::from_str(&json).unwrap();
                // Without an id of the provider, the id is a digest of the bytes.
                event.as_object_mut().unwrap().retain(|key, _| key != "raw" && key != "event_id");
                event
            });
            (*kind, recipient.clone(), fields)
        });
        understood.collect()
    };
    let mut bodies = 0;
    for (provider, body) in fixtures() {
        let Ok(body) = String::from_utf8(body) else { continue };
        let trimmed = body.trim_start();
        let is_json = trimmed.starts_with(['{', '[']);
        let Some((before, after)) = trimmed.split_once('{').filter(|_| is_json) else { continue };
        if after.trim_start().starts_with('}') {
            continue;
        }
        let extended = format!("{before}{{\"a new key\":[{{\"b\":[]}}],{after}");
        assert_eq!(understood(provider, trimmed), understood(provider, &extended), "{trimmed}");
        bodies += 1;
    }
    assert!(bodies > 100, "{bodies}");
}

/// Which fields make up the id of an event.
#[test]
fn ids_tell_events_apart_and_repeats_not() {
    let id = |provider, source, recipient, request_id, raw: &str| {
        let envelope = Envelope { source, recipient, received_at: ReceivedAt(7), request_id };
        parse(provider, raw.as_bytes(), &envelope).unwrap().event_id
    };
    let click = r#"{"_id":"m","event":"click","ts":1762787700,"url":"https://a.example/"}"#;
    let first = id(Provider::Mandrill, "acme", "ada@example.com", "r-1", click);
    assert_eq!(first, id(Provider::Mandrill, "acme", "ada@example.com", "r-2", click));
    for other in [
        id(Provider::Mandrill, "other", "ada@example.com", "r-1", click),
        id(Provider::Mandrill, "acme", "grace@example.org", "r-1", click),
        id(
            Provider::Mandrill,
            "acme",
            "ada@example.com",
            "r-1",
            &click.replace("a.example", "b.example"),
        ),
        id(Provider::Mandrill, "acme", "ada@example.com", "r-1", &click.replace("7700", "7701")),
        id(Provider::Mandrill, "acme", "ada@example.com", "r-1", &click.replace("click", "open")),
    ] {
        assert_ne!(first, other);
    }
    // Mailgun reuses ids after a day.
    let mailgun = |ts: &str| format!(r#"{{"id":"same","event":"opened","timestamp":{ts}}}"#);
    let day = |ts| id(Provider::Mailgun, "acme", "ada@example.com", "r-1", &mailgun(ts));
    assert_eq!(day("1762732800.5"), day("1762819199.5"));
    assert_ne!(day("1762819199.5"), day("1762819200.5"));
    // The same bounce in both of SES's dialects.
    let bounce = |dialect: &str, sns_id: &str, at: &str| {
        let message = format!(
            r#"{{"{dialect}":"Bounce","bounce":{{"timestamp":"2025-11-10T15:15:0{at}Z","feedbackId":"{sns_id}"}},"mail":{{"messageId":"0102"}}}}"#
        );
        let sns = serde_json::json!({
            "Type": "Notification", "MessageId": sns_id, "Message": message,
            "Timestamp": "2025-11-10T15:15:09Z",
        });
        id(Provider::Ses, "acme", "ada@example.com", "r-1", &sns.to_string())
    };
    assert_eq!(bounce("eventType", "a", "2.1"), bounce("notificationType", "b", "2.1"));
    assert_ne!(bounce("eventType", "a", "2.1"), bounce("eventType", "a", "2.2"));
    // MailerSend posts two events of a first open, of which one is counted.
    let open = |name: &str| {
        format!(
            r#"{{"type":"activity.{name}","data":{{"id":"a","created_at":"2025-11-10T15:15:00Z"}}}}"#
        )
    };
    let open = |name| id(Provider::MailerSend, "acme", "ada@example.com", "r-1", &open(name));
    assert_ne!(open("opened"), open("opened_unique"));
    // A retry, a day later, of an event of an unknown kind without a time.
    let received = |micros| {
        let (recipient, received_at) = ("ada@example.com", ReceivedAt(micros));
        let envelope = Envelope { source: "acme", recipient, received_at, request_id: "r-1" };
        parse(Provider::Mailgun, br#"{"id":"same"}"#, &envelope).unwrap().event_id
    };
    assert_eq!(received(1_762_732_800_000_000), received(1_762_819_200_000_000));
    // One bounce, two recipients.
    let sns = r#"{"Type":"Notification","MessageId":"m","Timestamp":"2025-11-10T15:15:00Z","Message":"{\"eventType\":\"Send\"}"}"#;
    let ses = |recipient| id(Provider::Ses, "acme", recipient, "r-1", sns);
    assert_ne!(ses("ada@example.com"), ses("grace@example.org"));
}
