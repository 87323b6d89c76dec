use std::borrow::Cow;
use std::net::IpAddr;

use event::Provider;
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::de::value::MapDeserializer;
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

use crate::Options;

/// The settings by which the requests of one configured source are verified.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// The name of the source; used in error messages.
    pub name: String,
    /// Every secret that is valid now, already resolved: two or more while one replaces another.
    /// Each provider's `Verifier` documents the form of that provider's secrets.
    pub secrets: Vec<SecretString>,
    /// The other keys of the `[[source]]`. Their variant decides the provider.
    pub options: Options,
}

/// The networks that requests may come from. If there are none, any address is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

impl<'de> Deserialize<'de> for Networks {
    /// Reads networks such as `192.0.2.0/24`, and single addresses.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let network = |text: &String| match text.parse::<IpAddr>() {
            Ok(address) => Ok(IpNet::from(address)),
            Err(_) => text.parse().map_err(|_| {
                D::Error::custom(format!("`{text}` is not a network such as 192.0.2.0/24"))
            }),
        };
        Vec::<String>::deserialize(from)?.iter().map(network).collect::<Result<_, _>>().map(Self)
    }
}

/// A source that cannot work as configured. Each message names the key and the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The provider needs a secret and there is none.
    #[error("source {source_name} ({provider}): `secrets` is empty; {fix}")]
    NoSecret {
        provider: Provider,
        source_name: String,
        /// What to do.
        fix: &'static str,
    },
    /// The provider does not issue secrets of this form. The message never shows the secret.
    #[error("source {source_name} ({provider}): secrets[{index}] cannot be used; {fix}")]
    BadSecret {
        provider: Provider,
        source_name: String,
        /// The position in `secrets`, from 0.
        index: usize,
        /// What to do.
        fix: &'static str,
    },
    /// An option is missing, or its value cannot be used.
    #[error("source {source_name} ({provider}): `{key}` {fix}")]
    BadOption {
        provider: Provider,
        source_name: String,
        key: Cow<'static, str>,
        /// What the value must be.
        fix: Cow<'static, str>,
    },
}

impl SourceSettings {
    /// The provider whose requests the source receives.
    pub const fn provider(&self) -> Provider {
        self.options.provider()
    }

    pub(crate) fn bad_option(&self, key: &'static str, fix: &'static str) -> SettingsError {
        let (provider, source_name) = (self.provider(), self.name.clone());
        SettingsError::BadOption { provider, source_name, key: key.into(), fix: fix.into() }
    }

    /// Converts every secret with `read`, which returns `None` for an unusable one. `fix`
    /// describes a valid secret of this provider.
    pub(crate) fn read_secrets<T>(
        &self,
        fix: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, SettingsError> {
        let (provider, name) = (self.provider(), &self.name);
        if self.secrets.is_empty() {
            return Err(SettingsError::NoSecret { provider, source_name: name.clone(), fix });
        }
        let each = |(index, secret): (usize, &SecretString)| {
            read(secret.expose_secret()).ok_or_else(|| SettingsError::BadSecret {
                provider,
                source_name: name.clone(),
                index,
                fix,
            })
        };
        self.secrets.iter().enumerate().map(each).collect()
    }
}

/// Returns a secret that is used as it is written; `None` if it is empty.
pub(crate) fn text_secret(secret: &str) -> Option<Vec<u8>> {
    (!secret.is_empty()).then(|| secret.as_bytes().to_vec())
}

/// Returns the keys of a struct that derives `Deserialize`.
pub(crate) fn keys_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut keys: &'static [&'static str] = &[];
    // The result does not matter: `Keys` has recorded the names that the struct expects.
    let _ = T::deserialize(Keys(&mut keys));
    keys
}

/// A deserializer that records the field names a struct expects, and returns an empty map.
struct Keys<'k>(&'k mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Keys<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_map(MapDeserializer::new(std::iter::empty::<(&str, &str)>()))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(provider: Provider, options: Value) -> Result<Options, String> {
        Options::read(provider, options).map_err(|error| error.to_string())
    }

    #[test]
    fn options_belong_to_one_provider() {
        let Ok(Options::Ses(ses)) = read(Provider::Ses, json!({"topics": ["arn:aws:sns:r:1:t"]}))
        else {
            panic!("SES has `topics`");
        };
        assert_eq!((ses.topics.len(), ses.signature_version), (1, None));
        let error = read(Provider::Mailgun, json!({"topics": ["arn:aws:sns:r:1:t"]})).unwrap_err();
        assert!(error.contains("`topics`") && error.contains("`tolerance_seconds`"), "{error}");
        for provider in Provider::ALL {
            assert!(read(provider, json!({})).is_ok(), "{provider}");
            assert!(read(provider, json!({"heder": "X"})).is_err(), "{provider}");
            assert_eq!(read(provider, json!({})).map(|options| options.provider()), Ok(provider));
        }
    }

    #[test]
    fn the_keys_of_a_provider_are_known() {
        assert_eq!(
            Options::keys(Provider::Mandrill),
            ["allow_ips", "public_url"],
            "in the order of the struct"
        );
        for provider in Provider::ALL {
            let keys = Options::keys(provider);
            assert!(keys.contains(&"allow_ips"), "{provider}: {keys:?}");
            let is_dated = ["sendgrid", "mailgun", "ses", "resend", "standardwebhooks", "generic"]
                .contains(&provider.as_str());
            assert_eq!(keys.contains(&"tolerance_seconds"), is_dated, "{provider}: {keys:?}");
        }
    }

    #[test]
    fn networks_may_be_single_addresses() {
        let networks = |text: &[&str]| {
            read(Provider::Postal, json!({ "allow_ips": text })).map(|o| o.allow_ips().0.clone())
        };
        assert_eq!(
            networks(&["192.0.2.0/24", "198.51.100.7", "2001:db8::1"]).unwrap(),
            ["192.0.2.0/24", "198.51.100.7/32", "2001:db8::1/128"].map(|net| net.parse().unwrap())
        );
        assert!(networks(&["example.com"]).unwrap_err().contains("`example.com`"));
    }
}
