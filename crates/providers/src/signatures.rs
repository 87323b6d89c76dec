//! Every provider's signature, made with keys of our own: the right ones are taken, and nothing
//! that is signed can be changed.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use event::Provider;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::json;

use crate::{Authenticator, Certificate, Options, Refusal, SettingsError, SourceSettings};

const NOW: i64 = 1_762_788_000;
const BODY: &[u8] =
    b"[{\"event\":\"open\",\"email\":\"ada@example.com\",\"timestamp\":1762787990}]\r\n";
const URL: &str = "https://hooks.example.com/webhooks/mandrill/acme?x=1";
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:mail-events";
const CERTIFICATE: &str = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem";

struct Signer {
    public: String,
    key: EcdsaKeyPair,
}

static ECDSA: LazyLock<[Signer; 2]> = LazyLock::new(|| {
    [(); 2].map(|()| {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let public = STANDARD.encode(key.public_key().as_der().unwrap().as_ref());
        Signer { public, key }
    })
});
static RSA: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
static SNS_CERTIFICATE: LazyLock<Arc<Certificate>> = LazyLock::new(|| {
    let key = RSA.public_key().as_der().unwrap();
    Arc::new(Certificate::of_key(key.as_ref(), NOW - 10, NOW + 10).unwrap())
});

fn settings(provider: Provider, secrets: &[&str], options: Options) -> SourceSettings {
    let secrets = secrets.iter().map(|&secret| secret.into()).collect();
    SourceSettings { provider, name: "acme".into(), secrets, options }
}

fn authenticator(provider: Provider, secrets: &[&str], options: Options) -> Authenticator {
    Authenticator::new(&settings(provider, secrets, options)).unwrap()
}

/// A request whose headers may be anything that HTTP can carry.
#[derive(Clone, Default)]
struct Sent {
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

impl Sent {
    fn verify(&self, authenticator: &Authenticator, now: i64) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let Ok(value) = HeaderValue::from_bytes(value) else {
                return Err(Refusal::MissingSignature);
            };
            headers.insert(HeaderName::from_static(name), value);
        }
        let known = |url: &str| (url == CERTIFICATE).then(|| SNS_CERTIFICATE.clone());
        authenticator.verify(&headers, &self.body, now, &known)
    }
}

fn tag<M: Mac + KeyInit>(key: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key.as_bytes()).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn sendgrid(signer: &Signer, timestamp: i64) -> Sent {
    let timestamp = timestamp.to_string().into_bytes();
    let message = [&timestamp, BODY].concat();
    let signature = signer.key.sign(&SystemRandom::new(), &message).unwrap();
    let signature = STANDARD.encode(signature).into_bytes();
    Sent {
        headers: vec![
            ("x-twilio-email-event-webhook-timestamp", timestamp),
            ("x-twilio-email-event-webhook-signature", signature),
        ],
        body: BODY.to_vec(),
    }
}

fn mailgun_signature(key: &str, timestamp: i64) -> serde_json::Value {
    let (timestamp, token) = (timestamp.to_string(), "b1946ac92492d2347c6235b4d2611184");
    let signature = tag::<Hmac<sha2::Sha256>>(key, &[timestamp.as_bytes(), token.as_bytes()]);
    json!({ "timestamp": timestamp, "token": token, "signature": hex::encode(signature) })
}

fn mailgun(signature: &serde_json::Value) -> Sent {
    let body = json!({ "signature": signature, "event-data": { "event": "opened" } });
    Sent { body: body.to_string().into_bytes(), ..Sent::default() }
}

fn mandrill(key: &str, events: &str) -> Sent {
    let signature = tag::<Hmac<sha1::Sha1>>(
        key,
        &[URL.as_bytes(), b"a", b"first", b"mandrill_events", events.as_bytes()],
    );
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("mandrill_events", events)
        .append_pair("a", "first")
        .finish();
    let signature = STANDARD.encode(signature).into_bytes();
    Sent { headers: vec![("x-mandrill-signature", signature)], body: body.into_bytes() }
}

