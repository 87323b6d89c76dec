//! Public signature vectors, read from `../shared` beside the workspace where that folder exists. Our
//! own cases are in `src/signatures`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use event::Provider;
use http::{HeaderMap, HeaderName, HeaderValue};
use providers::{
    Algorithm, Authenticator, Certificate, Options, Received, SecretEncoding, SourceSettings,
};
use serde_json::{Value, json};

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared").join(path);
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

/// Whether the request of a vector is taken at `now`.
fn accepts(source: &Authenticator, headers: &HeaderMap, body: &[u8], now: i64) -> bool {
    let received = Received { headers, body, remote_ip: None, now };
    source.verify(&received, &|_| None).is_ok()
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
        check(&vector, accepts(&source, &headers, &body, now));
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
        check(&vector, accepts(&source, &HeaderMap::new(), body.as_bytes(), now));
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
        check(&vector, accepts(&source, &headers, body, 0));
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
        let headers = HeaderMap::new();
        let received =
            |now| Received { headers: &headers, body: body.as_bytes(), remote_ip: None, now };
        check(&vector, source.verify(&received(valid_from), &known).is_ok());
        assert!(source.verify(&received(valid_from - 1), &known).is_err());
        // As it came, by the certificate pinned: neither its address nor its dates are looked at.
        let topics = vec![text(&message, "TopicArn").to_owned()];
        let options = Options { topics, ..Options::default() };
        let source = authenticator(Provider::Ses, &[text(&vector, "pem")], options);
        let body = vector["message"].to_string();
        check(&vector, accepts(&source, &headers, body.as_bytes(), 0));
    }
}

#[test]
fn standard_webhooks_vectors() {
    for vector in vectors("standardwebhooks") {
        let body = STANDARD.decode(text(&vector, "body_base64")).unwrap();
        for (provider, prefix) in
            [(Provider::StandardWebhooks, "webhook"), (Provider::Resend, "svix")]
        {
            let source = authenticator(provider, &[text(&vector, "secret")], Options::default());
            let mut headers = HeaderMap::new();
            for name in ["id", "timestamp", "signature"] {
                let header: HeaderName = format!("{prefix}-{name}").parse().unwrap();
                headers.insert(header, text(&vector, name).parse().unwrap());
            }
            let now: i64 = text(&vector, "timestamp").parse().unwrap();
            check(&vector, accepts(&source, &headers, &body, now));
            assert!(!accepts(&source, &headers, &body, now + 301));
        }
    }
}

#[test]
fn mailersend_vectors() {
    for vector in vectors("mailersend") {
        let secret = text(&vector, "signing_secret");
        let source = authenticator(Provider::MailerSend, &[secret], Options::default());
        let body = STANDARD.decode(text(&vector, "body_base64")).unwrap();
        let headers = headers(&[("signature", text(&vector, "signature"))]);
        check(&vector, accepts(&source, &headers, &body, 0));
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
            signed: Some("{body}".parse().unwrap()),
            secret_encoding: Some(SecretEncoding::Hex),
            prefix: Some(prefix.clone()),
            ..Options::default()
        };
        let source = authenticator(Provider::Generic, &[text(&vector, "key_hex")], options);
        let signature = format!("{prefix}{signature}");
        let headers = headers(&[("x-mailpulse-signature", &signature)]);
        let body = hex::decode(text(&vector, "signed_hex")).unwrap();
        check(&vector, accepts(&source, &headers, &body, 0));
    }
}
