//! Which events a forward sends.

use event::{Event, Kind, Provider};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use service::Patterns;

/// The longest regular expression, in bytes.
const MAX_REGEX: usize = 1_024;
/// The memory of a compiled regular expression, in bytes. Matching takes linear time.
const MAX_REGEX_MEMORY: usize = 1 << 20;

/// The conditions of a forward. An event must meet all of them; an empty list is met by every event.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub kinds: Vec<Kind>,
    pub providers: Vec<Provider>,
    /// Matches `acme` and `sendgrid/acme`.
    pub sources: Patterns,
    /// An event without a campaign matches only if there are no patterns.
    pub campaigns: Patterns,
    pub recipients: Option<RecipientRegex>,
    /// Whether events that machines caused are left out.
    pub human: bool,
}

/// A regular expression about addresses of recipients. It is not anchored.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct RecipientRegex(Regex);

/// The regular expression cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegexError {
    /// It is too long.
    #[error("has {0} bytes; write a regular expression of at most {MAX_REGEX}")]
    TooLong(usize),
    /// It is none, or it needs too much memory.
    #[error("is not a regular expression that can be used: {0}")]
    Invalid(#[from] regex::Error),
}

impl TryFrom<String> for RecipientRegex {
    type Error = RegexError;

    fn try_from(text: String) -> Result<Self, RegexError> {
        if text.len() > MAX_REGEX {
            return Err(RegexError::TooLong(text.len()));
        }
        // Addresses are in lower case.
        let mut builder = RegexBuilder::new(&text);
        builder.case_insensitive(true).size_limit(MAX_REGEX_MEMORY);
        builder.dfa_size_limit(MAX_REGEX_MEMORY);
        Ok(Self(builder.build()?))
    }
}

impl Filter {
    /// Returns whether the forward sends the event. An event that only the shadow mode of its source
    /// admitted may be forged, and is never sent.
    pub fn matches(&self, event: &Event<'_>) -> bool {
        let is_kind = self.kinds.is_empty() || self.kinds.contains(&event.kind);
        let is_provider = self.providers.is_empty() || self.providers.contains(&event.provider);
        is_kind
            && is_provider
            && event.authentic
            && !(self.human && event.automation.is_some())
            && self.sources.match_source(event.provider.as_str(), &event.source)
            && self.campaigns.match_any(event.campaign.as_deref())
            && self.matches_recipient(event.recipient.as_deref())
    }

    fn matches_recipient(&self, recipient: Option<&str>) -> bool {
        match (&self.recipients, recipient) {
            (None, _) => true,
            (Some(RecipientRegex(regex)), Some(recipient)) => regex.is_match(recipient),
            (Some(_), None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(more: &str) -> String {
        format!(
            r#"{{"event_id":"000102030405060708090a0b0c0d0e0f","kind":"clicked","provider":"ses","source":"acme","occurred_at":1,"received_at":2,"recipient":"ada@example.com"{more},"provider_event":"Click","request_id":"r","raw":{{}}}}"#
        )
    }

    fn read(json: &str) -> Event<'_> {
        serde_json::from_str(json).unwrap()
    }

    fn patterns(globs: &[&str]) -> Patterns {
        let globs: Vec<_> = globs.iter().map(|glob| (*glob).to_owned()).collect();
        globs.try_into().unwrap()
    }

    fn regex(text: &str) -> Option<RecipientRegex> {
        Some(text.to_owned().try_into().unwrap())
    }

    #[test]
    fn an_event_must_meet_every_condition() {
        let json = event(r#","campaign":"spring-1""#);
        let event = read(&json);
        let base = Filter { human: true, ..Filter::default() };
        for filter in [
            base.clone(),
            Filter { kinds: vec![Kind::Opened, Kind::Clicked], ..base.clone() },
            Filter { providers: vec![Provider::Ses], ..base.clone() },
            Filter { sources: patterns(&["ac*"]), ..base.clone() },
            Filter { sources: patterns(&["other", "ses/acme"]), ..base.clone() },
            Filter { campaigns: patterns(&["spring-*"]), ..base.clone() },
            Filter { recipients: regex(r"@EXAMPLE\.com$"), ..base.clone() },
        ] {
            assert!(filter.matches(&event), "{filter:?}");
        }
        for filter in [
            Filter { kinds: vec![Kind::Bounced], ..base.clone() },
            Filter { providers: vec![Provider::Mailgun], ..base.clone() },
            Filter { sources: patterns(&["mailgun/*"]), ..base.clone() },
            Filter { campaigns: patterns(&["autumn"]), ..base.clone() },
            Filter { recipients: regex("^bob@"), ..base.clone() },
        ] {
            assert!(!filter.matches(&event), "{filter:?}");
        }
    }

    #[test]
    fn events_of_machines_are_left_out_unless_they_are_wanted() {
        let json = event(r#","automation":{"reason":"scanner","confidence":0.9}"#);
        let event = read(&json);
        assert!(!Filter { human: true, ..Filter::default() }.matches(&event));
        assert!(Filter { human: false, ..Filter::default() }.matches(&event));
    }

    #[test]
    fn an_event_that_may_be_forged_is_never_sent() {
        let json = event(r#","authentic":false"#);
        assert!(!Filter::default().matches(&read(&json)));
    }

    #[test]
    fn what_an_event_does_not_have_matches_no_pattern() {
        let json = event("").replace(r#","recipient":"ada@example.com""#, "");
        let event = read(&json);
        assert!(Filter::default().matches(&event));
        assert!(!Filter { campaigns: patterns(&["*"]), ..Filter::default() }.matches(&event));
        assert!(!Filter { recipients: regex(""), ..Filter::default() }.matches(&event));
    }

    #[test]
    fn a_regular_expression_is_bounded() {
        let error = |text: String| RecipientRegex::try_from(text).unwrap_err().to_string();
        assert!(error("a".repeat(MAX_REGEX + 1)).contains("at most 1024"));
        assert!(error("(a{1000}){1000}".to_owned()).contains("size limit"));
        assert!(error("(".to_owned()).contains("is not a regular expression"));
    }
}