fn generic(key: &str, timestamp: i64) -> Sent {
    let timestamp = timestamp.to_string().into_bytes();
    let signature = tag::<Hmac<sha2::Sha256>>(key, &[&timestamp, b".", BODY]);
    let signature = format!("sha256={}", hex::encode(signature)).into_bytes();
    Sent {
        headers: vec![("x-mailpulse-timestamp", timestamp), ("x-mailpulse-signature", signature)],
        body: BODY.to_vec(),
    }
}

/// A notification with the fields that `change` leaves, signed as it should be before the change.
fn sns(change: impl Fn(&mut serde_json::Value)) -> Sent {
    let mut envelope = json!({
        "Type": "Notification", "MessageId": "m-1", "TopicArn": TOPIC, "Subject": "s",
        "Message": "{\"eventType\":\"Send\"}\n", "Timestamp": "2025-11-10T15:19:59.000Z",
        "SignatureVersion": "2", "SigningCertURL": CERTIFICATE, "UnsubscribeURL": "https://x.test/",
    });
    let covered = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"];
    let message: String = covered
        .iter()
        .map(|name| format!("{name}\n{}\n", envelope[name].as_str().unwrap()))
        .collect();
    let mut signature = vec![0; RSA.public_modulus_len()];
    RSA.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    envelope["Signature"] = STANDARD.encode(signature).into();
    change(&mut envelope);
    Sent { body: envelope.to_string().into_bytes(), ..Sent::default() }
}

fn ses(options: Options) -> Authenticator {
    authenticator(Provider::Ses, &[], Options { topics: vec![TOPIC.into()], ..options })
}

/// One byte changed: of the body, or of the first header (the timestamp).
fn changed(sent: &Sent, place: prop::sample::Index, difference: u8) -> Sent {
    let mut changed = sent.clone();
    let in_header = changed.headers.first().map_or(0, |(_, value)| value.len());
    match place.index(in_header + changed.body.len()).checked_sub(in_header) {
        Some(offset) => changed.body[offset] ^= difference,
        None => {
            let offset = place.index(in_header + changed.body.len());
            changed.headers[0].1[offset] ^= difference;
        }
    }
    changed
}

proptest! {
    #[test]
    fn no_signed_byte_can_be_changed(place: prop::sample::Index, difference in 1..=255_u8) {
        let cases = [
            (authenticator(Provider::SendGrid, &[&ECDSA[0].public], Options::default()),
                sendgrid(&ECDSA[0], NOW)),
            (authenticator(Provider::Generic, &["key"], Options::default()), generic("key", NOW)),
        ];
        for (authenticator, sent) in cases {
            prop_assert_eq!(sent.verify(&authenticator, NOW), Ok(()));
            prop_assert!(changed(&sent, place, difference).verify(&authenticator, NOW).is_err());
        }
    }

    #[test]
    fn no_decoded_byte_of_a_form_can_be_changed(place: prop::sample::Index, difference in 1..=255_u8) {
        let options = Options { public_url: Some(URL.into()), ..Options::default() };
        let authenticator = authenticator(Provider::Mandrill, &["key"], options);
        let sent = mandrill("key", "[{\"event\":\"send\",\"msg\":{\"subject\":\"a+b é\"}}]");
        prop_assert_eq!(sent.verify(&authenticator, NOW), Ok(()));
        let mut other = sent.clone();
        let offset = place.index(other.body.len());
        other.body[offset] ^= difference;
        // `%5b` and `%5B` are the same byte.
        let same = crate::mandrill::same_fields(&sent.body, &other.body);
        prop_assert_eq!(other.verify(&authenticator, NOW).is_ok(), same);
    }

    #[test]
    fn no_covered_field_of_an_envelope_can_be_changed(
        field in prop::sample::select(&["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type", "Signature"]),
        place: prop::sample::Index,
        letter in "[a-zA-Z0-9]",
    ) {
        let sent = sns(|envelope| {
            let text = envelope[field].as_str().unwrap();
            let offset = place.index(text.len());
            let other = format!("{}{letter}{}", &text[..offset], &text[offset..]);
            envelope[field] = other.into();
        });
        prop_assert!(sent.verify(&ses(Options::default()), NOW).is_err());
    }
}

