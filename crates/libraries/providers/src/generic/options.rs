use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::template::Template;
use crate::Networks;
use crate::mac::Algorithm;

/// How the sender signs. [`super::Verifier`] has the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    pub allow_ips: Networks,
    /// The greatest accepted distance in seconds between the signed time and now.
    pub tolerance_seconds: Option<u64>,
    /// The header of the signature.
    pub header: Option<String>,
    /// The header of the signed unix time.
    pub timestamp_header: Option<String>,
    pub timestamp_unit: Option<TimeUnit>,
    /// The header of the signed id.
    pub id_header: Option<String>,
    /// What precedes the signature in its header. The default is the algorithm and `=`, such as
    /// `sha256=`.
    pub prefix: Option<String>,
    /// The encoding of the signature.
    pub encoding: Option<Encoding>,
    /// The template of the signed bytes.
    pub signed: Option<Template>,
    pub algorithm: Option<Algorithm>,
    pub secret_encoding: Option<SecretEncoding>,
    /// A JSON pointer to the time inside the signed body that is compared with now.
    pub timestamp: Option<String>,
    /// A JSON pointer to the list of events, or to the only event.
    pub events: Option<String>,
    /// JSON pointers from an event to its fields, by the name of the field.
    pub fields: BTreeMap<String, String>,
    /// The sender's names of events, and our kinds.
    pub kinds: BTreeMap<String, String>,
}

/// The encoding of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal, in either case.
    #[default]
    Hex,
    /// Standard base64 with padding.
    Base64,
}

/// The unit of a signed unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    #[default]
    Seconds,
    Milliseconds,
}

/// The encoding of a secret in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretEncoding {
    /// The text itself is the key.
    #[default]
    Raw,
    Hex,
    Base64,
}

impl SecretEncoding {
    /// Returns the key; `None` if the text is not in this encoding or is empty.
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
                "timestamp_unit":"milliseconds","id_header":"X-Id",
                "secret_encoding":"hex","tolerance_seconds":300}"#,
        )
        .unwrap();
        assert_eq!(options.encoding, Some(Encoding::Base64));
        assert_eq!(options.signed, Some(Template::default()));
        assert_eq!(options.algorithm, Some(Algorithm::Sha512));
        assert_eq!(options.timestamp_unit, Some(TimeUnit::Milliseconds));
        assert_eq!(options.secret_encoding, Some(SecretEncoding::Hex));
        assert_eq!(serde_json::from_str::<Options>("{}").unwrap(), Options::default());
        assert!(serde_json::from_str::<Options>(r#"{"topic":"x"}"#).is_err());
    }

    #[test]
    fn secrets_are_decoded_and_never_empty() {
        assert_eq!(SecretEncoding::Raw.decode("6b"), Some(b"6b".to_vec()));
        assert_eq!(SecretEncoding::Hex.decode("6b"), Some(b"k".to_vec()));
        assert_eq!(SecretEncoding::Base64.decode("aw=="), Some(b"k".to_vec()));
        assert_eq!(SecretEncoding::Hex.decode("6"), None);
        for encoding in [SecretEncoding::Raw, SecretEncoding::Hex, SecretEncoding::Base64] {
            assert_eq!(encoding.decode(""), None);
        }
    }
}
