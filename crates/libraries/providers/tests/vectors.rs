//! Tests the public signature vectors of the providers' own libraries. They are in `../shared`
//! beside the workspace, because they are not ours to publish; run the tests with `cargo test -p
//! providers -- --ignored shared`. Vectors of our own are in `own_vectors.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use event::Provider;
use http::{HeaderMap, HeaderName, HeaderValue};
use providers::{Authenticator, Certificate, Options, ReceivedRequest, SourceSettings};
use serde_json::{Value, json};

/// Returns the vectors of a file.
fn vectors(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../../shared/vectors")
        .join(format!("{file}.json"));
    let json = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let document: Value = serde_json::from_slice(&json).unwrap();
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

fn authenticator(provider: Provider, secrets: &[&str], options: Value) -> Authenticator {
    let secrets = secrets.iter().map(|&secret| secret.into()).collect();
    let (name, options) = ("vectors".into(), Options::read(provider, options).unwrap());
    Authenticator::new(&SourceSettings { name, secrets, options }).unwrap()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

/// True if the request is accepted at `now`.
fn accepts(source: &Authenticator, headers: &HeaderMap, body: &[u8], now: i64) -> bool {
    let request = ReceivedRequest { headers, body, remote_ip: None, now };
    source.verify(&request, &|_| None).is_ok()
}

fn check(vector: &Value, accepted: bool) {
    assert_eq!(accepted, vector["expect"].as_bool().unwrap(), "{}", text(vector, "name"));
}

#[test]
#[ignore = "needs ../shared"]
fn shared_sendgrid_vectors() {
    for vector in vectors("sendgrid") {
        let source = authenticator(Provider::SendGrid, &[text(&vector, "public_key")], json!({}));
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
#[ignore = "needs ../shared"]
fn shared_mailgun_vectors() {
    for vector in vectors("mailgun") {
        let source = authenticator(Provider::Mailgun, &[text(&vector, "signing_key")], json!({}));
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
#[ignore = "needs ../shared"]
fn shared_mandrill_vectors() {
    for vector in vectors("mandrill") {
        let options = json!({ "public_url": vector["url"] });
        let source = authenticator(Provider::Mandrill, &[text(&vector, "webhook_key")], options);
        let headers = headers(&[("x-mandrill-signature", text(&vector, "signature"))]);
        let body = text(&vector, "form_body").as_bytes();
        check(&vector, accepts(&source, &headers, body, 0));
    }
}

/// The certificates have expired, and some were not served by Amazon. The time and the
/// certificate's address are not signed, so the test replaces both by valid ones.
#[test]
#[ignore = "needs ../shared"]
fn shared_sns_vectors() {
    for vector in vectors("sns") {
        let region = text(&vector["message"], "TopicArn").split(':').nth(3).unwrap();
        let name = "SimpleNotificationService-00000000000000000000000000000000.pem";
        let url = format!("https://sns.{region}.amazonaws.com/{name}");
        let url = url.as_str();
        let certificate = Arc::new(Certificate::parse(text(&vector, "pem").as_bytes()).unwrap());
        let (valid_from, _) = certificate.validity();
        let mut message = vector["message"].clone();
        let key =
            if message["SigningCertUrl"].is_string() { "SigningCertUrl" } else { "SigningCertURL" };
        message[key] = url.into();
        let options = json!({ "topics": [message["TopicArn"]] });
        let source = authenticator(Provider::Ses, &[], options.clone());
        let known = |asked: &str| (asked == url).then(|| certificate.clone());
        let body = message.to_string();
        let headers = HeaderMap::new();
        let request = |now| ReceivedRequest {
            headers: &headers,
            body: body.as_bytes(),
            remote_ip: None,
            now,
        };
        check(&vector, source.verify(&request(valid_from), &known).is_ok());
        assert!(source.verify(&request(valid_from - 1), &known).is_err());
        // The original message with the certificate pinned: its address and dates are ignored.
        let source = authenticator(Provider::Ses, &[text(&vector, "pem")], options);
        let body = vector["message"].to_string();
        check(&vector, accepts(&source, &headers, body.as_bytes(), 0));
    }
}

#[test]
#[ignore = "needs ../shared"]
fn shared_standard_webhooks_vectors() {
    for vector in vectors("standardwebhooks") {
        let body = STANDARD.decode(text(&vector, "body_base64")).unwrap();
        for (provider, prefix) in
            [(Provider::StandardWebhooks, "webhook"), (Provider::Resend, "svix")]
        {
            let source = authenticator(provider, &[text(&vector, "secret")], json!({}));
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
#[ignore = "needs ../shared"]
fn shared_mailersend_vectors() {
    for vector in vectors("mailersend") {
        let secret = text(&vector, "signing_secret");
        let source = authenticator(Provider::MailerSend, &[secret], json!({}));
        let body = STANDARD.decode(text(&vector, "body_base64")).unwrap();
        let headers = headers(&[("signature", text(&vector, "signature"))]);
        check(&vector, accepts(&source, &headers, &body, 0));
    }
}

#[test]
#[ignore = "needs ../shared"]
fn shared_generic_hmac_vectors() {
    for vector in vectors("generic_hmac") {
        let (prefix, signature) = match text(&vector, "signature").split_once('=') {
            Some((prefix, signature)) => (format!("{prefix}="), signature),
            None => (String::new(), text(&vector, "signature")),
        };
        let options = json!({
            "algorithm": vector["alg"], "signed": "{body}", "secret_encoding": "hex",
            "prefix": prefix,
        });
        let source = authenticator(Provider::Generic, &[text(&vector, "key_hex")], options);
        let signature = format!("{prefix}{signature}");
        let headers = headers(&[("x-mailpulse-signature", &signature)]);
        let body = hex::decode(text(&vector, "signed_hex")).unwrap();
        check(&vector, accepts(&source, &headers, &body, 0));
    }
}
