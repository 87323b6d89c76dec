use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use event::Provider;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// What one configured source needs to authenticate its provider. Secrets are resolved already.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// Whose webhooks these are.
    pub provider: Provider,
    /// The source's name, unique under its provider; used in messages.
    pub name: String,
    /// Every secret that is good now: two or more while one is being replaced.
    ///
    /// SendGrid: public keys, base64 of a DER SubjectPublicKeyInfo. Mailgun: webhook signing keys.
    /// Postmark: `user:password`, or the value of [`Options::header`]. Mandrill: webhook keys.
    /// Generic: HMAC keys. SES: none.
    pub secrets: Vec<SecretString>,
    /// The rest.
    pub options: Options,
}

/// How a source's requests are authenticated, beyond its secrets. Every key is optional; one that
/// the provider has no use for is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Mandrill: the webhook URL exactly as configured there, which is part of what is signed.
    pub public_url: Option<String>,
    /// SES: the TopicArns whose messages are taken.
    pub topics: Vec<String>,
    /// SES: 2 refuses messages signed with SHA-1 (signature version 1).
    pub signature_version: Option<u8>,
    /// Greatest distance in seconds between the signed time and now, either way. SendGrid,
    /// Mailgun, SES (not checked unless set) and generic.
    pub tolerance_seconds: Option<u64>,
    /// Generic: the header that carries the signature. Postmark: the header that carries the
    /// secret, in place of HTTP basic authentication.
    pub header: Option<String>,
    /// Generic: the header that carries the signed unix time in seconds.
    pub timestamp_header: Option<String>,
    /// Generic: what stands before the signature in its header; by default the algorithm and `=`,
    /// such as `sha256=`.
    pub prefix: Option<String>,
    /// Generic: how the signature is written.
    pub encoding: Option<Encoding>,
    /// Generic: what is signed.
    pub signed: Option<Signed>,
    /// Generic: the hash of the HMAC.
    pub algorithm: Option<Algorithm>,
    /// Generic: how the secrets are written.
    pub secret_encoding: Option<SecretEncoding>,
}

/// How a signature is written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal, either case.
    #[default]
    Hex,
    /// Standard base64, padded.
    Base64,
}

/// Which bytes are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Signed {
    /// The body alone. Nothing in it says when, so a captured request stays good for ever.
    #[serde(rename = "body")]
    Body,
    /// The timestamp header's value, a full stop, and the body.
    #[default]
    #[serde(rename = "timestamp.body")]
    TimestampBody,
}

/// The hash of a generic HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-1: for senders that have nothing better.
    Sha1,
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name in settings and in the default prefix.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

/// How a secret is written in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretEncoding {
    /// The key is the text itself.
    #[default]
    Raw,
    /// The key is the decoded hexadecimal text.
    Hex,
    /// The key is the decoded base64 text.
    Base64,
}

/// A source that cannot work as configured. Each message names the key and the mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No secret, where the provider needs one.
    #[error("source {source_name} ({provider}): `secrets` is empty; {mend}")]
    NoSecret {
        /// Whose source it is.
        provider: Provider,
        /// Which source.
        source_name: String,
        /// What to put there.
        mend: &'static str,
    },
    /// A secret that cannot be what the provider issues. Its value is never shown.
    #[error("source {source_name} ({provider}): secrets[{index}] cannot be used; {mend}")]
    BadSecret {
        /// Whose source it is.
        provider: Provider,
        /// Which source.
        source_name: String,
        /// Which of its secrets, from 0.
        index: usize,
        /// What it should be.
        mend: &'static str,
    },
    /// An option that is missing or has a value that makes no sense.
    #[error("source {source_name} ({provider}): `{key}` {mend}")]
    BadOption {
        /// Whose source it is.
        provider: Provider,
        /// Which source.
        source_name: String,
        /// The key at fault.
        key: &'static str,
        /// What it should be.
        mend: &'static str,
    },
}

impl SourceSettings {
    pub(crate) fn bad_option(&self, key: &'static str, mend: &'static str) -> SettingsError {
        let (provider, source_name) = (self.provider, self.name.clone());
        SettingsError::BadOption { provider, source_name, key, mend }
    }

