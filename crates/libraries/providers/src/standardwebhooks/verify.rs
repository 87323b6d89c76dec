use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::Options;
use crate::mac::{self, Algorithm};
use crate::{
    FindCertificate, ReceivedRequest, Rejection, SettingsError, SourceSettings, Trace, Verified,
    freshness,
};

/// The tolerance of the specification. The signed time is that of the attempt, so retries pass.
const TOLERANCE_SECONDS: u64 = 300;
/// At most this number of signatures in a header are checked. A sender adds one for each secret
/// that is valid.
const MAX_SIGNATURES: usize = 16;
/// The headers of id, timestamp and signature, by the specification and by Svix.
const HEADERS: [[&str; 3]; 2] = [
    ["webhook-id", "webhook-timestamp", "webhook-signature"],
    ["svix-id", "svix-timestamp", "svix-signature"],
];

/// Verifies signatures over `id.timestamp.body` according to the Standard Webhooks specification:
/// `v1` is an HMAC-SHA256 under a secret `whsec_…`, `v1a` is Ed25519 under a public key `whpk_…`.
/// The header may contain several signatures, of which one must be good.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: Vec<Key>,
    tolerance_seconds: u64,
}

#[derive(Debug)]
enum Key {
    Secret(mac::Keys),
    Public(ParsedPublicKey),
}

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings, options: &Options) -> Result<Self, SettingsError> {
        let fix = "give the endpoint's signing secret, `whsec_…`, or the sender's public key, \
                   `whpk_…`";
        Ok(Self {
            keys: settings.read_secrets(fix, Key::read)?,
            tolerance_seconds: options.tolerance_seconds.unwrap_or(TOLERANCE_SECONDS),
        })
    }

    /// Checks what needs no body.
    pub(crate) fn check_head(&self, request: &ReceivedRequest<'_>) -> Result<(), Rejection> {
        Head::read(request, &mut Trace::off()).map(drop)
    }

    pub(crate) fn verify(
        &self,
        request: &ReceivedRequest<'_>,
        _: &FindCertificate<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Rejection> {
        let Head { id, timestamp, signed_at, signatures } = Head::read(request, trace)?;
        let signed: [&[u8]; 5] = [id.as_bytes(), b".", timestamp.as_bytes(), b".", request.body];
        trace.signed(&signed);
        let key = self.find(&signed, &signatures);
        trace.key(key, self.keys.len());
        let age = freshness::check(signed_at, request.now, self.tolerance_seconds, trace);
        let key = key.ok_or(Rejection::WrongSignature)?;
        age.map(|()| Verified::by(key))
    }

    /// Returns the index of the key that made one of the signatures.
    fn find(&self, signed: &[&[u8]], signatures: &[Signature]) -> Option<usize> {
        // The Ed25519 verifier needs the message as one slice.
        let whole = signatures.iter().any(Signature::is_v1a).then(|| signed.concat());
        self.keys.iter().position(|key| {
            signatures.iter().any(|signature| match (key, signature, &whole) {
                (Key::Secret(keys), Signature::V1(tag), _) => keys.find(signed, tag).is_some(),
                (Key::Public(key), Signature::V1a(signature), Some(whole)) => {
                    key.verify_sig(whole, signature).is_ok()
                }
                _ => false,
            })
        })
    }
}

impl Key {
    fn read(secret: &str) -> Option<Self> {
        let secret = secret.trim();
        if let Some(public) = secret.strip_prefix("whpk_") {
            let key = decode(public)?;
            return ParsedPublicKey::new(&ED25519, key).ok().map(Self::Public);
        }
        let key = decode(secret.strip_prefix("whsec_").unwrap_or(secret))?;
        (!key.is_empty()).then(|| Self::Secret(mac::Keys::new(Algorithm::Sha256, &[key])))
    }
}

/// Decodes base64 with or without padding, which may be lost when a secret is copied.
fn decode(base64: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(base64.trim_end_matches('=')).ok()
}

/// The headers of a signed request.
struct Head<'a> {
    id: &'a str,
    timestamp: &'a str,
    /// The same in unix seconds.
    signed_at: i64,
    signatures: Vec<Signature>,
}

impl<'a> Head<'a> {
    fn read(request: &ReceivedRequest<'a>, trace: &mut Trace) -> Result<Self, Rejection> {
        let names =
            if request.headers.contains_key(HEADERS[1][2]) { HEADERS[1] } else { HEADERS[0] };
        let id = request.signature(names[0], trace)?;
        let timestamp = request.signature(names[1], trace)?;
        let signatures = read(request.signature(names[2], trace)?)?;
        let signed_at = freshness::seconds(timestamp)?;
        Ok(Self { id, timestamp, signed_at, signatures })
    }
}

/// A decoded signature of the header.
enum Signature {
    V1(mac::Tag),
    V1a(mac::Tag),
}

impl Signature {
    fn is_v1a(&self) -> bool {
        matches!(self, Self::V1a(_))
    }
}

/// Returns the signatures of known versions. The others are ignored, as the specification says.
fn read(header: &str) -> Result<Vec<Signature>, Rejection> {
    let signatures: Vec<_> = header
        .split_ascii_whitespace()
        .filter_map(|signature| match signature.split_once(',')? {
            ("v1", tag) => mac::Tag::from_base64(tag).map(Signature::V1),
            ("v1a", tag) => mac::Tag::from_base64(tag).map(Signature::V1a),
            _ => None,
        })
        .take(MAX_SIGNATURES)
        .collect();
    if signatures.is_empty() {
        return Err(Rejection::MalformedSignature(
            "it contains neither `v1,` nor `v1a,` with base64",
        ));
    }
    Ok(signatures)
}
