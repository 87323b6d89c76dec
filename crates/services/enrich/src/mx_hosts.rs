//! Who runs the mailboxes behind a mail exchanger, from its host name.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::OpenError;

/// Built in; the data is reviewed like code.
const TABLE: &str = include_str!("../data/mx_hosts.toml");
/// What errors call it.
const NAME: &str = "mx_hosts.toml";

/// Mailbox providers by the ends of their hosts' names, the longest first.
pub(crate) struct MxHosts(Vec<Pattern>);

struct Pattern {
    /// From the last to the first; `*` is any.
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
        for (provider, ends) in table {
            for end in ends {
                let labels: Vec<String> = end.rsplit('.').map(str::to_owned).collect();
                if patterns.iter().any(|pattern| pattern.labels == labels) {
                    return Err(OpenError::built_in(NAME, format_args!("{end} is there twice")));
                }
                patterns.push(Pattern { labels, provider: provider.clone() });
            }
        }
        patterns.sort_by_key(|pattern| Reverse(pattern.labels.len()));
        Ok(Self(patterns))
    }

    /// The provider's stable name. `host` is lower-case, with or without the last full stop.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_by_their_ends() {
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
    fn the_longest_end_decides_and_none_is_there_twice() {
        let table = "a = [\"example.net\"]\nb = [\"mx.example.net\"]\nc = [\"example.org\"]";
        let hosts = MxHosts::parse(table).unwrap();
        assert_eq!(hosts.of_host("one.mx.example.net"), Some("b"));
        assert_eq!(hosts.of_host("one.example.net"), Some("a"));
        let twice = format!("{table}\nd = [\"example.org\"]");
        assert!(MxHosts::parse(&twice).is_err());
    }

    #[test]
    fn the_table_is_in_order() {
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