    /// Every secret as `prepare` makes it; `mend` says what a secret of this provider looks like.
    pub(crate) fn prepared<T>(
        &self,
        mend: &'static str,
        prepare: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, SettingsError> {
        let (provider, name) = (self.provider, &self.name);
        if self.secrets.is_empty() {
            return Err(SettingsError::NoSecret { provider, source_name: name.clone(), mend });
        }
        let each = |(index, secret): (usize, &SecretString)| {
            prepare(secret.expose_secret()).ok_or_else(|| SettingsError::BadSecret {
                provider,
                source_name: name.clone(),
                index,
                mend,
            })
        };
        self.secrets.iter().enumerate().map(each).collect()
    }

    /// Refuses options that the provider has no use for: they are a misunderstanding, and a
    /// misunderstanding about authentication should not start.
    pub(crate) fn check_options(&self) -> Result<(), SettingsError> {
        use Provider::{Generic, Mailgun, Mandrill, Postmark, SendGrid, Ses};
        let given = &self.options;
        let rules: [(&'static str, bool, &[Provider]); 11] = [
            ("public_url", given.public_url.is_some(), &[Mandrill]),
            ("topics", !given.topics.is_empty(), &[Ses]),
            ("signature_version", given.signature_version.is_some(), &[Ses]),
            (
                "tolerance_seconds",
                given.tolerance_seconds.is_some(),
                &[SendGrid, Mailgun, Ses, Generic],
            ),
            ("header", given.header.is_some(), &[Generic, Postmark]),
            ("timestamp_header", given.timestamp_header.is_some(), &[Generic]),
            ("prefix", given.prefix.is_some(), &[Generic]),
            ("encoding", given.encoding.is_some(), &[Generic]),
            ("signed", given.signed.is_some(), &[Generic]),
            ("algorithm", given.algorithm.is_some(), &[Generic]),
            ("secret_encoding", given.secret_encoding.is_some(), &[Generic]),
        ];
        let misplaced =
            rules.iter().find(|(_, given, users)| *given && !users.contains(&self.provider));
        match misplaced {
            Some((key, ..)) => Err(self.bad_option(key, "means nothing here: remove it")),
            None => Ok(()),
        }
    }
}

impl SecretEncoding {
    /// The key's bytes; `None` when the text is not in this encoding, or is empty.
    pub(crate) fn decode(self, secret: &str) -> Option<Vec<u8>> {
        let key = match self {
            Self::Raw => secret.as_bytes().to_vec(),
            Self::Hex => hex::decode(secret).ok()?,
            Self::Base64 => STANDARD.decode(secret).ok()?,
        };
        (!key.is_empty()).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_the_names_of_the_settings_file() {
        let options: Options = serde_json::from_str(
            r#"{"header":"X-Signature","timestamp_header":"X-Timestamp","prefix":"v1=",
                "encoding":"base64","signed":"timestamp.body","algorithm":"sha512",
                "secret_encoding":"hex","tolerance_seconds":300}"#,
        )
        .unwrap();
        assert_eq!(options.encoding, Some(Encoding::Base64));
        assert_eq!(options.signed, Some(Signed::TimestampBody));
        assert_eq!(options.algorithm, Some(Algorithm::Sha512));
        assert_eq!(options.secret_encoding, Some(SecretEncoding::Hex));
        assert_eq!(serde_json::from_str::<Options>("{}").unwrap(), Options::default());
        assert!(serde_json::from_str::<Options>(r#"{"topic":"x"}"#).is_err());
    }

    #[test]
    fn secrets_decode_as_told_and_are_never_empty() {
        assert_eq!(SecretEncoding::Raw.decode("6b"), Some(b"6b".to_vec()));
        assert_eq!(SecretEncoding::Hex.decode("6b"), Some(b"k".to_vec()));
        assert_eq!(SecretEncoding::Base64.decode("aw=="), Some(b"k".to_vec()));
        assert_eq!(SecretEncoding::Hex.decode("6"), None);
        for encoding in [SecretEncoding::Raw, SecretEncoding::Hex, SecretEncoding::Base64] {
            assert_eq!(encoding.decode(""), None);
        }
    }
}
