use super::Options;
use super::split::FIELD;
use crate::mac::{self, Algorithm};
use crate::settings::text_secret;
use crate::{
    FindCertificate, ReceivedRequest, Rejection, SettingsError, SourceSettings, Trace, Verified,
    form,
};

/// Mandrill signs with this key the request that it sends before the webhook has a key.
const REGISTRATION_KEY: &str = "test-webhook";
/// The form has one field. A few more are accepted, because the signature would cover them.
const MAX_FIELDS: usize = 16;
/// The length of an HMAC-SHA1.
const TAG_BYTES: usize = 20;

/// Verifies the base64 HMAC-SHA1 of the webhook's configured URL, followed by the name and the
/// decoded value of each field, ordered by name. It covers no time. Secrets are webhook keys.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: mac::Keys,
    registration: mac::Keys,
    url: String,
}

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings, options: &Options) -> Result<Self, SettingsError> {
        let fix = "give the webhook's key from Mandrill's webhook settings";
        let secrets = settings.read_secrets(fix, text_secret)?;
        let url = options.public_url.clone().filter(|url| url.starts_with("http"));
        Ok(Self {
            keys: mac::Keys::new(Algorithm::Sha1, &secrets),
            registration: mac::Keys::new(Algorithm::Sha1, &[REGISTRATION_KEY]),
            url: url.ok_or_else(|| {
                let fix = "must be the webhook's URL, character for character as configured at \
                           Mandrill";
                settings.bad_option("public_url", fix)
            })?,
        })
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
        let mut fields = form::at_most(request.body, MAX_FIELDS).ok_or(
            Rejection::MalformedSignature("the form that it covers has more than 16 fields"),
        )?;
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut parts = Vec::with_capacity(1 + 2 * fields.len());
        parts.push(self.url.as_bytes());
        for (name, value) in &fields {
            parts.extend([&**name, &**value]);
        }
        trace.signed(&parts);
        let is_ping =
            || matches!(&fields[..], [(name, value)] if **name == *FIELD && **value == *b"[]");
        let key = self.keys.find(&parts, &tag);
        if key.is_none() && is_ping() && self.registration.find(&parts, &tag).is_some() {
            trace.passed("key", || {
                format!("`{REGISTRATION_KEY}`, which is accepted for an empty ping only")
            });
            return Ok(Verified::default());
        }
        trace.key(key, self.keys.count());
        trace.undated();
        key.map(Verified::by).ok_or(Rejection::WrongSignature)
    }
}

fn tag(request: &ReceivedRequest<'_>, trace: &mut Trace) -> Result<mac::Tag, Rejection> {
    mac::Tag::from_base64(request.signature("x-mandrill-signature", trace)?)
        .filter(|tag| tag.len() == TAG_BYTES)
        .ok_or(Rejection::MalformedSignature("it is not base64 of 20 bytes"))
}
