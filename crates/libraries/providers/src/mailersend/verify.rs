use super::Options;
use crate::mac::{self, Algorithm};
use crate::settings::text_secret;
use crate::{
    FindCertificate, ReceivedRequest, Rejection, SettingsError, SourceSettings, Trace, Verified,
};

/// Verifies the hexadecimal HMAC-SHA256 of the body. It covers no time. Secrets are signing
/// secrets.
#[derive(Debug)]
pub(crate) struct Verifier(mac::Keys);

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings, _: &Options) -> Result<Self, SettingsError> {
        let fix = "give the webhook's signing secret from MailerSend's webhook settings";
        let secrets = settings.read_secrets(fix, text_secret)?;
        Ok(Self(mac::Keys::new(Algorithm::Sha256, &secrets)))
    }

    pub(crate) fn verify(
        &self,
        request: &ReceivedRequest<'_>,
        _: &FindCertificate<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Rejection> {
        let header = request.signature("signature", trace)?;
        let tag = mac::Tag::from_hex(header)
            .ok_or(Rejection::MalformedSignature("it is not hexadecimal of 32 bytes"))?;
        trace.signed(&[request.body]);
        let key = self.0.find(&[request.body], &tag);
        trace.key(key, self.0.count());
        trace.undated();
        key.map(Verified::by).ok_or(Rejection::WrongSignature)
    }
}