#[test]
fn any_active_secret_passes_and_no_other() {
    let (old, new) = (&ECDSA[0], &ECDSA[1]);
    let both = authenticator(Provider::SendGrid, &[&old.public, &new.public], Options::default());
    let one = authenticator(Provider::SendGrid, &[&new.public], Options::default());
    assert_eq!(sendgrid(old, NOW).verify(&both, NOW), Ok(()));
    assert_eq!(sendgrid(new, NOW).verify(&both, NOW), Ok(()));
    assert_eq!(sendgrid(old, NOW).verify(&one, NOW), Err(Refusal::WrongSignature));

    let both = authenticator(Provider::Generic, &["old", "new"], Options::default());
    assert_eq!(generic("old", NOW).verify(&both, NOW), Ok(()));
    assert_eq!(generic("new", NOW).verify(&both, NOW), Ok(()));
    assert_eq!(generic("other", NOW).verify(&both, NOW), Err(Refusal::WrongSignature));
}

#[test]
fn a_good_signature_grows_old() {
    let sendgrid_source =
        authenticator(Provider::SendGrid, &[&ECDSA[0].public], Options::default());
    let day = 24 * 3600;
    assert_eq!(sendgrid(&ECDSA[0], NOW - day).verify(&sendgrid_source, NOW), Ok(()));
    let refusal = sendgrid(&ECDSA[0], NOW - day - 1).verify(&sendgrid_source, NOW);
    assert_eq!(refusal, Err(Refusal::Stale { skew_seconds: day + 1 }));
    // What a forger is told is that it is wrong, however old.
    let forged = sendgrid(&ECDSA[1], NOW - day - 1).verify(&sendgrid_source, NOW);
    assert_eq!(forged, Err(Refusal::WrongSignature));

    let tolerance_seconds = Some(60);
    let strict = Options { tolerance_seconds, ..Options::default() };
    let generic_source = authenticator(Provider::Generic, &["key"], strict);
    assert_eq!(generic("key", NOW + 60).verify(&generic_source, NOW), Ok(()));
    let refusal = generic("key", NOW + 61).verify(&generic_source, NOW);
    assert_eq!(refusal, Err(Refusal::Stale { skew_seconds: -61 }));

    let ses = ses(Options { tolerance_seconds, ..Options::default() });
    let valid_later = |_: &str| {
        let key = RSA.public_key().as_der().unwrap();
        Certificate::of_key(key.as_ref(), 0, NOW * 2).ok().map(Arc::new)
    };
    let sent = sns(|_| ());
    let verify = |now| ses.verify(&HeaderMap::new(), &sent.body, now, &valid_later);
    assert_eq!(verify(NOW), Ok(()));
    assert_eq!(verify(NOW + 60), Err(Refusal::Stale { skew_seconds: 61 }));
}

#[test]
fn mailgun_signs_for_subaccounts_too() {
    let source = authenticator(Provider::Mailgun, &["parent"], Options::default());
    let own = mailgun_signature("parent", NOW - 8 * 3600);
    assert_eq!(mailgun(&own).verify(&source, NOW), Ok(()));
    let mut child = mailgun_signature("child", NOW);
    assert_eq!(mailgun(&child).verify(&source, NOW), Err(Refusal::WrongSignature));
    child["parent-signature"] = own;
    assert_eq!(mailgun(&child).verify(&source, NOW), Ok(()));
    child["parent-signature"] = mailgun_signature("parent", 0);
    assert_eq!(mailgun(&child).verify(&source, NOW), Err(Refusal::Stale { skew_seconds: NOW }));
    for field in ["timestamp", "token", "signature"] {
        let mut cut = mailgun_signature("parent", NOW);
        cut.as_object_mut().unwrap().remove(field);
        assert_eq!(mailgun(&cut).verify(&source, NOW), Err(Refusal::MissingSignature), "{field}");
    }
    let none = Sent { body: b"{\"event-data\":{}}".to_vec(), ..Sent::default() };
    assert_eq!(none.verify(&source, NOW), Err(Refusal::MissingSignature));
}

