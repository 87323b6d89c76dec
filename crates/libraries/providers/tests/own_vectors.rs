//! Tests the signature vectors in `tests/vectors/`, which were made with our own keys by Python and
//! openssl. `tests/vectors/README.md` explains how to repeat and to check them without Mailpulse.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use event::Provider;
use http::{HeaderMap, HeaderName, HeaderValue};
use providers::{
    Authenticator, Certificate, Content, Options, ReceivedRequest, Rejection, SourceSettings,
    Verified, split,
};
use serde::Deserialize;

/// A file of vectors.
#[derive(Deserialize)]
struct Document {
    provider: Provider,
    sources: Vec<Source>,
}

/// A source with its settings, and requests to it.
#[derive(Deserialize)]
struct Source {
    secrets: Vec<String>,
    options: serde_json::Value,
    /// The certificates that can be fetched, in PEM by address.
    #[serde(default)]
    certificates: HashMap<String, String>,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    now: i64,
    headers: HashMap<String, String>,
    body: String,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Expected {
    Rejected {
        code: String,
    },
    Accepted {
        key: Option<usize>,
        kinds: Vec<String>,
        /// What a body without events is.
        content: Option<String>,
    },
}

/// A source that is ready to verify.
struct Verifier {
    authenticator: Authenticator,
    certificates: HashMap<String, Arc<Certificate>>,
}

impl Verifier {
    fn new(provider: Provider, source: &Source) -> Self {
        let settings = SourceSettings {
            name: "vectors".into(),
            secrets: source.secrets.iter().map(|secret| secret.as_str().into()).collect(),
            options: Options::read(provider, source.options.clone()).unwrap(),
        };
        let certificate = |(url, pem): (&String, &String)| {
            (url.clone(), Arc::new(Certificate::parse(pem.as_bytes()).unwrap()))
        };
        Self {
            authenticator: Authenticator::new(&settings).unwrap(),
            certificates: source.certificates.iter().map(certificate).collect(),
        }
    }

    fn verify(&self, vector: &Vector, body: &[u8]) -> Result<Verified, Rejection> {
        let header = |(name, value): (&String, &String)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        let headers: HeaderMap = vector.headers.iter().map(header).collect();
        let request = ReceivedRequest { headers: &headers, body, remote_ip: None, now: vector.now };
        self.authenticator.verify(&request, &|url| self.certificates.get(url).cloned())
    }
}

/// Returns the vectors of a provider.
fn document(provider: Provider) -> Document {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(format!("{provider}.json"));
    let json = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let document: Document = serde_json::from_slice(&json).unwrap();
    assert_eq!(document.provider, provider);
    document
}

/// Checks all vectors of a provider. There must be accepted ones and rejected ones.
fn check(provider: Provider) {
    let (mut accepted, mut rejected) = (0, 0);
    for source in &document(provider).sources {
        let verifier = Verifier::new(provider, source);
        for vector in &source.vectors {
            let name = format!("{provider}: {}", vector.name);
            let verdict = verifier.verify(vector, vector.body.as_bytes());
            match &vector.expect {
                Expected::Rejected { code } => {
                    assert_eq!(verdict.unwrap_err().code(), code, "{name}");
                    rejected += 1;
                }
                Expected::Accepted { key, kinds, content } => {
                    assert_eq!(verdict.unwrap().key, *key, "{name}");
                    check_events(provider, vector, kinds, content.as_deref());
                    accepted += 1;
                }
            }
        }
    }
    assert!(accepted > 0 && rejected > 0, "{provider}: {accepted} accepted, {rejected} rejected");
}

/// Checks the events of an accepted body.
fn check_events(provider: Provider, vector: &Vector, kinds: &[String], content: Option<&str>) {
    let split = split(provider, vector.body.as_bytes()).unwrap();
    let found: Vec<_> = split.kinds().map(|kind| kind.to_string()).collect();
    assert_eq!(found, kinds, "{}", vector.name);
    let name = match split.content() {
        Content::Events(_) => None,
        Content::Ping => Some("Ping"),
        Content::ConfirmSubscription { .. } => Some("ConfirmSubscription"),
        Content::Unsubscribed { .. } => Some("Unsubscribed"),
    };
    assert_eq!(name, content, "{}", vector.name);
}

/// Changes every byte of every accepted body in turn. The scheme must cover the whole body.
fn check_no_byte_can_be_changed(provider: Provider) {
    for source in &document(provider).sources {
        let verifier = Verifier::new(provider, source);
        let accepted = source
            .vectors
            .iter()
            .filter(|vector| matches!(vector.expect, Expected::Accepted { .. }));
        for vector in accepted {
            for index in 0..vector.body.len() {
                let mut body = vector.body.clone().into_bytes();
                body[index] ^= 1;
                let verdict = verifier.verify(vector, &body);
                assert!(verdict.is_err(), "{provider}: {}: byte {index}", vector.name);
            }
        }
    }
}

#[test]
fn sendgrid_vectors() {
    check(Provider::SendGrid);
    check_no_byte_can_be_changed(Provider::SendGrid);
}

#[test]
fn mailgun_vectors() {
    check(Provider::Mailgun);
}

#[test]
fn mandrill_vectors() {
    check(Provider::Mandrill);
}

#[test]
fn ses_vectors() {
    check(Provider::Ses);
}

#[test]
fn standard_webhooks_vectors() {
    check(Provider::StandardWebhooks);
    check_no_byte_can_be_changed(Provider::StandardWebhooks);
}

#[test]
fn resend_vectors() {
    check(Provider::Resend);
    check_no_byte_can_be_changed(Provider::Resend);
}

#[test]
fn mailersend_vectors() {
    check(Provider::MailerSend);
    check_no_byte_can_be_changed(Provider::MailerSend);
}

#[test]
fn postal_vectors() {
    check(Provider::Postal);
    check_no_byte_can_be_changed(Provider::Postal);
}

#[test]
fn generic_vectors() {
    check(Provider::Generic);
    check_no_byte_can_be_changed(Provider::Generic);
}

#[test]
fn vectors_of_providers_that_do_not_sign() {
    for provider in [Provider::Postmark, Provider::SparkPost, Provider::Brevo, Provider::Mailjet] {
        check(provider);
    }
}
