use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::examine::Trace;
use crate::{
    Algorithm, Received, Refusal, SettingsError, SourceSettings, Verified, freshness, mac,
};

/// The specification's tolerance: the time is that of the attempt, so retries pass.
const TOLERANCE_SECONDS: u64 = 300;
/// As many signatures of a header are looked at: one for each secret while several are in use.
const MOST_SIGNATURES: usize = 16;
/// Id, timestamp and signature, in the names of the specification and in Svix's own.
const HEADERS: [[&str; 3]; 2] = [
    ["webhook-id", "webhook-timestamp", "webhook-signature"],
    ["svix-id", "svix-timestamp", "svix-signature"],
];

/// Signatures over `id.timestamp.body`, as the Standard Webhooks specification says: `v1` is
/// HMAC-SHA256 by the secret that follows `whsec_`, `v1a` is Ed25519 by the public key that follows
/// `whpk_`. The header may have several, of which one has to be good.
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
    pub(crate) fn new(settings: &SourceSettings) -> Result<Self, SettingsError> {
        let mend = "give the endpoint's signing secret, `whsec_…`, or the sender's public key, \
                    `whpk_…`";
        Ok(Self {
            keys: settings.prepared(mend, Key::read)?,
            tolerance_seconds: settings.options.tolerance_seconds.unwrap_or(TOLERANCE_SECONDS),
        })
    }

    pub(crate) fn verify(
        &self,
        received: &Received<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Refusal> {
        let names =
            if received.headers.contains_key(HEADERS[1][2]) { HEADERS[1] } else { HEADERS[0] };
        let id = received.signature(names[0], trace)?;
        let timestamp = received.signature(names[1], trace)?;
        let header = received.signature(names[2], trace)?;
        let signatures = read(header)?;
        let signed_at = freshness::seconds(timestamp)?;

        let signed: [&[u8]; 5] = [id.as_bytes(), b".", timestamp.as_bytes(), b".", received.body];
        trace.signed(&signed);
        let key = self.find(&signed, &signatures);
        trace.key(key, self.keys.len());
        let age = freshness::check(signed_at, received.now, self.tolerance_seconds, trace);
        let key = key.ok_or(Refusal::WrongSignature)?;
        age.map(|()| Verified::by(key))
    }

    /// The key that made any of the signatures.
    fn find(&self, signed: &[&[u8]], signatures: &[Signature]) -> Option<usize> {
        // Ed25519 needs the message in one piece.
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

/// Base64 whose padding may have been lost in copying.
fn decode(base64: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(base64.trim_end_matches('=')).ok()
}

/// One signature of the header, decoded.
enum Signature {
    V1(mac::Tag),
    V1a(mac::Tag),
}

impl Signature {
    fn is_v1a(&self) -> bool {
        matches!(self, Self::V1a(_))
    }
}

/// The signatures that we know how to check; those of other versions are for others.
fn read(header: &str) -> Result<Vec<Signature>, Refusal> {
    let signatures: Vec<_> = header
        .split_ascii_whitespace()
        .filter_map(|signature| match signature.split_once(',')? {
            ("v1", tag) => mac::Tag::from_base64(tag).map(Signature::V1),
            ("v1a", tag) => mac::Tag::from_base64(tag).map(Signature::V1a),
            _ => None,
        })
        .take(MOST_SIGNATURES)
        .collect();
    if signatures.is_empty() {
        return Err(Refusal::MalformedSignature("none of it is `v1,` or `v1a,` and base64"));
    }
    Ok(signatures)
}
