use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use event::Provider;
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::Signed;

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
    /// Mandrill: webhook keys. Generic: HMAC keys. Resend and Standard Webhooks: `whsec_` secrets,
    /// or `whpk_` public keys. MailerSend: signing secrets. Postal: public keys, PEM or base64 of
    /// DER. SES: none, or certificates in PEM, which are then the only ones taken. Postmark,
    /// SparkPost, Brevo and Mailjet: what [`Options::scheme`] or [`Options::header`] asks for.
    pub secrets: Vec<SecretString>,
    /// The rest.
    pub options: Options,
}

/// How a source's requests are authenticated, beyond its secrets. Every key is optional; one that
/// the provider has no use for is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The networks that requests may come from, such as `192.0.2.0/24`, or single addresses; empty
    /// for any.
    #[serde(deserialize_with = "networks")]
    pub allow_ips: Vec<IpNet>,
    /// Postmark, SparkPost, Brevo and Mailjet: take requests with neither secrets nor `allow_ips`.
    pub unverified: bool,
    /// Mandrill: the webhook URL exactly as configured there, which is part of what is signed.
    pub public_url: Option<String>,
    /// SES: the TopicArns whose messages are taken.
    pub topics: Vec<String>,
    /// SES: 2 refuses messages signed with SHA-1 (signature version 1).
    pub signature_version: Option<u8>,
    /// Greatest distance in seconds between the signed time and now, either way. SendGrid,
    /// Mailgun, SES (not checked unless set), Resend, Standard Webhooks and generic.
    pub tolerance_seconds: Option<u64>,
    /// Generic: the header that carries the signature. Postmark, SparkPost, Brevo and Mailjet: the
    /// header that carries the secret, in place of `Authorization`.
    pub header: Option<String>,
    /// Postmark, SparkPost, Brevo and Mailjet: how the secret stands in `Authorization`.
    pub scheme: Option<Scheme>,
    /// Generic: the header that carries the signed unix time.
    pub timestamp_header: Option<String>,
    /// Generic: the unit of that time.
    pub timestamp_unit: Option<TimeUnit>,
    /// Generic: the header that carries the signed id.
    pub id_header: Option<String>,
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

/// Networks, among which a single address is one of its own.
fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    let written: Vec<String> = Vec::deserialize(from)?;
    let network = |text: &String| match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => text
            .parse()
            .map_err(|_| D::Error::custom(format!("`{text}` is no network such as 192.0.2.0/24"))),
    };
    written.iter().map(network).collect()
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

/// How the secret of a source without signatures stands in `Authorization`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HTTP basic authentication (RFC 7617); the secret is `user:password`.
    #[default]
    Basic,
    /// A bearer token (RFC 6750).
    Bearer,
}

/// The unit of a signed unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Seconds.
    #[default]
    Seconds,
    /// Milliseconds.
    Milliseconds,
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
        use Provider::{
            Brevo, Generic, Mailgun, Mailjet, Mandrill, Postmark, Resend, SendGrid, Ses, SparkPost,
            StandardWebhooks,
        };
        const DATED: &[Provider] = &[SendGrid, Mailgun, Ses, Resend, StandardWebhooks, Generic];
        const UNSIGNED: &[Provider] = &[Postmark, SparkPost, Brevo, Mailjet];
        let given = &self.options;
        let in_header = given.header.is_some();
        let rules: [(&'static str, bool, &[Provider]); 15] = [
            ("unverified", given.unverified, UNSIGNED),
            ("public_url", given.public_url.is_some(), &[Mandrill]),
            ("topics", !given.topics.is_empty(), &[Ses]),
            ("signature_version", given.signature_version.is_some(), &[Ses]),
            ("tolerance_seconds", given.tolerance_seconds.is_some(), DATED),
            ("header", in_header, &[Generic, Postmark, SparkPost, Brevo, Mailjet]),
            ("scheme", given.scheme.is_some(), UNSIGNED),
            ("timestamp_header", given.timestamp_header.is_some(), &[Generic]),
            ("timestamp_unit", given.timestamp_unit.is_some(), &[Generic]),
            ("id_header", given.id_header.is_some(), &[Generic]),
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
        assert_eq!(options.signed, Some(Signed::default()));
        assert_eq!(options.algorithm, Some(Algorithm::Sha512));
        assert_eq!(options.secret_encoding, Some(SecretEncoding::Hex));
        assert_eq!(serde_json::from_str::<Options>("{}").unwrap(), Options::default());
        assert!(serde_json::from_str::<Options>(r#"{"topic":"x"}"#).is_err());
        let options: Options = serde_json::from_str(
            r#"{"allow_ips":["192.0.2.0/24","198.51.100.7","2001:db8::1"],"scheme":"bearer",
                "timestamp_unit":"milliseconds","id_header":"X-Id","unverified":true}"#,
        )
        .unwrap();
        let networks = ["192.0.2.0/24", "198.51.100.7/32", "2001:db8::1/128"];
        assert_eq!(options.allow_ips, networks.map(|network| network.parse().unwrap()));
        assert_eq!(options.timestamp_unit, Some(TimeUnit::Milliseconds));
        assert_eq!(options.scheme, Some(Scheme::Bearer));
        assert!(serde_json::from_str::<Options>(r#"{"allow_ips":["example.com"]}"#).is_err());
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
