//! Finds the mailbox provider behind a mail exchanger by its host name.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::OpenError;

const TABLE: &str = include_str!("../data/mx_hosts.toml");
/// The name of the data file in error messages.
const NAME: &str = "mx_hosts.toml";

/// The suffixes of host names of the mailbox providers, the longest first.
pub(crate) struct MxHosts(Vec<Pattern>);

struct Pattern {
    /// The labels of the suffix, from last to first. `*` matches any label.
    labels: Vec<String>,
    provider: String,
}

impl MxHosts {
    /// Reads the built-in table.
    pub(crate) fn load() -> Result<Self, OpenError> {
        Self::parse(TABLE)
    }

    fn parse(table: &str) -> Result<Self, OpenError> {
        let table: BTreeMap<String, Vec<String>> =
            toml::from_str(table).map_err(|error| OpenError::built_in(NAME, error))?;
        let mut patterns: Vec<Pattern> = Vec::new();
        for (provider, suffixes) in table {
            for suffix in suffixes {
                let labels: Vec<String> = suffix.rsplit('.').map(str::to_owned).collect();
                if patterns.iter().any(|pattern| pattern.labels == labels) {
                    return Err(OpenError::built_in(
                        NAME,
                        format_args!("{suffix} is listed twice"),
                    ));
                }
                patterns.push(Pattern { labels, provider: provider.clone() });
            }
        }
        patterns.sort_by_key(|pattern| Reverse(pattern.labels.len()));
        Ok(Self(patterns))
    }

    /// Returns the stable name of the mailbox provider. `host` must be lower case; a trailing dot
    /// is allowed.
    pub(crate) fn of_host(&self, host: &str) -> Option<&str> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let found = self.0.iter().find(|pattern| {
            let mut labels = host.rsplit('.');
            pattern.labels.iter().all(|wanted| {
                labels
                    .next()
                    .is_some_and(|label| !label.is_empty() && (wanted == "*" || label == wanted))
            })
        })?;
        Some(&found.provider)
    }

    /// True if a mailbox provider has this name.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.provider == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_recognised_by_their_suffixes() {
        let hosts = MxHosts::load().unwrap();
        let cases = [
            ("aspmx.l.google.com.", Some("google_workspace")),
            ("alt1.aspmx.l.google.com", Some("google_workspace")),
            ("example-com.mail.protection.outlook.com.", Some("microsoft_365")),
            ("example-com.olc.protection.outlook.com.", Some("outlook")),
            ("mx1-us1.ppe-hosted.com", Some("proofpoint")),
            ("inbound-smtp.eu-west-1.amazonaws.com", Some("amazon_workmail")),
            ("inbound-smtp.amazonaws.com", None),
            ("notgoogle.com", None),
            ("mx.example.com.", None),
            ("com", None),
            (".", None),
            ("", None),
        ];
        for (host, provider) in cases {
            assert_eq!(hosts.of_host(host), provider, "{host}");
        }
    }

    #[test]
    fn the_longest_suffix_decides_and_a_repeated_suffix_is_rejected() {
        let table = "a = [\"example.net\"]\nb = [\"mx.example.net\"]\nc = [\"example.org\"]";
        let hosts = MxHosts::parse(table).unwrap();
        assert_eq!(hosts.of_host("one.mx.example.net"), Some("b"));
        assert_eq!(hosts.of_host("one.example.net"), Some("a"));
        let twice = format!("{table}\nd = [\"example.org\"]");
        assert!(MxHosts::parse(&twice).is_err());
    }

    #[test]
    fn the_built_in_table_is_well_formed() {
        for pattern in MxHosts::load().unwrap().0 {
            assert!(pattern.labels.len() > 1, "{:?}", pattern.labels);
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            assert!(pattern.provider.bytes().all(plain), "{}", pattern.provider);
            for label in &pattern.labels {
                assert!(!label.is_empty() && *label == label.to_ascii_lowercase(), "{label}");
            }
        }
    }
}
