//! Finds the mailbox provider of a recipient by the domain of the address.

use std::collections::{BTreeMap, HashMap};

use crate::OpenError;

const TABLE: &str = include_str!("../data/mailbox_providers.toml");
/// The name of the data file in error messages.
const NAME: &str = "mailbox_providers.toml";

/// The mailbox provider of domains that are in no table.
pub(crate) const OTHER: &str = "other";

/// Mailbox providers by domain.
pub(crate) struct MailboxProviders(HashMap<String, String>);

impl MailboxProviders {
    /// Reads the built-in table.
    pub(crate) fn load() -> Result<Self, OpenError> {
        let table: BTreeMap<String, Vec<String>> =
            toml::from_str(TABLE).map_err(|error| OpenError::built_in(NAME, error))?;
        let mut by_domain = HashMap::new();
        for (name, domains) in table {
            for domain in domains {
                let former = by_domain.insert(domain.clone(), name.clone());
                if former.is_some() {
                    return Err(OpenError::built_in(
                        NAME,
                        format_args!("{domain} is listed twice"),
                    ));
                }
            }
        }
        Ok(Self(by_domain))
    }

    /// Returns the stable name of the mailbox provider; `None` if the domain is not in the table.
    /// `domain` must be lower case.
    pub(crate) fn of_domain(&self, domain: &str) -> Option<&str> {
        self.0.get(domain).map(String::as_str)
    }

    /// True if a mailbox provider has this name.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.0.values().any(|known| known == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_domain_belongs_to_one_mailbox_provider() {
        let providers = MailboxProviders::load().unwrap();
        for (domain, name) in [
            ("googlemail.com", Some("gmail")),
            ("hotmail.co.uk", Some("outlook")),
            ("aol.com", Some("yahoo")),
            ("icloud.com", Some("apple")),
            ("web.de", Some("gmx")),
            ("bk.ru", Some("mail_ru")),
            ("126.com", Some("netease")),
            ("laposte.net", Some("laposte")),
            ("o2.pl", Some("wp")),
            ("mail.gmail.com.example.org", None),
            ("", None),
        ] {
            assert_eq!(providers.of_domain(domain), name, "{domain}");
        }
        for (domain, name) in &providers.0 {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
            assert!(domain.bytes().all(plain) && domain.contains('.'), "{domain}");
            let stable = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            assert!(name.bytes().all(stable) && name != OTHER, "{name}");
        }
    }
}
