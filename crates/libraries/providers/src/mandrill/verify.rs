use super::split::FIELD;
use crate::examine::Trace;
use crate::{Algorithm, Received, Refusal, SettingsError, SourceSettings, Verified, form, mac};

/// What the request is signed with that Mandrill sends before the webhook has a key.
const REGISTRATION_KEY: &str = "test-webhook";

/// Base64 of HMAC-SHA1 over the webhook's configured URL, then the name and the decoded value of
/// each field in the order of the names. Nothing in it says when.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: mac::Keys,
    registration: mac::Keys,
    url: String,
}

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings) -> Result<Self, SettingsError> {
        let mend = "give the webhook's key from Mandrill's webhook settings";
        let secrets = settings
            .prepared(mend, |secret| (!secret.is_empty()).then(|| secret.as_bytes().to_vec()))?;
        let url = settings.options.public_url.clone().filter(|url| url.starts_with("http"));
        Ok(Self {
            keys: mac::Keys::new(Algorithm::Sha1, &secrets),
            registration: mac::Keys::new(Algorithm::Sha1, &[REGISTRATION_KEY]),
            url: url.ok_or_else(|| {
                settings.bad_option(
                    "public_url",
                    "must be the webhook's URL, letter for letter as configured at Mandrill",
                )
            })?,
        })
    }

    pub(crate) fn verify(
        &self,
        received: &Received<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Refusal> {
        let header = received.signature("x-mandrill-signature", trace)?;
        let tag = mac::Tag::from_base64(header)
            .ok_or(Refusal::MalformedSignature("it is not base64 of 20 bytes"))?;
        let mut fields: Vec<_> = form::fields(received.body).collect();
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
            trace.passed("key", || format!("`{REGISTRATION_KEY}`, good for an empty ping alone"));
            return Ok(Verified::default());
        }
        trace.key(key, self.keys.count());
        trace.undated();
        key.map(Verified::by).ok_or(Refusal::WrongSignature)
    }
}
