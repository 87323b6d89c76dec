//! Verifies every provider's signature scheme with generated keys: good signatures are accepted,
//! and no signed byte can be changed.

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
use serde_json::{Value, json};

use crate::{
    Authenticator, Certificate, Options, ReceivedRequest, Rejection, SourceSettings, Verified,
};

mod diagnosed;
mod forgery;
mod heads;
mod rules;
mod schemes;

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
    Arc::new(Certificate::from_key(key.as_ref(), NOW - 10, NOW + 10).unwrap())
});

/// The settings of a source with the given options, in the form of the settings file.
fn settings(provider: Provider, secrets: &[&str], options: Value) -> SourceSettings {
    let secrets = secrets.iter().map(|&secret| secret.into()).collect();
    let options = Options::read(provider, options).unwrap();
    SourceSettings { name: "acme".into(), secrets, options }
}

fn authenticator(provider: Provider, secrets: &[&str], options: Value) -> Authenticator {
    Authenticator::new(&settings(provider, secrets, options)).unwrap()
}

/// A request whose headers may have any bytes that HTTP allows.
#[derive(Clone, Default)]
struct Sent {
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

impl Sent {
    fn verify(&self, authenticator: &Authenticator, now: i64) -> Result<(), Rejection> {
        self.verified(authenticator, now).map(|_| ())
    }

    fn verified(&self, authenticator: &Authenticator, now: i64) -> Result<Verified, Rejection> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let Ok(value) = HeaderValue::from_bytes(value) else {
                return Err(Rejection::MissingSignature);
            };
            headers.insert(HeaderName::from_static(name), value);
        }
        let known = |url: &str| (url == CERTIFICATE).then(|| SNS_CERTIFICATE.clone());
        let request = ReceivedRequest { headers: &headers, body: &self.body, remote_ip: None, now };
        authenticator.verify(&request, &known)
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

fn mailgun_signature(key: &str, timestamp: i64) -> Value {
    let (timestamp, token) = (timestamp.to_string(), "b1946ac92492d2347c6235b4d2611184");
    let signature = tag::<Hmac<sha2::Sha256>>(key, &[timestamp.as_bytes(), token.as_bytes()]);
    json!({ "timestamp": timestamp, "token": token, "signature": hex::encode(signature) })
}

fn mailgun(signature: &Value) -> Sent {
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

/// A notification that is signed and then changed.
fn sns(change: impl Fn(&mut Value)) -> Sent {
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

/// An SES source with the topic and the given options.
fn ses(mut options: Value) -> Authenticator {
    options["topics"] = json!([TOPIC]);
    authenticator(Provider::Ses, &[], options)
}

/// Signed with the key in `whsec_a2V5`.
fn standard_webhooks(prefix: [&'static str; 3], timestamp: i64) -> Sent {
    let timestamp = timestamp.to_string().into_bytes();
    let signature = tag::<Hmac<sha2::Sha256>>("key", &[b"msg_1", b".", &timestamp, b".", BODY]);
    let signature = format!("v1,{}", STANDARD.encode(signature)).into_bytes();
    let [id_name, timestamp_name, signature_name] = prefix;
    Sent {
        headers: vec![
            (id_name, b"msg_1".to_vec()),
            (timestamp_name, timestamp),
            (signature_name, signature),
        ],
        body: BODY.to_vec(),
    }
}

const SPECIFIED: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];
const SVIX: [&str; 3] = ["svix-id", "svix-timestamp", "svix-signature"];
const WHSEC: &str = "whsec_a2V5";

fn mailersend(key: &str) -> Sent {
    let signature = hex::encode(tag::<Hmac<sha2::Sha256>>(key, &[BODY]));
    Sent { headers: vec![("signature", signature.into_bytes())], body: BODY.to_vec() }
}

const POSTAL_KEY: &str = include_str!("../postal/keys/public.pem");
const POSTAL_SHA1: (&str, &[u8]) =
    ("x-postal-signature", include_bytes!("../postal/keys/sent.sha1"));
const POSTAL_SHA256: (&str, &[u8]) =
    ("x-postal-signature-256", include_bytes!("../postal/keys/sent.sha256"));

fn postal(signatures: &[(&'static str, &[u8])]) -> Sent {
    Sent {
        headers: signatures.iter().map(|(name, value)| (*name, value.to_vec())).collect(),
        body: include_bytes!("../postal/fixtures/sent.json").to_vec(),
    }
}
