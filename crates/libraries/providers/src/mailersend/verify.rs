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

    /// Checks what needs no body.
    pub(crate) fn check_head(&self, request: &ReceivedRequest<'_>) -> Result<(), Rejection> {
        tag(request, &mut Trace::off()).map(drop)
    }

    pub(crate) fn verify(
        &self,
        request: &ReceivedRequest<'_>,
        _: &FindCertificate<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Rejection> {
        let tag = tag(request, trace)?;
        trace.signed(&[request.body]);
        let key = self.0.find(&[request.body], &tag);
        trace.key(key, self.0.count());
        trace.undated();
        key.map(Verified::by).ok_or(Rejection::WrongSignature)
    }
}

fn tag(request: &ReceivedRequest<'_>, trace: &mut Trace) -> Result<mac::Tag, Rejection> {
    /// The length of an HMAC-SHA256.
    const TAG_BYTES: usize = 32;
    mac::Tag::from_hex(request.signature("signature", trace)?)
        .filter(|tag| tag.len() == TAG_BYTES)
        .ok_or(Rejection::MalformedSignature("it is not hexadecimal of 32 bytes"))
}
