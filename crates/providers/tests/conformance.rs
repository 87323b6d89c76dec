//! Public signature vectors and captured payloads, read from `../shared` beside the workspace where
//! that folder exists. Our own cases are in `src/signatures.rs` and the fixtures.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use event::{Kind, Provider, ReceivedAt};
use http::{HeaderMap, HeaderName, HeaderValue};
use providers::{
    Algorithm, Authenticator, Certificate, Envelope, Options, RawEvent, SecretEncoding, Signed,
    SourceSettings, Split, parse, split,
};
use serde_json::{Value, json};

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(path);
    path.exists().then_some(path)
}

/// The vectors of a file, each with its name and the answer it demands.
fn vectors(file: &str) -> Vec<Value> {
    let Some(path) = shared(&format!("vectors/{file}.json")) else { return Vec::new() };
    let document: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let certificates = document["certs"].clone();
    let mut vectors = document["vectors"].as_array().unwrap().clone();
    assert!(!vectors.is_empty());
    for vector in &mut vectors {
        let name = vector["cert"].as_str().unwrap_or_default().to_owned();
        vector["pem"] = certificates[name]["pem"].clone();
    }
    vectors
}

fn text<'v>(vector: &'v Value, key: &str) -> &'v str {
    vector[key].as_str().unwrap_or_else(|| panic!("{key} in {vector}"))
}

fn authenticator(provider: Provider, secrets: &[&str], options: Options) -> Authenticator {
    let secrets = secrets.iter().map(|&secret| secret.into()).collect();
    let name = "vectors".into();
    Authenticator::new(&SourceSettings { provider, name, secrets, options }).unwrap()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn check(vector: &Value, accepted: bool) {
    assert_eq!(accepted, vector["expect"].as_bool().unwrap(), "{}", text(vector, "name"));
}

#[test]
fn sendgrid_vectors() {
    for vector in vectors("sendgrid") {
        let source =
            authenticator(Provider::SendGrid, &[text(&vector, "public_key")], Options::default());
        let timestamp = text(&vector, "timestamp");
        let headers = headers(&[
            ("x-twilio-email-event-webhook-signature", text(&vector, "signature")),
            ("x-twilio-email-event-webhook-timestamp", timestamp),
        ]);
        let body = STANDARD.decode(text(&vector, "body_base64")).unwrap();
        let now = timestamp.parse().unwrap_or_default();
        check(&vector, source.verify(&headers, &body, now, &|_| None).is_ok());
    }
}

#[test]
fn mailgun_vectors() {
    for vector in vectors("mailgun") {
        let source =
            authenticator(Provider::Mailgun, &[text(&vector, "signing_key")], Options::default());
        let signature = json!({
            "timestamp": vector["timestamp"], "token": vector["token"],
            "signature": vector["signature"],
        });
        let body = json!({ "signature": signature, "event-data": {} }).to_string();
        let now = text(&vector, "timestamp").parse().unwrap();
        check(&vector, source.verify(&HeaderMap::new(), body.as_bytes(), now, &|_| None).is_ok());
    }
}

#[test]
fn mandrill_vectors() {
    for vector in vectors("mandrill") {
        let options =
            Options { public_url: Some(text(&vector, "url").into()), ..Options::default() };
        let source = authenticator(Provider::Mandrill, &[text(&vector, "webhook_key")], options);
        let headers = headers(&[("x-mandrill-signature", text(&vector, "signature"))]);
        let body = text(&vector, "form_body").as_bytes();
        check(&vector, source.verify(&headers, body, 0, &|_| None).is_ok());
    }
}

/// The vectors' certificates have expired and the test ones were served from elsewhere. The clock
/// is a parameter, and the certificate's address is not signed: both are set to what would be.
#[test]
fn sns_vectors() {
    let url = "https://sns.us-west-2.amazonaws.com/\
               SimpleNotificationService-00000000000000000000000000000000.pem";
    for vector in vectors("sns") {
        let certificate = Arc::new(Certificate::parse(text(&vector, "pem").as_bytes()).unwrap());
        let (valid_from, _) = certificate.validity();
        let mut message = vector["message"].clone();
        let key =
            if message["SigningCertUrl"].is_string() { "SigningCertUrl" } else { "SigningCertURL" };
        message[key] = url.into();
        let topics = vec![text(&message, "TopicArn").to_owned()];
        let source = authenticator(Provider::Ses, &[], Options { topics, ..Options::default() });
        let known = |asked: &str| (asked == url).then(|| certificate.clone());
        let body = message.to_string();
        let verify = |now| source.verify(&HeaderMap::new(), body.as_bytes(), now, &known);
        check(&vector, verify(valid_from).is_ok());
        assert!(verify(valid_from - 1).is_err());
    }
}

#[test]
fn generic_hmac_vectors() {
    for vector in vectors("generic_hmac") {
        let (prefix, signature) = match text(&vector, "signature").split_once('=') {
            Some((prefix, signature)) => (format!("{prefix}="), signature),
            None => (String::new(), text(&vector, "signature")),
        };
        let options = Options {
            algorithm: match text(&vector, "alg") {
                "sha1" => Some(Algorithm::Sha1),
                "sha256" => Some(Algorithm::Sha256),
                other => panic!("{other}"),
            },
            signed: Some(Signed::Body),
            secret_encoding: Some(SecretEncoding::Hex),
            prefix: Some(prefix.clone()),
            ..Options::default()
        };
        let source = authenticator(Provider::Generic, &[text(&vector, "key_hex")], options);
        let signature = format!("{prefix}{signature}");
        let headers = headers(&[("x-mailpulse-signature", &signature)]);
        let body = hex::decode(text(&vector, "signed_hex")).unwrap();
        check(&vector, source.verify(&headers, &body, 0, &|_| None).is_ok());
    }
}

/// The kinds of one payload's events, each of which must parse.
fn kinds(provider: Provider, body: &[u8], file: &Path) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let split = split(provider, body, &mut |raw: RawEvent<'_>| {
        assert_sensible(provider, raw, file);
        kinds.push(raw.kind);
    });
    assert_eq!(
        split.unwrap_or_else(|e| panic!("{}: {e}", file.display())),
        Split::Events(kinds.len())
    );
    kinds
}

