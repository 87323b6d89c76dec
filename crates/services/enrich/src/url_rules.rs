//! What a clicked link leads to, by the operator's rules: a conversion, and what its content is about.

use event::{Conversion, Event, Kind, Text, limits};
use serde::Deserialize;
use service::{Patterns, Settings, SettingsError};

use crate::url_pattern::{Link, UrlPattern};

/// The greatest number of rules of each kind. Each click is compared with all of them.
const MAX_RULES: usize = 500;

/// One `[[enrich.conversion]]`. `deploy/mailpulse.toml` explains the keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConversionRule {
    name: String,
    url: UrlPattern,
    value_parameter: Option<String>,
    /// Globs of sources, written as `acme` or `sendgrid/acme`.
    #[serde(default)]
    sources: Patterns,
}

/// One `[[enrich.interest]]`. `deploy/mailpulse.toml` explains the keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InterestRule {
    name: String,
    url: UrlPattern,
    /// Globs of sources, written as `acme` or `sendgrid/acme`.
    #[serde(default)]
    sources: Patterns,
}

/// The rules in the operator's order. The first one that matches a click counts.
pub(crate) struct UrlRules {
    conversions: Vec<ConversionRule>,
    interests: Vec<InterestRule>,
}

impl UrlRules {
    pub(crate) fn new(conversions: Vec<ConversionRule>, interests: Vec<InterestRule>) -> Self {
        Self { conversions, interests }
    }

    /// Adds conversion and interest to a click, whether a person or a machine clicked.
    pub(crate) fn add<'e>(&'e self, event: &mut Event<'e>) {
        if event.kind != Kind::Clicked || self.is_empty() {
            return;
        }
        let Some(link) = event.url.as_deref().and_then(Link::parse) else { return };
        let (provider, source) = (event.provider.as_str(), event.source.as_str());
        let conversion = self
            .conversions
            .iter()
            .find(|rule| rule.url.matches(&link) && rule.sources.match_source(provider, source));
        let interest = self
            .interests
            .iter()
            .find(|rule| rule.url.matches(&link) && rule.sources.match_source(provider, source));
        event.conversion = conversion.map(|rule| Conversion {
            name: Text::from(rule.name.as_str()),
            value: rule.value_parameter.as_deref().and_then(|name| link.value(name)),
        });
        event.interest = interest.map(|rule| Text::from(rule.name.as_str()));
    }

    fn is_empty(&self) -> bool {
        self.conversions.is_empty() && self.interests.is_empty()
    }
}

/// Checks what the types of the rules do not: their number and their names.
pub(crate) fn check(
    settings: &Settings,
    conversions: &[ConversionRule],
    interests: &[InterestRule],
) -> Result<(), SettingsError> {
    let names = |key, names: Vec<&str>| {
        if names.len() > MAX_RULES {
            let problem = format!("it has {} rules; at most {MAX_RULES} are possible", names.len());
            return Err(settings.invalid(key, problem));
        }
        let is_unusable = |name: &&str| name.is_empty() || name.len() > limits::NAME;
        match names.iter().position(is_unusable) {
            None => Ok(()),
            Some(index) => Err(settings.invalid(
                &format!("{key}[{index}].name"),
                format!("a name has 1 to {} bytes, such as purchase", limits::NAME),
            )),
        }
    };
    names("enrich.conversion", conversions.iter().map(|rule| &*rule.name).collect())?;
    names("enrich.interest", interests.iter().map(|rule| &*rule.name).collect())
}

#[cfg(test)]
mod tests {
    use event::{Provider, ReceivedAt};
    use providers::Envelope;

    use super::*;

    #[derive(Deserialize)]
    struct Rules {
        #[serde(default)]
        conversion: Vec<ConversionRule>,
        #[serde(default)]
        interest: Vec<InterestRule>,
    }

    const RULES: &str = r#"
        [[conversion]]
        name = "gift"
        url = "shop.example.com/order/gift"
        sources = ["sendgrid/ac*"]
        [[conversion]]
        name = "purchase"
        url = "shop.example.com/order/*"
        value_parameter = "total"
        [[conversion]]
        name = "any"
        url = "*.example.com/order/**"
        [[interest]]
        name = "shoes"
        url = "*.example.com/shoes/**"
        sources = ["acme"]
    "#;

    /// Returns the conversion, its value and the interest of an event of the source.
    fn found(source: &str, kind: &str, url: &str) -> (String, Option<f64>, String) {
        let Rules { conversion, interest } = toml::from_str(RULES).unwrap();
        let rules = UrlRules::new(conversion, interest);
        let raw = serde_json::json!({"event": kind, "timestamp": 1_800_000_000, "url": url});
        let (raw, received_at) = (raw.to_string(), ReceivedAt(1_800_000_000_000_000));
        let recipient = "ada@example.com";
        let envelope = Envelope { source, recipient, received_at, request_id: "r" };
        let mut event = providers::parse(Provider::SendGrid, raw.as_bytes(), &envelope).unwrap();
        rules.add(&mut event);
        let text = |text: Option<&Text<'_>>| text.map(ToString::to_string).unwrap_or_default();
        let conversion = event.conversion.as_ref();
        let value = conversion.and_then(|it| it.value);
        (text(conversion.map(|it| &it.name)), value, text(event.interest.as_ref()))
    }

    fn of(name: &str, value: Option<f64>, interest: &str) -> (String, Option<f64>, String) {
        (name.to_owned(), value, interest.to_owned())
    }

    #[test]
    fn the_first_rule_that_matches_a_click_counts() {
        let gift = "https://shop.example.com/order/gift?total=9.5";
        assert_eq!(found("acme", "click", gift), of("gift", None, ""));
        assert_eq!(found("globex", "click", gift), of("purchase", Some(9.5), ""), "another source");
        let other = "https://shop.example.com/order/17?total=free";
        assert_eq!(found("acme", "click", other), of("purchase", None, ""));
        let deep = "https://shop.example.com/order/17/done";
        assert_eq!(found("acme", "click", deep), of("any", None, ""));
        let shoes = "https://www.example.com/shoes/red";
        assert_eq!(found("acme", "click", shoes), of("", None, "shoes"));
        assert_eq!(found("globex", "click", shoes), of("", None, ""));
        assert_eq!(found("acme", "open", gift), of("", None, ""), "only clicks");
    }

    #[test]
    fn rules_that_cannot_be_used_are_refused_with_the_key() {
        let refused = |conversion: &str| {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("mine.toml");
            std::fs::write(&path, format!("[enrich]\n{conversion}\n")).unwrap();
            let settings = Settings::load(Some(&path), std::iter::empty()).unwrap();
            crate::EnrichSettings::read(&settings).unwrap_err().to_string()
        };
        let error = refused("conversion = [{name = \"\", url = \"a.example/**\"}]");
        assert!(error.contains("enrich.conversion[0].name") && error.contains("256"), "{error}");
        let error = refused("interest = [{name = \"x\", url = \"a.example\"}]");
        assert!(
            error.contains("enrich.interest[0].url") && error.contains("add a path"),
            "{error}"
        );
        let rule = "{name = \"x\", url = \"a.example/**\"}, ";
        let error = refused(&format!("interest = [{}]", rule.repeat(MAX_RULES + 1)));
        assert!(error.contains("501 rules"), "{error}");
    }
}