#[test]
fn mandrills_registration_proves_nothing_but_itself() {
    let options = Options { public_url: Some(URL.into()), ..Options::default() };
    let source = authenticator(Provider::Mandrill, &["key"], options);
    let ping = |key, events: &str| {
        let signature =
            tag::<Hmac<sha1::Sha1>>(key, &[URL.as_bytes(), b"mandrill_events", events.as_bytes()]);
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("mandrill_events", events)
            .finish();
        let signature = STANDARD.encode(signature).into_bytes();
        Sent { headers: vec![("x-mandrill-signature", signature)], body: body.into_bytes() }
    };
    assert_eq!(ping("key", "[]").verify(&source, NOW), Ok(()));
    assert_eq!(ping("test-webhook", "[]").verify(&source, NOW), Ok(()));
    let events = "[{\"event\":\"send\"}]";
    assert_eq!(ping("key", events).verify(&source, NOW), Ok(()));
    assert_eq!(ping("test-webhook", events).verify(&source, NOW), Err(Refusal::WrongSignature));
}

#[test]
fn sns_is_trusted_for_its_topics_only() {
    let source = ses(Options::default());
    assert_eq!(sns(|_| ()).verify(&source, NOW), Ok(()));
    let elsewhere = Options { topics: vec![format!("{TOPIC}x")], ..Options::default() };
    let elsewhere = authenticator(Provider::Ses, &[], elsewhere);
    assert_eq!(sns(|_| ()).verify(&elsewhere, NOW), Err(Refusal::TopicNotAllowed));
    let none = authenticator(Provider::Ses, &[], Options::default());
    assert_eq!(sns(|_| ()).verify(&none, NOW), Err(Refusal::TopicNotAllowed));
    // The signature first: a forger learns nothing of the topics.
    let forged = sns(|envelope| envelope["Message"] = "x".into());
    assert_eq!(forged.verify(&elsewhere, NOW), Err(Refusal::WrongSignature));
    // What is not covered may differ.
    assert_eq!(
        sns(|envelope| envelope["UnsubscribeURL"] = "x".into()).verify(&source, NOW),
        Ok(())
    );
}

#[test]
fn sns_certificates_are_asked_for_and_dated() {
    let source = ses(Options::default());
    let other = CERTIFICATE.replace("0123", "9999");
    let unknown = sns(|envelope| envelope["SigningCertURL"] = other.clone().into());
    assert_eq!(unknown.verify(&source, NOW), Err(Refusal::CertificateNeeded(other.clone())));
    let foreign = sns(|envelope| envelope["SigningCertURL"] = "https://evil.test/a.pem".into());
    assert_eq!(foreign.verify(&source, NOW), Err(Refusal::UntrustedCertificateUrl));
    for now in [NOW - 11, NOW + 11] {
        assert_eq!(sns(|_| ()).verify(&source, now), Err(Refusal::CertificateInvalid));
    }
    assert_eq!(sns(|_| ()).verify(&source, NOW + 10), Ok(()));
}

#[test]
fn sns_versions_and_raw_delivery() {
    let source = ses(Options { signature_version: Some(2), ..Options::default() });
    assert_eq!(sns(|_| ()).verify(&source, NOW), Ok(()));
    let version = |version: &'static str| sns(move |e| e["SignatureVersion"] = version.into());
    let refused = Err(Refusal::SignatureVersionNotAllowed);
    assert_eq!(version("1").verify(&source, NOW), refused);
    assert_eq!(version("3").verify(&ses(Options::default()), NOW), refused);
    // A signature with SHA-256 is not one with SHA-1.
    let wrong = version("1").verify(&ses(Options::default()), NOW);
    assert_eq!(wrong, Err(Refusal::WrongSignature));
    let mut raw = sns(|_| ());
    raw.headers.push(("x-amz-sns-rawdelivery", b"true".to_vec()));
    assert_eq!(raw.verify(&source, NOW), Err(Refusal::MissingSignature));
}

