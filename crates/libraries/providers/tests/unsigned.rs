//! Providers that do not sign: how their requests are verified, which events they post twice, and
//! that no body makes `split` or `parse` panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use event::{Event, EventId, Kind, Provider, ReceivedAt};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use providers::{
    Authenticator, Envelope, Options, RawEvent, ReceivedRequest, Rejection, SourceSettings, parse,
    split,
};
use serde_json::{Value, json};

const UNSIGNED: [Provider; 4] =
    [Provider::Postmark, Provider::SparkPost, Provider::Brevo, Provider::Mailjet];

fn source(provider: Provider, secrets: &[&str], options: Value) -> SourceSettings {
    let secrets = secrets.iter().map(|&secret| secret.into()).collect();
    let options = Options::read(provider, options).unwrap();
    SourceSettings { name: "shop".into(), secrets, options }
}

fn verify(
    source: &SourceSettings,
    header: Option<(&str, &str)>,
    remote_ip: Option<&str>,
) -> Result<Option<usize>, Rejection> {
    let headers: HeaderMap = header
        .iter()
        .map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        })
        .collect();
    let remote_ip: Option<IpAddr> = remote_ip.map(|ip| ip.parse().unwrap());
    let request = ReceivedRequest { headers: &headers, body: b"{}", remote_ip, now: 1_762_788_000 };
    let authenticator = Authenticator::new(source).unwrap();
    authenticator.verify(&request, &|_| None).map(|verified| verified.key)
}

#[test]
fn basic_credentials_of_any_active_secret_are_taken() {
    let basic = |credentials: &str| format!("Basic {}", STANDARD.encode(credentials));
    for provider in UNSIGNED {
        let source = source(provider, &["hook:new-pass", "hook:old-pass"], json!({}));
        let answer = |value: &str| verify(&source, Some(("authorization", value)), None);
        assert_eq!(answer(&basic("hook:new-pass")), Ok(Some(0)), "{provider}");
        assert_eq!(answer(&basic("hook:old-pass")), Ok(Some(1)), "{provider}");
        // The case of the scheme is ignored (RFC 9110), the case of the credentials is not.
        assert_eq!(answer(&basic("hook:old-pass").replace("Basic", "bAsIc")), Ok(Some(1)));
        for wrong in ["hook:", "hook:New-pass", "hook:new-pass ", "new-pass", ""] {
            assert_eq!(
                answer(&basic(wrong)),
                Err(Rejection::WrongCredentials),
                "{provider} {wrong}"
            );
        }
        assert_eq!(answer("Bearer new-pass"), Err(Rejection::WrongCredentials), "{provider}");
        assert_eq!(answer("Basic"), Err(Rejection::WrongCredentials), "{provider}");
        assert_eq!(verify(&source, None, None), Err(Rejection::MissingCredentials), "{provider}");
    }
}

#[test]
fn bearer_tokens_and_custom_headers_are_accepted() {
    for provider in UNSIGNED {
        let bearer = json!({ "scheme": "bearer" });
        let source_of = |options| source(provider, &["t0k3n"], options);
        let by_token = source_of(bearer);
        let answer = |name, value| verify(&by_token, Some((name, value)), None);
        assert_eq!(answer("authorization", "Bearer t0k3n"), Ok(Some(0)), "{provider}");
        assert_eq!(answer("authorization", "bearer t0k3n"), Ok(Some(0)), "{provider}");
        assert_eq!(
            answer("authorization", "t0k3n"),
            Err(Rejection::WrongCredentials),
            "{provider}"
        );
        assert_eq!(answer("x-hook", "t0k3n"), Err(Rejection::MissingCredentials), "{provider}");

        let by_header = source_of(json!({ "header": "X-Hook" }));
        let answer = |name, value| verify(&by_header, Some((name, value)), None);
        assert_eq!(answer("x-hook", "t0k3n"), Ok(Some(0)), "{provider}");
        assert_eq!(answer("x-hook", "t0k3N"), Err(Rejection::WrongCredentials), "{provider}");
        assert_eq!(answer("authorization", "t0k3n"), Err(Rejection::MissingCredentials));
    }
}

#[test]
fn without_credentials_there_must_be_a_list_of_addresses() {
    for provider in UNSIGNED {
        let start = |options| Authenticator::new(&source(provider, &[], options)).map(|_| ());
        let error = start(json!({})).unwrap_err().to_string();
        assert!(error.contains("secrets") && error.contains("allow_ips"), "{error}");
        assert_eq!(start(json!({ "unverified": true })), Ok(()));

        let listed = source(provider, &[], json!({ "allow_ips": ["192.0.2.0/24"] }));
        assert_eq!(verify(&listed, None, Some("192.0.2.7")), Ok(None), "{provider}");
        for elsewhere in [Some("198.51.100.7"), None] {
            assert_eq!(verify(&listed, None, elsewhere), Err(Rejection::AddressNotAllowed));
        }
    }
}

