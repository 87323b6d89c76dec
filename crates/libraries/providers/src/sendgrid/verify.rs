use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Options;
use crate::{
    FindCertificate, ReceivedRequest, Rejection, SettingsError, SourceSettings, Trace, Verified,
    freshness,
};

const SIGNATURE: &str = "x-twilio-email-event-webhook-signature";
const TIMESTAMP: &str = "x-twilio-email-event-webhook-timestamp";
/// SendGrid retries for 24 hours, and does not document whether a retry has a new signature.
const TOLERANCE_SECONDS: u64 = 24 * 3600;

/// Verifies an ECDSA P-256 signature with SHA-256 over the timestamp header followed by the body.
/// The signature is base64 of ASN.1. Secrets are public keys, base64 of DER SubjectPublicKeyInfo.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: Vec<ParsedPublicKey>,
    tolerance_seconds: u64,
}

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings, options: &Options) -> Result<Self, SettingsError> {
        let fix = "give the webhook's verification key as SendGrid shows it: one line of base64 \
                   that starts with MFkwEwYH, or the same in PEM";
        let key = |secret: &str| {
            let lines = secret.lines().filter(|line| !line.starts_with("-----"));
            let base64: String = lines.flat_map(str::split_whitespace).collect();
            let der = STANDARD.decode(base64).ok()?;
            ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, der).ok()
        };
        Ok(Self {
            keys: settings.read_secrets(fix, key)?,
            tolerance_seconds: options.tolerance_seconds.unwrap_or(TOLERANCE_SECONDS),
        })
    }

    /// Checks what needs no body.
    pub(crate) fn check_head(&self, request: &ReceivedRequest<'_>) -> Result<(), Rejection> {
        read(request, &mut Trace::off()).map(drop)
    }

    pub(crate) fn verify(
        &self,
        request: &ReceivedRequest<'_>,
        _: &FindCertificate<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Rejection> {
        let Signature { timestamp, signed_at, buffer, length } = read(request, trace)?;
        trace.signed(&[timestamp.as_bytes(), request.body]);
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(timestamp.as_bytes());
        hash.update(request.body);
        let (hash, signature) = (hash.finish(), &buffer[..length]);
        let key = self.keys.iter().position(|key| key.verify_digest_sig(&hash, signature).is_ok());
        trace.key(key, self.keys.len());
        let age = freshness::check(signed_at, request.now, self.tolerance_seconds, trace);
        let key = key.ok_or(Rejection::WrongSignature)?;
        age.map(|()| Verified::by(key))
    }
}

/// The headers of a signed request.
struct Signature<'a> {
    timestamp: &'a str,
    /// The same in unix seconds.
    signed_at: i64,
    /// An ASN.1 signature of P-256 has at most 72 bytes.
    buffer: [u8; 128],
    length: usize,
}

fn read<'a>(request: &ReceivedRequest<'a>, trace: &mut Trace) -> Result<Signature<'a>, Rejection> {
    let encoded = request.signature(SIGNATURE, trace)?;
    let timestamp = request.signature(TIMESTAMP, trace)?;
    let mut buffer = [0; 128];
    let length = STANDARD
        .decode_slice(encoded, &mut buffer)
        .map_err(|_| Rejection::MalformedSignature("it is not base64 of 72 bytes at most"))?;
    let signed_at = freshness::seconds(timestamp)?;
    Ok(Signature { timestamp, signed_at, buffer, length })
}
