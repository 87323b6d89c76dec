use event::Text;
use serde::Deserialize;

use crate::authenticator::Request;
use crate::{Algorithm, Refusal, SettingsError, SourceSettings, freshness, json, mac};

/// Mailgun tries again for eight hours, it seems with the signature of the first attempt; its
/// clock may drift.
const TOLERANCE_SECONDS: u64 = 9 * 3600;

/// HMAC-SHA256 in lower-case hexadecimal over `timestamp` followed by `token`. The event itself is
/// not signed: a captured signature is good for any event until it is too old.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: mac::Keys,
    tolerance_seconds: u64,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, deserialize_with = "json::maybe")]
    signature: Option<Signature<'a>>,
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

    pub(crate) fn verify(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let body: Body<'_> = json::body(request.body)
            .map_err(|_| Refusal::MalformedSignature("the body that holds it is no JSON object"))?;
        let signature = body.signature.ok_or(Refusal::MissingSignature)?;
        let own = self.check(&signature, request.now);
        match (&own, &signature.parent) {
            (Err(Refusal::WrongSignature), Some(parent)) => self.check(parent, request.now),
            _ => own,
        }
    }

    fn check(&self, given: &Signature<'_>, now: i64) -> Result<(), Refusal> {
        let (Some(timestamp), Some(token), Some(signature)) =
            (&given.timestamp, &given.token, &given.signature)
        else {
            return Err(Refusal::MissingSignature);
        };
        let tag = mac::Tag::from_hex(signature)
            .filter(|_| !signature.bytes().any(|byte| byte.is_ascii_uppercase()))
            .ok_or(Refusal::MalformedSignature("it is not lower-case hexadecimal"))?;
        if !self.keys.verify(&[timestamp.as_bytes(), token.as_bytes()], &tag) {
            return Err(Refusal::WrongSignature);
        }
        freshness::check(freshness::seconds(timestamp)?, now, self.tolerance_seconds)
    }
}
