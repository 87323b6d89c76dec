//! Who runs a recipient's mailbox, from the domain of the address.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, ensure};

/// Built in; the data is reviewed like code.
const TABLE: &str = include_str!("../data/mailbox_providers.toml");

/// What a domain that is not in the table belongs to.
pub(crate) const OTHER: &str = "other";

/// Mailbox providers by domain.
pub(crate) struct MailboxProviders(HashMap<String, String>);

impl MailboxProviders {
    /// Reads the built-in table.
    pub(crate) fn load() -> anyhow::Result<Self> {
        let table: BTreeMap<String, Vec<String>> =
            toml::from_str(TABLE).context("mailbox_providers.toml")?;
        let mut by_domain = HashMap::new();
        for (name, domains) in table {
            for domain in domains {
                let former = by_domain.insert(domain.clone(), name.clone());
                ensure!(former.is_none(), "{domain} is in mailbox_providers.toml twice");
            }
        }
        Ok(Self(by_domain))
    }

    /// The provider's stable name; `other` when the domain is not a known consumer domain.
    /// `domain` is lower-case.
    pub(crate) fn of_domain(&self, domain: &str) -> &str {
        self.0.get(domain).map_or(OTHER, String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_belong_to_one_provider_each() {
        let providers = MailboxProviders::load().unwrap();
        assert_eq!(providers.of_domain("googlemail.com"), "gmail");
        assert_eq!(providers.of_domain("hotmail.co.uk"), "outlook");
        assert_eq!(providers.of_domain("mail.gmail.com.example.org"), OTHER);
        for (domain, name) in &providers.0 {
            assert_eq!(domain, &domain.to_ascii_lowercase());
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        }
    }
}
