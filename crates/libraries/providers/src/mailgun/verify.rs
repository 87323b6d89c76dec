use event::Text;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::body::{Body, Form};
use crate::examine::Trace;
use crate::{
    Algorithm, Once, Received, Refusal, SettingsError, SourceSettings, Verified, freshness, json,
    mac,
};

/// Mailgun tries again for eight hours, it seems with the signature of the first attempt; its
/// clock may drift.
const TOLERANCE_SECONDS: u64 = 9 * 3600;

/// HMAC-SHA256 in lower-case hexadecimal over `timestamp` followed by `token`. The event itself is
/// not signed, so what was verified is good [`Once`].
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: mac::Keys,
    tolerance_seconds: u64,
}

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow, default, deserialize_with = "json::maybe")]
    signature: Option<Signature<'a>>,
    #[serde(borrow, default, rename = "event-data")]
    event_data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Signature<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    timestamp: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    token: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    signature: Option<Text<'a>>,
    /// On a subaccount's events: the same, by the parent account's key.
    #[serde(borrow, default, rename = "parent-signature", deserialize_with = "json::maybe")]
    parent: Option<Box<Signature<'a>>>,
}

/// A signature that is good: its key, what it covers, and until when.
struct Proof {
    key: usize,
    token: [u8; 16],
    expires_at: i64,
}

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings) -> Result<Self, SettingsError> {
        let mend = "give the HTTP webhook signing key of Mailgun's settings, not an API key";
        let secrets = settings
            .prepared(mend, |secret| (!secret.is_empty()).then(|| secret.as_bytes().to_vec()))?;
        Ok(Self {
            keys: mac::Keys::new(Algorithm::Sha256, &secrets),
            tolerance_seconds: settings.options.tolerance_seconds.unwrap_or(TOLERANCE_SECONDS),
        })
    }

    pub(crate) fn verify(
        &self,
        received: &Received<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Refusal> {
        let (proof, content) = match Body::read(received.body) {
            Body::Json(body) => {
                let whole: Whole<'_> = json::body(body).map_err(|_| {
                    Refusal::MalformedSignature("the body that holds it is no JSON object")
                })?;
                let proof = self.prove(whole.signature.as_ref(), received.now, trace)?;
                (proof, digest_of_data(whole.event_data))
            }
            Body::Form(form) => {
                let proof = self.prove(Some(&signature_in(&form)), received.now, trace)?;
                (proof, digest_of_form(&form))
            }
        };
        let Proof { key, token, expires_at } = proof;
        Ok(Verified { key: Some(key), once: Some(Once { token, content, expires_at }) })
    }

    /// By the signature itself, or by the parent account's.
    fn prove(
        &self,
        given: Option<&Signature<'_>>,
        now: i64,
        trace: &mut Trace,
    ) -> Result<Proof, Refusal> {
        let Some(given) = given else {
            trace.failed("signature", || "the body has no `signature`".to_owned());
            return Err(Refusal::MissingSignature);
        };
        match (self.check("signature", given, now, trace), &given.parent) {
            (Err(Refusal::WrongSignature), Some(parent)) => {
                self.check("parent-signature", parent, now, trace)
            }
            (own, _) => own,
        }
    }

    fn check(
        &self,
        name: &'static str,
        given: &Signature<'_>,
        now: i64,
        trace: &mut Trace,
    ) -> Result<Proof, Refusal> {
        let (Some(timestamp), Some(token), Some(signature)) =
            (&given.timestamp, &given.token, &given.signature)
        else {
            trace.failed("signature", || {
                format!("the body's `{name}` lacks `timestamp`, `token` or `signature`")
            });
            return Err(Refusal::MissingSignature);
        };
        trace.passed("signature", || format!("the body's `{name}` is {signature}"));
        let tag = mac::Tag::from_hex(signature)
            .filter(|_| !signature.bytes().any(|byte| byte.is_ascii_uppercase()))
            .ok_or(Refusal::MalformedSignature("it is not lower-case hexadecimal"))?;
        let signed_at = freshness::seconds(timestamp)?;
        let signed = [timestamp.as_bytes(), token.as_bytes()];
        trace.signed(&signed);
        let key = self.keys.find(&signed, &tag);
        trace.key(key, self.keys.count());
        let age = freshness::check(signed_at, now, self.tolerance_seconds, trace);
        let key = key.ok_or(Refusal::WrongSignature)?;
        age?;
        Ok(Proof {
            key,
            token: short(
                Sha256::new().chain_update(timestamp.as_bytes()).chain_update(token.as_bytes()),
            ),
            expires_at: freshness::expiry(signed_at, self.tolerance_seconds),
        })
    }
}

fn signature_in<'a>(form: &'a Form<'_>) -> Signature<'a> {
    let field = |name| form.text(name).map(Text::from).and_then(Text::non_empty);
    let (timestamp, token) = (field("timestamp"), field("token"));
    Signature { timestamp, token, signature: field("signature"), parent: None }
}

fn digest_of_data(event_data: Option<&RawValue>) -> [u8; 16] {
    short(Sha256::new().chain_update(event_data.map_or("", RawValue::get)))
}

fn digest_of_form(form: &Form<'_>) -> [u8; 16] {
    let mut hash = Sha256::new();
    for (name, value) in form.unsigned() {
        for text in [name, value] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
    }
    short(hash)
}

/// The first half of a SHA-256: other content with the digest of what was seen takes 2^128 tries.
fn short(hash: Sha256) -> [u8; 16] {
    let whole = hash.finalize();
    std::array::from_fn(|place| whole[place])
}