/// Returns kind and id of the events of a body.
fn events(provider: Provider, body: &str) -> Vec<(Kind, EventId)> {
    let split = split(provider, body.as_bytes()).unwrap();
    let event = |raw: RawEvent<'_>| {
        let envelope = Envelope {
            source: "shop",
            recipient: raw.recipient,
            received_at: ReceivedAt(1_762_788_000_000_000),
            request_id: "r-1",
        };
        let event: Event<'_> = parse(provider, raw.raw, &envelope).unwrap();
        (event.kind, event.event_id)
    };
    split.events().map(event).collect()
}

/// Returns how many events of a kind remain if only the first event of each id counts, as in
/// `dedupe`.
fn counted(kind: Kind, posted: &[(Kind, EventId)]) -> usize {
    let mut first: HashMap<EventId, Kind> = HashMap::new();
    for (kind, id) in posted {
        first.entry(*id).or_insert(*kind);
    }
    first.values().filter(|first| **first == kind).count()
}

/// Posts two bodies in both orders.
fn both_ways(provider: Provider, kind: Kind, one: &str, other: &str) -> [usize; 2] {
    let (one, other) = (events(provider, one), events(provider, other));
    [[&one[..], &other].concat(), [&other[..], &one].concat()].map(|posted| counted(kind, &posted))
}

#[test]
fn sparkpost_posts_one_open_twice_and_it_counts_once() {
    let event = |name: &str, id: &str, at: &str| {
        format!(
            r#"[{{"msys":{{"track_event":{{"type":"{name}","event_id":"{id}","timestamp":"{at}",
               "message_id":"m","rcpt_to":"ada@example.com"}}}}}}]"#
        )
    };
    for (top, end) in [("initial_open", "open"), ("amp_initial_open", "amp_open")] {
        let (top, end) = (event(top, "1", "1762787700"), event(end, "2", "1762787701"));
        assert_eq!(both_ways(Provider::SparkPost, Kind::Opened, &top, &end), [1, 1]);
        assert_eq!(both_ways(Provider::SparkPost, Kind::Other, &top, &end), [1, 1]);
    }
    // Every type has its own ids.
    let (open, click) = (event("open", "1", "1762787700"), event("click", "1", "1762787700"));
    assert_eq!(both_ways(Provider::SparkPost, Kind::Opened, &open, &click), [1, 1]);
    assert_eq!(both_ways(Provider::SparkPost, Kind::Clicked, &open, &click), [1, 1]);
}

#[test]
fn brevo_posts_one_open_once_or_twice_and_it_counts_once() {
    let event = |name: &str, field: &str, millis: u64| {
        format!(
            r#"{{"event":"{name}","email":"ada@example.com","message-id":"<m@example.net>",
               "{field}":{millis},"link":""}}"#
        )
    };
    let at = |name: &str, millis| event(name, "ts_epoch", millis);
    let opens = |one: &str, other: &str| both_ways(Provider::Brevo, Kind::Opened, one, other);
    let first = at("unique_opened", 1_762_787_705_250);
    assert_eq!(opens(&first, &at("opened", 1_762_787_705_731)), [1, 1]);
    // Today Brevo posts the first open once, and later opens under the other name.
    assert_eq!(opens(&first, &at("opened", 1_762_787_765_000)), [2, 2]);
    let proxied = event("unique_proxy_open", "s_epoch", 1_762_787_706_000);
    let again = event("proxy_open", "s_epoch", 1_762_787_706_000);
    assert_eq!(opens(&proxied, &again), [1, 1]);
    // An open by a proxy and an open by a person in the same second are two events.
    assert_eq!(opens(&first, &at("proxy_open", 1_762_787_705_250)), [2, 2]);
    // Old and new names of the same event.
    for (old, new, kind) in [
        ("spam", "complaint", Kind::Complained),
        ("unsubscribed", "unsubscribe", Kind::Unsubscribed),
    ] {
        let (old, new) = (at(old, 1_762_787_705_250), at(new, 1_762_787_705_250));
        assert_eq!(both_ways(Provider::Brevo, kind, &old, &new), [1, 1]);
    }
}

#[test]
fn postmark_posts_a_bounce_or_complaint_twice_and_it_counts_once() {
    for (record, reason, kind) in [
        (r#""RecordType":"Bounce","Type":"HardBounce","TypeCode":1"#, "HardBounce", Kind::Bounced),
        (
            r#""RecordType":"SpamComplaint","Type":"SpamComplaint","TypeCode":100001"#,
            "SpamComplaint",
            Kind::Complained,
        ),
    ] {
        let event = format!(
            r#"{{{record},"ID":42,"MessageID":"m","Email":"ada@example.com",
                "BouncedAt":"2025-11-10T15:15:00Z"}}"#
        );
        let change = format!(
            r#"{{"RecordType":"SubscriptionChange","MessageID":"m","Recipient":"ada@example.com",
                "ChangedAt":"2025-11-10T15:15:01Z","SuppressSending":true,
                "SuppressionReason":"{reason}"}}"#
        );
        assert_eq!(both_ways(Provider::Postmark, kind, &event, &change), [1, 1]);
        assert_eq!(both_ways(Provider::Postmark, Kind::Unsubscribed, &event, &change), [0, 0]);
    }
    // A complaint may also be posted as a bounce, with the same id.
    let complaint = |record: &str| {
        format!(
            r#"{{"RecordType":"{record}","Type":"SpamComplaint","ID":42,"MessageID":"m",
                "Email":"ada@example.com","BouncedAt":"2025-11-10T15:15:00Z"}}"#
        )
    };
    let (own, bounce) = (complaint("SpamComplaint"), complaint("Bounce"));
    assert_eq!(both_ways(Provider::Postmark, Kind::Complained, &own, &bounce), [1, 1]);
}

