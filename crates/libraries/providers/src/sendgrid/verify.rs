use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::examine::Trace;
use crate::{Received, Refusal, SettingsError, SourceSettings, Verified, freshness};

const SIGNATURE: &str = "x-twilio-email-event-webhook-signature";
const TIMESTAMP: &str = "x-twilio-email-event-webhook-timestamp";
/// SendGrid tries again for 24 hours, and does not say whether a retry is signed anew.
const TOLERANCE_SECONDS: u64 = 24 * 3600;

/// ECDSA P-256 with SHA-256 over the timestamp header's bytes followed by the body; the signature
/// is base64 of its ASN.1 form, the key base64 of its SubjectPublicKeyInfo.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: Vec<ParsedPublicKey>,
    tolerance_seconds: u64,
}

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings) -> Result<Self, SettingsError> {
        let mend = "give the webhook's verification key as SendGrid shows it: one line of base64 \
                    that starts with MFkwEwYH, or the same in PEM";
        let key = |secret: &str| {
            let lines = secret.lines().filter(|line| !line.starts_with("-----"));
            let base64: String = lines.flat_map(str::split_whitespace).collect();
            let der = STANDARD.decode(base64).ok()?;
            ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, der).ok()
        };
        Ok(Self {
            keys: settings.prepared(mend, key)?,
            tolerance_seconds: settings.options.tolerance_seconds.unwrap_or(TOLERANCE_SECONDS),
        })
    }

    pub(crate) fn verify(
        &self,
        received: &Received<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Refusal> {
        let encoded = received.signature(SIGNATURE, trace)?;
        let timestamp = received.signature(TIMESTAMP, trace)?;
        // An ASN.1 signature of P-256 has at most 72 bytes.
        let mut buffer = [0; 128];
        let length = STANDARD
            .decode_slice(encoded, &mut buffer)
            .map_err(|_| Refusal::MalformedSignature("it is not base64 of 72 bytes at most"))?;
        let signed_at = freshness::seconds(timestamp)?;

        trace.signed(&[timestamp.as_bytes(), received.body]);
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(timestamp.as_bytes());
        hash.update(received.body);
        let (hash, signature) = (hash.finish(), &buffer[..length]);
        let key = self.keys.iter().position(|key| key.verify_digest_sig(&hash, signature).is_ok());
        trace.key(key, self.keys.len());
        let age = freshness::check(signed_at, received.now, self.tolerance_seconds, trace);
        let key = key.ok_or(Refusal::WrongSignature)?;
        age.map(|()| Verified::by(key))
    }
}
