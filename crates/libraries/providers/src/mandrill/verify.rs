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

    pub(crate) fn verify(
        &self,
        request: &ReceivedRequest<'_>,
        _: &FindCertificate<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Rejection> {
        let header = request.signature("x-mandrill-signature", trace)?;
        let tag = mac::Tag::from_base64(header)
            .ok_or(Rejection::MalformedSignature("it is not base64 of 20 bytes"))?;
        let mut fields: Vec<_> = form::fields(request.body).collect();
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
