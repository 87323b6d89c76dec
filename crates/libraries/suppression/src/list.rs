//! Which list an event belongs to, and what an unsubscription is about.

use std::borrow::Cow;

use event::{Event, Provider};
use serde::{Deserialize, Serialize};

use crate::entry::{Purpose, name};

/// The list that counts for everybody, whatever the basis.
pub const GLOBAL: &str = "global";

/// How many scopes events may add to a list. Senders choose them, and each takes memory in every instance.
pub const MAX_SCOPES: usize = 1_000;

/// What a list is kept for. Settings name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListBasis {
    /// Each source: `sendgrid/acme`.
    Source,
    /// Each tenant: `tenant/acme`. Events without a tenant belong to the list of their source.
    Tenant,
    /// All sources together.
    Global,
}

impl ListBasis {
    /// Returns the name of the list that an event belongs to.
    pub fn list_of(self, event: &Event<'_>) -> String {
        self.list(event.provider, &event.source, event.tenant.as_deref())
    }

    /// Returns the name of the list of a source and a tenant.
    pub fn list(self, provider: Provider, source: &str, tenant: Option<&str>) -> String {
        match (self, tenant) {
            (Self::Global, _) => GLOBAL.to_owned(),
            (Self::Tenant, Some(tenant)) => name(&format!("tenant/{tenant}")).into_owned(),
            (Self::Tenant, None) | (Self::Source, _) => source_list(provider.as_str(), source),
        }
    }
}

/// Returns the name of the list of a source.
pub fn source_list(provider: &str, source: &str) -> String {
    name(&format!("{provider}/{source}")).into_owned()
}

/// A rule of the settings: the purpose of the mail of some scopes of some lists.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurposeRule {
    /// A pattern for the name of the list; `*` matches any text.
    #[serde(default = "anything")]
    pub list: String,
    /// A pattern for the group or stream.
    #[serde(default = "anything")]
    pub scope: String,
    pub purpose: Purpose,
}

fn anything() -> String {
    "*".to_owned()
}

/// The scopes and purposes of unsubscriptions.
#[derive(Debug, Clone)]
pub struct Purposes {
    /// The first rule that matches decides.
    pub rules: Vec<PurposeRule>,
    /// The purpose if none matches.
    pub otherwise: Purpose,
    /// The label of an event that names the group. Empty or absent: its stream.
    pub scope_label: String,
}

impl Purposes {
    /// Returns the provider's group or stream of an event; empty if it names none.
    pub fn scope_of<'e>(&self, event: &'e Event<'_>) -> Cow<'e, str> {
        let label = event.labels.iter().find(|(label, _)| label.as_str() == self.scope_label);
        let scope = label.map(|(_, value)| value).or(event.stream.as_ref());
        scope.map_or(Cow::Borrowed(""), |scope| name(scope.as_str()))
    }

    /// Returns what the mail of a scope is for.
    pub fn of(&self, list: &str, scope: &str) -> Purpose {
        let matches =
            |rule: &&PurposeRule| is_match(&rule.list, list) && is_match(&rule.scope, scope);
        self.rules.iter().find(matches).map_or(self.otherwise, |rule| rule.purpose)
    }
}

/// Returns whether a text matches a pattern in which `*` stands for any text.
pub fn is_match(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = rest.split('*').collect();
    let Some((last, middle)) = parts.split_last() else { return true };
    for part in middle {
        // The earliest match leaves the most text for the others.
        let Some(at) = text.find(part) else { return false };
        text = text.get(at + part.len()..).unwrap_or_default();
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("news", "news", true),
            ("news", "newsletter", false),
            ("*", "", true),
            ("news*", "newsletter", true),
            ("*/acme", "ses/acme", true),
            ("*a*b", "xaxxb", true),
            ("a*a", "a", false),
            ("*b*", "abc", true),
            ("x**y", "xy", true),
            ("*ab", "aab", true),
        ] {
            assert_eq!(is_match(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_label_is_the_scope_or_else_the_stream_and_the_first_rule_decides_the_purpose() {
        let json = r#"{"event_id":"000102030405060708090a0b0c0d0e0f","kind":"unsubscribed","provider":"sendgrid","source":"acme","occurred_at":1,"received_at":1,"stream":"pool","tenant":"shop","provider_event":"x","request_id":"r","labels":{"group":"weekly"},"raw":{}}"#;
        let event: Event<'_> = serde_json::from_str(json).unwrap();
        let rule = |list: &str, scope: &str, purpose| PurposeRule {
            list: list.to_owned(),
            scope: scope.to_owned(),
            purpose,
        };
        let purposes = |label: &str| Purposes {
            rules: vec![
                rule("sendgrid/*", "receipts", Purpose::Transactional),
                rule("*", "receipts", Purpose::Marketing),
            ],
            otherwise: Purpose::Marketing,
            scope_label: label.to_owned(),
        };
        assert_eq!(purposes("group").scope_of(&event), "weekly");
        assert_eq!(purposes("absent").scope_of(&event), "pool");
        assert_eq!(purposes("").of("sendgrid/acme", "receipts"), Purpose::Transactional);
        assert_eq!(purposes("").of("ses/acme", "receipts"), Purpose::Marketing);
        assert_eq!(ListBasis::Source.list_of(&event), "sendgrid/acme");
        assert_eq!(ListBasis::Tenant.list_of(&event), "tenant/shop");
        assert_eq!(ListBasis::Global.list_of(&event), "global");
    }
}
