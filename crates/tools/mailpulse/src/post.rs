//! Test events, posted to an ingress as their provider would post them. `send` and `load` use it.

mod body;
mod client;
mod mapped;
mod test_event;

use event::Provider;
use testkit::MailEvent;
use testkit::signers::SignedBody;

pub(crate) use client::{Answer, Client, local_ingress};
pub(crate) use test_event::{RECIPIENT, TestEvent, load_recipient};

use crate::args::{Scheme, SignWith};
use crate::configured::ConfiguredSource;
use crate::sign::{Signing, sign};
use crate::{InputError, input};

/// A configured source, with the keys to post as its provider.
pub(crate) struct Poster {
    source: ConfiguredSource,
    scheme: Scheme,
    key_id: String,
    /// Texts of keys that sign. Empty if the source accepts requests without credentials.
    secrets: Vec<String>,
}

impl Poster {
    /// Takes the secrets of the source, or those in files if they are given.
    ///
    /// # Errors
    /// If there is no secret with which requests can be signed.
    pub(crate) fn new(source: ConfiguredSource, with: &SignWith) -> Result<Self, InputError> {
        let files: Vec<String> = with
            .secret_files
            .iter()
            .map(|path| input::read_secret(path))
            .collect::<Result<_, _>>()?;
        let secrets = if files.is_empty() { signing_secrets(&source)? } else { files };
        let scheme = Scheme::of_source(&source.options);
        Ok(Self { source, scheme, key_id: with.key_id.clone(), secrets })
    }

    pub(crate) const fn source(&self) -> &ConfiguredSource {
        &self.source
    }

    /// Returns the signed request of an event. `now` is in unix seconds.
    ///
    /// # Errors
    /// If the provider reports no such event, or the event cannot be signed.
    pub(crate) fn request(&self, event: &MailEvent, now: i64) -> Result<SignedBody, InputError> {
        let body = body::of(&self.source, event)?;
        if self.secrets.is_empty() {
            let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
            return Ok(SignedBody { headers, body: body.into() });
        }
        let signing = Signing {
            provider: self.source.provider,
            scheme: &self.scheme,
            key_id: &self.key_id,
            secrets: &self.secrets,
        };
        sign(signing, body.into_bytes(), now)
    }
}

/// Returns the secrets of the configuration that can sign.
fn signing_secrets(source: &ConfiguredSource) -> Result<Vec<String>, InputError> {
    let label = source.label();
    if matches!(source.provider, Provider::SendGrid | Provider::Postal | Provider::Ses) {
        let text = format!(
            "only the provider can sign for {label}: its configuration has a key that verifies. To test, add a key \
             of your own to the secrets of the source (`mailpulse sign --provider {} --generate-key keys/`), and give \
             the private key with --secret-file",
            source.provider
        );
        return Err(InputError(text));
    }
    let unresolved = |error| InputError(format!("a secret of source {label}: {error}"));
    let secrets: Vec<String> = source.secrets().collect::<Result<_, _>>().map_err(unresolved)?;
    let has_no_secret = secrets.is_empty();
    // `whpk_` is a public key.
    let signing: Vec<String> =
        secrets.into_iter().filter(|secret| !secret.starts_with("whpk_")).collect();
    if has_no_secret && is_without_signature(source.provider) {
        return Ok(signing);
    }
    if signing.is_empty() {
        let text = format!("source {label} has no secret that signs; give one with --secret-file");
        return Err(InputError(text));
    }
    Ok(signing)
}

/// Returns whether a source of this provider may accept requests without secrets.
const fn is_without_signature(provider: Provider) -> bool {
    matches!(
        provider,
        Provider::Postmark | Provider::SparkPost | Provider::Brevo | Provider::Mailjet
    )
}

#[cfg(test)]
mod tests;
