use aws_lc_rs::signature::{
    ParsedPublicKey, RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::examine::Trace;
use crate::{Received, Refusal, SettingsError, SourceSettings, Verified};

const SHA1: &str = "x-postal-signature";
const SHA256: &str = "x-postal-signature-256";
const KEY_ID: &str = "x-postal-signature-kid";
/// The signature of the longest RSA key we take, 8192 bits.
const LONGEST_SIGNATURE: usize = 1024;

/// RSA PKCS#1 v1.5 over the body, in base64; the key is the installation's. Its default length is
/// 1024 bits, which is why such short ones are taken here. Nothing in it says when.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: Vec<PublicKey>,
}

/// One key for either hash.
#[derive(Debug)]
struct PublicKey {
    sha1: ParsedPublicKey,
    sha256: ParsedPublicKey,
}

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings) -> Result<Self, SettingsError> {
        let mend = "give the public key of the installation's signing key, in PEM or as the one \
                    line of base64 that `postal default-dkim-record` shows after `p=`";
        Ok(Self { keys: settings.prepared(mend, PublicKey::read)? })
    }

    pub(crate) fn verify(
        &self,
        received: &Received<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Refusal> {
        // Releases before 3 sign with SHA-1 alone. Where there is the better one it decides: a
        // forger cannot fall back by breaking it.
        let is_sha256 = received.headers.contains_key(SHA256);
        let encoded = received.signature(if is_sha256 { SHA256 } else { SHA1 }, trace)?;
        let mut buffer = [0; LONGEST_SIGNATURE + 2];
        let length = STANDARD
            .decode_slice(encoded, &mut buffer)
            .map_err(|_| Refusal::MalformedSignature("it is not base64 of 1024 bytes at most"))?;
        if let Some(id) = received.header(KEY_ID) {
            trace.skipped("key id", || format!("the installation names its key {id}"));
        }
        trace.signed(&[received.body]);
        let signature = &buffer[..length];
        let key = self.keys.iter().position(|key| {
            let key = if is_sha256 { &key.sha256 } else { &key.sha1 };
            key.verify_sig(received.body, signature).is_ok()
        });
        trace.key(key, self.keys.len());
        trace.undated();
        key.map(Verified::by).ok_or(Refusal::WrongSignature)
    }
}

impl PublicKey {
    /// From PEM, or base64 of the DER inside it.
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
