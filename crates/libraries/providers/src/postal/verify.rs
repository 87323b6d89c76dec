use aws_lc_rs::signature::{
    ParsedPublicKey, RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Options;
use crate::{
    FindCertificate, ReceivedRequest, Rejection, SettingsError, SourceSettings, Trace, Verified,
};

const SHA1: &str = "x-postal-signature";
const SHA256: &str = "x-postal-signature-256";
const KEY_ID: &str = "x-postal-signature-kid";
/// The length of a signature by the longest accepted RSA key, 8192 bits.
const MAX_SIGNATURE: usize = 1024;

/// Verifies the base64 RSA PKCS#1 v1.5 signature of the body. It covers no time. Secrets are public
/// keys of the installation; keys of 1024 bits are accepted, because Postal creates such by
/// default.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: Vec<PublicKey>,
    rejects_sha1: bool,
}

/// One key, prepared for both hashes.
#[derive(Debug)]
struct PublicKey {
    sha1: ParsedPublicKey,
    sha256: ParsedPublicKey,
}

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings, options: &Options) -> Result<Self, SettingsError> {
        let fix = "give the public key of the installation's signing key, in PEM or as the one \
                   line of base64 that `postal default-dkim-record` shows after `p=`";
        Ok(Self {
            keys: settings.read_secrets(fix, PublicKey::read)?,
            rejects_sha1: options.reject_sha1,
        })
    }

    /// Checks what needs no body.
    pub(crate) fn check_head(&self, request: &ReceivedRequest<'_>) -> Result<(), Rejection> {
        self.read(request, &mut Trace::off()).map(drop)
    }

    pub(crate) fn verify(
        &self,
        request: &ReceivedRequest<'_>,
        _: &FindCertificate<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Rejection> {
        let Signature { is_sha256, buffer, length } = self.read(request, trace)?;
        if let Some(id) = request.header(KEY_ID) {
            trace.skipped("key id", || format!("the installation names its key {id}"));
        }
        trace.signed(&[request.body]);
        let signature = &buffer[..length];
        let key = self.keys.iter().position(|key| {
            let key = if is_sha256 { &key.sha256 } else { &key.sha1 };
            key.verify_sig(request.body, signature).is_ok()
        });
        trace.key(key, self.keys.len());
        trace.undated();
        key.map(Verified::by).ok_or(Rejection::WrongSignature)
    }

    fn read(
        &self,
        request: &ReceivedRequest<'_>,
        trace: &mut Trace,
    ) -> Result<Signature, Rejection> {
        // Releases before 3 sign with SHA-1 only. If there is a SHA-256 signature it must be good:
        // a forged one cannot be made up for by SHA-1.
        let is_sha256 = request.headers.contains_key(SHA256);
        let encoded = request.signature(if is_sha256 { SHA256 } else { SHA1 }, trace)?;
        if self.rejects_sha1 && !is_sha256 {
            trace.failed("signature", || {
                format!("only `{SHA1}`; the source has `reject_sha1 = true`")
            });
            return Err(Rejection::SignatureVersionNotAllowed);
        }
        let mut buffer = [0; MAX_SIGNATURE + 2];
        let length = STANDARD
            .decode_slice(encoded, &mut buffer)
            .map_err(|_| Rejection::MalformedSignature("it is not base64 of 1024 bytes at most"))?;
        Ok(Signature { is_sha256, buffer, length })
    }
}

/// The decoded signature of a request.
struct Signature {
    is_sha256: bool,
    buffer: [u8; MAX_SIGNATURE + 2],
    length: usize,
}

impl PublicKey {
    /// Reads PEM, or the base64 inside it.
    fn read(secret: &str) -> Option<Self> {
        let base64: String = secret
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .flat_map(str::split_whitespace)
            .collect();
        let der = STANDARD.decode(base64).ok()?;
        let sha1 = ParsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, &der);
        let sha256 = ParsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, &der);
        Some(Self { sha1: sha1.ok()?, sha256: sha256.ok()? })
    }
}
