use crate::examine::Trace;
use crate::{Algorithm, Received, Refusal, SettingsError, SourceSettings, Verified, mac};

/// Hexadecimal of HMAC-SHA256 over the body. Nothing in it says when.
#[derive(Debug)]
pub(crate) struct Verifier(mac::Keys);

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings) -> Result<Self, SettingsError> {
        let mend = "give the webhook's signing secret from MailerSend's webhook settings";
        let secrets = settings
            .prepared(mend, |secret| (!secret.is_empty()).then(|| secret.as_bytes().to_vec()))?;
        Ok(Self(mac::Keys::new(Algorithm::Sha256, &secrets)))
    }

    pub(crate) fn verify(
        &self,
        received: &Received<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Refusal> {
        let header = received.signature("signature", trace)?;
        let tag = mac::Tag::from_hex(header)
            .ok_or(Refusal::MalformedSignature("it is not hexadecimal of 32 bytes"))?;
        trace.signed(&[received.body]);
        let key = self.0.find(&[received.body], &tag);
        trace.key(key, self.0.count());
        trace.undated();
        key.map(Verified::by).ok_or(Refusal::WrongSignature)
    }
}