#[test]
fn mailjet_events_are_known_by_message_event_time_link_and_client() {
    let click = r#"{"event":"click","time":1762787709,"MessageID":1152921504606846977,
        "email":"ada@example.com","url":"https://shop.example.com/a","ip":"203.0.113.9"}"#;
    let id = |body: &str| events(Provider::Mailjet, body)[0].1;
    // Grouping does not change the event, and the message id may be a text or a number.
    assert_eq!(id(click), id(&format!("[{click}]")));
    assert_eq!(id(click), id(&click.replace("1152921504606846977", r#""1152921504606846977""#)));
    for (from, to) in [
        // A double cannot represent the difference of these two numbers.
        ("1152921504606846977", "1152921504606846976"),
        ("1762787709", "1762787710"),
        ("\"click\"", "\"open\""),
        ("example.com/a", "example.com/b"),
        ("203.0.113.9", "203.0.113.10"),
        ("ada@", "grace@"),
    ] {
        assert_ne!(id(click), id(&click.replace(from, to)), "{from}");
    }
}

/// Returns every fixture of these providers.
fn fixtures() -> Vec<(Provider, Vec<u8>)> {
    let mut fixtures = Vec::new();
    for provider in UNSIGNED {
        let folder = format!("{}/src/{provider}/fixtures", env!("CARGO_MANIFEST_DIR"));
        let mut paths: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        fixtures.extend(paths.iter().map(|path| (provider, std::fs::read(path).unwrap())));
    }
    fixtures
}

/// Splits and parses any bytes: nothing panics, raw events are slices of the body, and `parse`
/// agrees with `split`.
fn survives(provider: Provider, body: &[u8]) {
    let kind = |recipient: &str, raw: &[u8]| {
        let envelope = Envelope {
            source: "shop",
            recipient,
            received_at: ReceivedAt(1_762_788_000_000_000),
            request_id: "r-1",
        };
        parse(provider, raw, &envelope).map(|event| event.kind)
    };
    if let Ok(split) = split(provider, body) {
        for raw in split.events() {
            assert!(body.as_ptr_range().contains(&raw.raw.as_ptr()), "a slice of the body");
            if let Ok(kind) = kind(raw.recipient, raw.raw) {
                assert_eq!(kind, raw.kind, "split and parse agree");
            }
        }
    }
    let _ = kind("", body);
}

/// Returns values of any type, whether or not these providers use them.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("true".to_owned()),
        Just("-1.5e300".to_owned()),
        Just(r#""\ud800""#.to_owned()),
        Just(r#""[\"a\",7]""#.to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        "[ -~]{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_bytes(
        provider in prop::sample::select(&UNSIGNED[..]),
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        survives(provider, &body);
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
        survives(provider, &damaged);
        survives(provider, &body[..cut.index(body.len())]);
    }

    /// Any value may be in any field that is read.
    #[test]
    fn any_value_in_any_field(
        (provider, key) in prop::sample::select(vec![
            (Provider::SparkPost, "msys"), (Provider::SparkPost, "type"),
            (Provider::SparkPost, "bounce_class"), (Provider::SparkPost, "timestamp"),
            (Provider::SparkPost, "rcpt_to"), (Provider::SparkPost, "rcpt_meta"),
            (Provider::SparkPost, "rcpt_tags"), (Provider::SparkPost, "user_agent_parsed"),
            (Provider::Brevo, "event"), (Provider::Brevo, "email"), (Provider::Brevo, "tag"),
            (Provider::Brevo, "ts_epoch"), (Provider::Brevo, "message-id"),
            (Provider::Mailjet, "MessageID"), (Provider::Mailjet, "time"),
            (Provider::Mailjet, "hard_bounce"), (Provider::Mailjet, "error"),
            (Provider::Postmark, "RecordType"), (Provider::Postmark, "Metadata"),
            (Provider::Postmark, "Geo"), (Provider::Postmark, "TypeCode"),
        ]),
        value in value(),
    ) {
        let with = |rest: &str| format!(r#"{{"{key}":{value},{rest}}}"#);
        let body = match provider {
            Provider::SparkPost if key == "msys" => format!(r#"[{{"msys":{value}}}]"#),
            Provider::SparkPost => {
                let event = with(r#""event_id":"1","raw_reason":"550 no""#);
                format!(r#"[{{"msys":{{"message_event":{event}}}}}]"#)
            }
            Provider::Postmark => with(r#""Recipient":"ada@example.com","BouncedAt":"2025-11-10T15:15:00Z""#),
            _ => with(r#""reason":"no","ip":"203.0.113.9""#),
        };
        survives(provider, body.as_bytes());
    }
}
