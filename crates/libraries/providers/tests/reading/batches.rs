//! A valid event is never lost because of a text, a name or a neighbour in its batch.

use event::{Kind, Provider};
use providers::{SplitError, split};

use crate::{RECEIVED_AT, Read, read, read_at, read_one, samples};

fn kinds_and_keys(read: &[Read]) -> Vec<(Kind, &str)> {
    read.iter().map(|read| (read.kind, read.key.as_str())).collect()
}

/// A text that was cut in the middle of an emoji is valid JSON.
#[test]
fn half_an_emoji_is_read() {
    for provider in Provider::ALL {
        let body = samples::body(provider, "jun@ropewalk.example", r"tide \ud83c", "1762787700");
        let found = read_one(provider, &body);
        assert_eq!(
            (found.kind, found.key.as_str()),
            (Kind::Bounced, "jun@ropewalk.example"),
            "{provider}"
        );
        assert_eq!(found.field("/bounce/diagnostic"), Some("550 tide \u{fffd}"), "{provider}");
        assert!(
            String::from_utf8_lossy(&found.raw).contains(r"\ud83c"),
            "{provider}: the bytes are kept"
        );
    }
}

/// Also in a name, which is read like a text.
#[test]
fn half_an_emoji_in_a_name_is_read() {
    let body =
        r#"[{"\ud83c":1,"event":"open","email":"jun@ropewalk.example","timestamp":1762787700}]"#;
    assert_eq!(read_one(Provider::SendGrid, body).kind, Kind::Opened);
}

/// RFC 8259 §4: the last member of a name counts, as with most readers.
#[test]
fn a_name_that_occurs_twice_takes_nothing_with_it() {
    for provider in Provider::ALL {
        let body = samples::body(provider, "jun@ropewalk.example", "no", "1762787700");
        let (name, decoy) = match provider {
            Provider::Ses => (r#"\"eventType\":"#, r#"\"eventType\":\"Send\",\"eventType\":"#),
            Provider::Mandrill => ("%22event%22%3A", "%22event%22%3A%22open%22%2C%22event%22%3A"),
            Provider::Postmark => (r#""RecordType":"#, r#""RecordType":"Open","RecordType":"#),
            Provider::SparkPost => (r#""type":"bounce"#, r#""type":"open","type":"bounce"#),
            Provider::Resend => (r#""type":"email"#, r#""type":"email.sent","type":"email"#),
            Provider::MailerSend => (r#""type":"act"#, r#""type":"activity.sent","type":"act"#),
            _ => (r#""event":"#, r#""event":"delivered","event":"#),
        };
        let repeated = body.replacen(name, decoy, 1);
        assert_ne!(repeated, body, "{provider}");
        let found = read_one(provider, &repeated);
        assert_eq!(
            (found.kind, found.key.as_str()),
            (Kind::Bounced, "jun@ropewalk.example"),
            "{provider}"
        );
    }
}

const BATCHES: [Provider; 7] = [
    Provider::SendGrid,
    Provider::Mandrill,
    Provider::SparkPost,
    Provider::Mailjet,
    Provider::Brevo,
    Provider::Generic,
    Provider::StandardWebhooks,
];

/// Returns a batch of two good events with `between` as an element between them.
fn batch(provider: Provider, between: &str) -> String {
    let element = |address| {
        let (.., template) = samples::BODIES.iter().find(|(known, ..)| *known == provider).unwrap();
        let element = template.trim_start_matches('[').trim_end_matches(']');
        element.replace("ADDRESS", address).replace("TEXT", "no").replace("TIME", "1762787700")
    };
    let (first, last) = (element("jun@ropewalk.example"), element("odile@quayside.example"));
    samples::wrap(provider, format!("[{first}, {between} ,{last}]"))
}

#[test]
fn an_unreadable_element_is_a_dead_letter_of_its_own() {
    for provider in BATCHES {
        for (between, code) in [
            ("7", "wrong_shape"),
            ("null", "wrong_shape"),
            (r#"["event","]"]"#, "wrong_shape"),
            (r#"{"event":}"#, "not_json"),
            (r#"{"event":"\x"}"#, "not_json"),
            ("nothing", "not_json"),
        ] {
            let found = read(provider, &batch(provider, between));
            let expected = [
                (Kind::Bounced, "jun@ropewalk.example"),
                (Kind::Other, ""),
                (Kind::Bounced, "odile@quayside.example"),
            ];
            assert_eq!(kinds_and_keys(&found), expected, "{provider}: {between}");
            assert_eq!(found[1].raw, between.as_bytes(), "{provider}");
            assert_eq!(found[1].event, Err(code), "{provider}: {between}");
            assert!(found[0].event.is_ok() && found[2].event.is_ok(), "{provider}: {between}");
        }
    }
}

#[test]
fn bytes_that_are_not_utf8_cost_only_their_own_event() {
    for provider in BATCHES {
        let marked = batch(provider, r#"{"event":"MARK"}"#);
        let mut body = marked.into_bytes();
        let at = body.windows(4).position(|part| part == b"MARK").unwrap();
        body[at..at + 4].copy_from_slice(b"\xed\xa0\xbc\x2e");
        let found = read_at(provider, &body, RECEIVED_AT);
        assert_eq!(found.len(), 3, "{provider}");
        assert_eq!(found[1].event, Err("not_utf8"), "{provider}");
        assert!(found[0].event.is_ok() && found[2].event.is_ok(), "{provider}");
    }
    let alone = b"{\"event\":\"open\",\"email\":\"\xff\"}";
    assert_eq!(split(Provider::SendGrid, alone).unwrap_err(), SplitError::NotUtf8);
}

/// Where the events begin and end is not certain, so the body is the dead letter.
#[test]
fn a_body_that_cannot_be_separated_is_one_dead_letter() {
    let good = r#"{"event":"open","email":"jun@ropewalk.example","timestamp":1762787700}"#;
    for body in [
        format!("[{good},{{\"event\":\"open\""),
        format!("[{good},]"),
        format!("[{good}"),
        format!("[{good},{{\"event\":\"open}}]"),
        "[1,2]".to_owned(),
        "[nothing]".to_owned(),
    ] {
        assert!(split(Provider::SendGrid, body.as_bytes()).is_err(), "{body}");
    }
}