#[test]
fn postmark_has_credentials_only() {
    let basic = |credentials: &str| Sent {
        headers: vec![("authorization", format!("basic {}", STANDARD.encode(credentials)).into())],
        ..Sent::default()
    };
    let source = authenticator(Provider::Postmark, &["ada:old", "ada:new"], Options::default());
    assert_eq!(basic("ada:old").verify(&source, NOW), Ok(()));
    assert_eq!(basic("ada:new").verify(&source, NOW), Ok(()));
    assert_eq!(basic("ada:other").verify(&source, NOW), Err(Refusal::WrongCredentials));
    assert_eq!(Sent::default().verify(&source, NOW), Err(Refusal::MissingCredentials));
    let bearer = STANDARD.encode("ada:old");
    let bearer = Sent {
        headers: vec![("authorization", format!("Beaver{bearer}").into())],
        ..Sent::default()
    };
    assert_eq!(bearer.verify(&source, NOW), Err(Refusal::WrongCredentials));

    let options = Options { header: Some("X-Hook-Secret".into()), ..Options::default() };
    let source = authenticator(Provider::Postmark, &["s3cret"], options);
    let custom =
        |value: &str| Sent { headers: vec![("x-hook-secret", value.into())], ..Sent::default() };
    assert_eq!(custom("s3cret").verify(&source, NOW), Ok(()));
    assert_eq!(custom("s3cre").verify(&source, NOW), Err(Refusal::WrongCredentials));
    assert_eq!(basic("s3cret").verify(&source, NOW), Err(Refusal::MissingCredentials));
}

#[test]
fn what_is_not_there_or_not_readable_is_told() {
    let sendgrid_source =
        authenticator(Provider::SendGrid, &[&ECDSA[0].public], Options::default());
    let generic_source = authenticator(Provider::Generic, &["key"], Options::default());
    for (source, sent) in
        [(&sendgrid_source, sendgrid(&ECDSA[0], NOW)), (&generic_source, generic("key", NOW))]
    {
        for missing in 0..sent.headers.len() {
            let mut less = sent.clone();
            less.headers.remove(missing);
            assert_eq!(less.verify(source, NOW), Err(Refusal::MissingSignature));
        }
        let mut odd = sent.clone();
        odd.headers[1].1 = b"sha256=?".to_vec();
        let refusal = odd.verify(source, NOW).unwrap_err();
        assert_eq!(refusal.code(), "malformed_signature");
    }
}

#[test]
fn settings_that_cannot_work_are_named() {
    let error = |provider, secrets: &[&str], options| {
        let error = Authenticator::new(&settings(provider, secrets, options)).unwrap_err();
        (matches!(error, SettingsError::BadOption { .. }), error.to_string())
    };
    let (_, text) = error(Provider::SendGrid, &[&ECDSA[0].public, "not a key"], Options::default());
    assert!(text.contains("secrets[1]") && !text.contains("not a key"), "{text}");
    let (_, text) = error(Provider::Mailgun, &[], Options::default());
    assert!(text.contains("`secrets` is empty"), "{text}");
    let (_, text) = error(Provider::Postmark, &["no-colon"], Options::default());
    assert!(text.contains("user:password"), "{text}");
    let bad_options = [
        (Provider::Mandrill, Options::default()),
        (Provider::Generic, Options { header: Some("no spaces".into()), ..Options::default() }),
        (Provider::Ses, Options { signature_version: Some(3), ..Options::default() }),
        (Provider::Ses, Options { topics: vec!["mail".into()], ..Options::default() }),
        (Provider::Mailgun, Options { public_url: Some(URL.into()), ..Options::default() }),
    ];
    for (provider, options) in bad_options {
        let (is_option, text) = error(provider, &["key"], options);
        assert!(is_option, "{text}");
    }
}

#[test]
fn one_authenticator_serves_all_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Authenticator>();
    shared::<Certificate>();
}
