use std::fmt;

use event::Dimension;
use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};
use window::Scope;

use super::RuleError;

/// A pattern for a name: `*` is any text, `?` any character. It matches the whole name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    /// `None` if the pattern is a plain name.
    matcher: Option<GlobMatcher>,
}

impl Pattern {
    /// Returns the pattern for one plain name.
    pub(crate) fn name(name: &str) -> Self {
        Self { text: name.to_owned(), matcher: None }
    }

    /// Returns whether a name matches.
    pub fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Some(matcher) => matcher.is_match(name),
            None => self.text == name,
        }
    }

    /// Returns how narrow the pattern is: names before patterns, long patterns before short ones.
    fn weight(&self) -> (bool, usize) {
        (self.matcher.is_none(), self.text.len())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl TryFrom<String> for Pattern {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self, RuleError> {
        if text.is_empty() || text.len() > 200 {
            return Err(RuleError::Pattern(text));
        }
        if !text.contains(['*', '?']) {
            return Ok(Self { text, matcher: None });
        }
        // Names may contain any character, and only * and ? have a meaning.
        let mut escaped = String::with_capacity(text.len());
        for character in text.chars() {
            if matches!(character, '[' | ']' | '{' | '}' | '!' | '\\') {
                escaped.push('\\');
            }
            escaped.push(character);
        }
        let glob =
            GlobBuilder::new(&escaped).literal_separator(false).backslash_escape(true).build();
        match glob {
            Ok(glob) => Ok(Self { text, matcher: Some(glob.compile_matcher()) }),
            Err(_) => Err(RuleError::Pattern(text)),
        }
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

/// What is known about a scope besides its own names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The tenant to which the source or campaign belongs.
    pub tenant: Option<&'a str>,
}

/// Patterns for the names of a scope. All that are given must match; a scope without such a name does not
/// match.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// The name of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Pattern>,
    /// The tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Pattern>,
    /// The mailbox provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox_provider: Option<Pattern>,
    /// The campaign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Pattern>,
}

impl Match {
    /// Returns whether a scope matches.
    pub fn matches(&self, scope: &Scope, facts: Facts<'_>) -> bool {
        let is = |pattern: &Option<Pattern>, name: Option<&str>| match (pattern, name) {
            (None, _) => true,
            (Some(pattern), Some(name)) => pattern.matches(name),
            (Some(_), None) => false,
        };
        is(&self.source, scope.source())
            && is(&self.tenant, scope.value(Dimension::Tenant).or(facts.tenant))
            && is(&self.mailbox_provider, scope.value(Dimension::MailboxProvider))
            && is(&self.campaign, scope.value(Dimension::Campaign))
    }

    /// Returns how narrow the match is. Of two, the greater one is the more specific: first the one with more
    /// names, then with more plain names, then with longer patterns.
    pub(crate) fn weight(&self) -> (usize, usize, usize) {
        let patterns = [&self.source, &self.tenant, &self.mailbox_provider, &self.campaign];
        let weights = patterns.into_iter().flatten().map(Pattern::weight);
        weights.fold((0, 0, 0), |(names, plain, length), (is_plain, more)| {
            (names + 1, plain + usize::from(is_plain), length + more)
        })
    }
}

impl fmt::Display for Match {
    /// Writes the names that are given: `source acme, campaign spring-*`, or `everything`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            ("source", &self.source),
            ("tenant", &self.tenant),
            ("mailbox provider", &self.mailbox_provider),
            ("campaign", &self.campaign),
        ];
        let given = names.into_iter().filter_map(|(name, pattern)| Some((name, pattern.as_ref()?)));
        let given: Vec<_> = given.map(|(name, it)| format!("{name} {}", it.text)).collect();
        f.write_str(if given.is_empty() { "everything" } else { "" })?;
        f.write_str(&given.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;

    fn read(toml: &str) -> Match {
        toml::from_str(toml).unwrap()
    }

    fn campaign(name: &str) -> Scope {
        let (provider, source) = (Provider::Ses, "acme".to_owned());
        Scope::Campaign { provider, source, campaign: name.to_owned() }
    }

    #[test]
    fn every_given_name_must_match() {
        let spring = read("source = \"ac*\"\ncampaign = \"spring-?ale*\"");
        assert!(spring.matches(&campaign("spring-sale/2 [b]"), Facts::default()));
        assert!(!spring.matches(&campaign("spring"), Facts::default()));
        assert!(!spring.matches(&campaign("spring-sale").whole(), Facts::default()));
        assert!(Match::default().matches(&campaign("x"), Facts::default()));
        let brackets = read("campaign = \"{a,b}*\"");
        assert!(brackets.matches(&campaign("{a,b} 1"), Facts::default()));
        assert!(!brackets.matches(&campaign("a 1"), Facts::default()));
    }

    #[test]
    fn a_source_has_the_tenant_that_is_known_of_it() {
        let tenant = read("tenant = \"shop\"");
        assert!(!tenant.matches(&campaign("x"), Facts::default()));
        assert!(tenant.matches(&campaign("x"), Facts { tenant: Some("shop") }));
        assert!(tenant.matches(&Scope::Tenant { tenant: "shop".into() }, Facts::default()));
    }

    #[test]
    fn more_names_are_more_specific_than_patterns() {
        let weights: Vec<_> = [
            "",
            "source = \"*\"",
            "source = \"acme*\"",
            "source = \"acme\"",
            "source = \"*\"\ntenant = \"*\"",
            "source = \"acme\"\ntenant = \"*\"",
        ]
        .into_iter()
        .map(|toml| read(toml).weight())
        .collect();
        assert!(weights.is_sorted_by(|a, b| a < b), "{weights:?}");
    }

    #[test]
    fn an_empty_pattern_is_an_error() {
        assert!(toml::from_str::<Match>("source = \"\"").is_err());
        assert!(toml::from_str::<Match>("sauce = \"x\"").is_err());
    }
}
