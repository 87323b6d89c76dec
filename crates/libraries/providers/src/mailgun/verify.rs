use event::Text;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::Options;
use super::body::{Body, Form};
use crate::json::{self, LenientText, OptionalObject};
use crate::mac::{self, Algorithm};
use crate::settings::text_secret;
use crate::{
    FindCertificate, ReceivedRequest, Rejection, SettingsError, SingleUseToken, SourceSettings,
    Trace, Verified, freshness,
};

/// Mailgun retries for eight hours, apparently with the signature of the first attempt. One hour is
/// for clock drift.
const TOLERANCE_SECONDS: u64 = 9 * 3600;

/// Verifies the lower-case hexadecimal HMAC-SHA256 of `timestamp` followed by `token`. The event
/// itself is not signed, so the token is a [`SingleUseToken`]. Secrets are HTTP webhook signing
/// keys.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: mac::Keys,
    tolerance_seconds: u64,
}

#[derive(Deserialize)]
struct SignedBody<'a> {
    #[serde(borrow)]
    signature: OptionalObject<Signature<'a>>,
    #[serde(rename = "event-data")]
    event_data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Signature<'a> {
    #[serde(borrow)]
    timestamp: LenientText<'a>,
    token: LenientText<'a>,
    signature: LenientText<'a>,
    /// On events of a subaccount: the same under the key of the parent account.
    #[serde(rename = "parent-signature")]
    parent: OptionalObject<Box<Signature<'a>>>,
}

/// A good signature: the index of its key, a digest of what it covers, and its last second.
struct Proof {
    key: usize,
    token: [u8; 16],
    expires_at: i64,
}

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings, options: &Options) -> Result<Self, SettingsError> {
        let fix = "give the HTTP webhook signing key from Mailgun's settings, not an API key";
        let secrets = settings.read_secrets(fix, text_secret)?;
        Ok(Self {
            keys: mac::Keys::new(Algorithm::Sha256, &secrets),
            tolerance_seconds: options.tolerance_seconds.unwrap_or(TOLERANCE_SECONDS),
        })
    }

    /// The signature is in the body, so nothing can be checked without it.
    pub(crate) const fn check_head(&self, _: &ReceivedRequest<'_>) -> Result<(), Rejection> {
        Ok(())
    }

    pub(crate) fn verify(
        &self,
        request: &ReceivedRequest<'_>,
        _: &FindCertificate<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Rejection> {
        let (proof, content) = match Body::read(request.body) {
            Body::Json(body) => {
                let signed: SignedBody<'_> = json::body(body).map_err(|_| {
                    Rejection::MalformedSignature("the body that contains it is no JSON object")
                })?;
                let proof = self.prove(signed.signature.as_ref(), request.now, trace)?;
                (proof, digest_of_data(signed.event_data))
            }
            Body::TooManyFields => {
                return Err(Rejection::MalformedSignature(
                    "the form that contains it has more than 256 fields",
                ));
            }
            Body::Form(form) => {
                let proof = self.prove(Some(&signature_of_form(&form)), request.now, trace)?;
                (proof, digest_of_form(&form))
            }
        };
        let Proof { key, token, expires_at } = proof;
        let single_use = Some(SingleUseToken { token, content, expires_at });
        Ok(Verified { key: Some(key), single_use })
    }

    /// Checks the signature and, if its key is not known, the one of the parent account.
    fn prove(
        &self,
        given: Option<&Signature<'_>>,
        now: i64,
        trace: &mut Trace,
    ) -> Result<Proof, Rejection> {
        let Some(given) = given else {
            trace.failed("signature", || "the body has no `signature`".to_owned());
            return Err(Rejection::MissingSignature);
        };
        match (self.check("signature", given, now, trace), &given.parent.0) {
            (Err(Rejection::WrongSignature), Some(parent)) => {
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
    ) -> Result<Proof, Rejection> {
        let (Some(timestamp), Some(token), Some(signature)) =
            (&given.timestamp.0, &given.token.0, &given.signature.0)
        else {
            trace.failed("signature", || {
                format!("the body's `{name}` lacks `timestamp`, `token` or `signature`")
            });
            return Err(Rejection::MissingSignature);
        };
        trace.passed("signature", || format!("the body's `{name}` is {signature}"));
        let tag = mac::Tag::from_hex(signature)
            .filter(|_| !signature.bytes().any(|byte| byte.is_ascii_uppercase()))
            .ok_or(Rejection::MalformedSignature("it is not lower-case hexadecimal"))?;
        let signed_at = freshness::seconds(timestamp)?;
        let signed = [timestamp.as_bytes(), token.as_bytes()];
        trace.signed(&signed);
        let key = self.keys.find(&signed, &tag);
        trace.key(key, self.keys.count());
        let age = freshness::check(signed_at, now, self.tolerance_seconds, trace);
        let key = key.ok_or(Rejection::WrongSignature)?;
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

fn signature_of_form<'a>(form: &'a Form<'_>) -> Signature<'a> {
    let field = |name| LenientText(form.text(name).map(Text::from).and_then(Text::non_empty));
    let (timestamp, token) = (field("timestamp"), field("token"));
    Signature { timestamp, token, signature: field("signature"), parent: OptionalObject(None) }
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

/// Returns the first half of a SHA-256. Finding other content with the same digest takes 2^128
/// attempts.
fn short(hash: Sha256) -> [u8; 16] {
    let digest = hash.finalize();
    std::array::from_fn(|index| digest[index])
}