fn assert_sensible(provider: Provider, raw: RawEvent<'_>, file: &Path) {
    let envelope = Envelope {
        source: "acme",
        recipient: raw.recipient,
        received_at: ReceivedAt(1_762_788_000_000_000),
        request_id: "r-1",
    };
    let event = parse(provider, raw.raw, &envelope)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert_eq!(event.kind, raw.kind, "{}", file.display());
    assert!(!event.provider_event.is_empty(), "{}", file.display());
    assert!(event.occurred_at.micros() < 1_762_788_000_000_000, "{}", file.display());
    if event.kind != Kind::Other && event.provider_event.as_str() != "rejected" {
        assert!(event.recipient.is_some(), "{}", file.display());
    }
    let refused = matches!(event.kind, Kind::Bounced | Kind::Deferred | Kind::Dropped);
    assert_eq!(event.bounce.is_some(), refused, "{}", file.display());
}

fn samples(folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let Some(folder) = shared(&format!("samples/{folder}")) else { return Vec::new() };
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// What a file's name says, where it says it.
fn expected(name: &str) -> Option<Kind> {
    const NAMES: [(&str, Kind); 22] = [
        ("account_status", Kind::Other),
        ("group_resubscribe", Kind::Subscribed),
        ("unsubscribe", Kind::Unsubscribed),
        ("subscription", Kind::Unsubscribed),
        ("deliverydelay", Kind::Deferred),
        ("temporary", Kind::Deferred),
        ("failed_permanent_delayed", Kind::Bounced),
        ("failed_permanent", Kind::Dropped),
        ("bounce", Kind::Bounced),
        ("reject", Kind::Dropped),
        ("failure", Kind::Dropped),
        ("deferred", Kind::Deferred),
        ("dropped", Kind::Dropped),
        ("complain", Kind::Complained),
        ("complaint", Kind::Complained),
        ("spamreport", Kind::Complained),
        ("click", Kind::Clicked),
        ("deliver", Kind::Delivered),
        ("open", Kind::Opened),
        ("processed", Kind::Accepted),
        ("accepted", Kind::Accepted),
        ("event_send", Kind::Accepted),
    ];
    NAMES.iter().find(|(part, _)| name.contains(part)).map(|(_, kind)| *kind)
}

fn name(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

#[test]
fn sendgrid_samples() {
    for (path, body) in samples("sendgrid") {
        let kinds = kinds(Provider::SendGrid, &body, &path);
        match (name(&path), expected(name(&path))) {
            ("docs_all_event_types_batch", _) => assert_eq!(kinds.len(), 11),
            ("raw_signed_processed_bounce_batch", _) => {
                assert_eq!(kinds, [Kind::Accepted, Kind::Bounced]);
            }
            ("docs_unique_args_reserved_keys", _) => assert_eq!(kinds, [Kind::Accepted]),
            (name, Some(kind)) => assert_eq!(kinds, [kind], "{name}"),
            (name, None) => assert!(kinds.iter().all(|kind| *kind == Kind::Opened), "{name}"),
        }
    }
}

/// These are the values of `event-data`.
#[test]
fn mailgun_samples() {
    for (path, data) in samples("mailgun") {
        let body = [b"{\"event-data\":".as_slice(), &data, b"}"].concat();
        let kinds = kinds(Provider::Mailgun, &body, &path);
        assert_eq!(kinds, [expected(name(&path)).unwrap_or(Kind::Other)], "{}", name(&path));
    }
}

#[test]
fn postmark_samples() {
    for (path, body) in samples("postmark") {
        let kinds = kinds(Provider::Postmark, &body, &path);
        assert_eq!(Some(kinds[0]), expected(name(&path)), "{}", name(&path));
    }
}

/// SES records are put into an SNS envelope; the envelopes among the samples are taken as they are.
#[test]
fn ses_samples() {
    for (path, body) in samples("ses") {
        let name = name(&path);
        if name.starts_with("docs_event") || name.starts_with("docs_notification") {
            let envelope = json!({
                "Type": "Notification", "MessageId": "m-1", "TopicArn": "arn:aws:sns:r:1:t",
                "Timestamp": "2025-11-10T15:19:59.000Z", "Message": String::from_utf8(body).unwrap(),
            });
            let kinds = kinds(Provider::Ses, envelope.to_string().as_bytes(), &path);
            assert!(kinds.iter().all(|kind| Some(*kind) == expected(name)), "{name}: {kinds:?}");
            continue;
        }
        // The printed requests have their headers before an empty line.
        let text = String::from_utf8(body).unwrap().replace("\r\n", "\n");
        let body =
            text.split_once("\n\n").filter(|_| text.starts_with("POST")).map_or(&*text, |s| s.1);
        let outcome = split(Provider::Ses, body.as_bytes(), &mut |_| panic!("{name}"));
        match name {
            _ if name.contains("unsubscribe") => {
                assert!(matches!(outcome, Ok(Split::Unsubscribed { .. })), "{name}");
            }
            _ if name.contains("subscriptionconfirmation") => {
                assert!(matches!(outcome, Ok(Split::ConfirmSubscription { .. })), "{name}");
            }
            // `Hello world!` is no event; Lambda's records are no envelope.
            "docs_sns_notification" | "docs_sns_http_notification" => {
                assert_eq!(outcome.unwrap_err().code(), "not_json", "{name}");
            }
            _ => assert_eq!(outcome.unwrap_err().code(), "wrong_shape", "{name}"),
        }
    }
}

/// The `.json` ones are the decoded form field.
#[test]
fn mandrill_samples() {
    for (path, body) in samples("mandrill") {
        let body = if path.extension().is_some_and(|extension| extension == "json") {
            form_urlencoded::Serializer::new(String::new())
                .append_pair("mandrill_events", std::str::from_utf8(&body).unwrap())
                .finish()
                .into_bytes()
        } else {
            body.trim_ascii().to_vec()
        };
        let kinds = kinds(Provider::Mandrill, &body, &path);
        let name = name(&path);
        match name {
            "rails_click" => assert_eq!(kinds, [Kind::Clicked]),
            "rails_open" => assert_eq!(kinds, [Kind::Opened]),
            "rails_send" => assert_eq!(kinds, [Kind::Accepted]),
            "net_metadata_empty_array" => assert_eq!(kinds, [Kind::Accepted, Kind::Deferred]),
            _ if name.contains("sync") => assert!(kinds.iter().all(|kind| *kind == Kind::Other)),
            _ => assert_eq!(kinds[..2], [Kind::Accepted, Kind::Bounced], "{name}"),
        }
    }
}
