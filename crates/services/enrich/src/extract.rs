//! Extracts campaign, stream, tags and labels from the fields in which the operator keeps them.

use std::collections::BTreeMap;

use event::{Event, Provider, Text, limits};
use providers::Pointer;
use serde::Deserialize;
use service::{Settings, SettingsError};

use crate::url_pattern::Link;

/// One `[[enrich.extract]]`. `deploy/mailpulse.toml` explains the keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    provider: Provider,
    /// `None` applies the rule to all sources of the provider.
    source: Option<String>,
    campaign: Option<Pointer>,
    stream: Option<Pointer>,
    tags: Option<Pointer>,
    #[serde(default)]
    labels: BTreeMap<String, LabelOrigin>,
}

/// Where the value of a label is.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
enum LabelOrigin {
    /// In the raw event.
    Pointer(Pointer),
    /// In this parameter of the link that was clicked; written as `?name`.
    Parameter(String),
}

impl TryFrom<String> for LabelOrigin {
    type Error = <Pointer as TryFrom<String>>::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.strip_prefix('?') {
            Some(name) => Ok(Self::Parameter(name.to_owned())),
            None => Pointer::try_from(text).map(Self::Pointer),
        }
    }
}

/// The rules in the operator's order.
pub(crate) struct Extraction(Vec<Rule>);

impl Extraction {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// Applies the rules for the event's source. The first campaign and the first stream that a
    /// rule finds replace those of the provider. Tags are added to those of the provider. The first
    /// value that a rule finds for a label is used.
    pub(crate) fn add<'e>(&'e self, event: &mut Event<'e>) {
        let (mut campaign, mut stream) = (None, None);
        let raw = event.raw.get();
        for rule in &self.0 {
            if !rule.applies_to(event) {
                continue;
            }
            let find = |pointer: &Option<Pointer>| pointer.as_ref()?.text(raw);
            campaign = campaign.or_else(|| find(&rule.campaign));
            stream = stream.or_else(|| find(&rule.stream));
            if let Some(pointer) = &rule.tags {
                event.add_tags(pointer.texts(raw));
            }
            rule.add_labels(event);
        }
        event.campaign = campaign.or(event.campaign.take()).map(|text| text.limited(limits::NAME));
        event.stream = stream.or(event.stream.take()).map(|text| text.limited(limits::NAME));
    }
}

impl Rule {
    fn add_labels<'e>(&'e self, event: &mut Event<'e>) {
        for (name, origin) in &self.labels {
            let value = match origin {
                LabelOrigin::Pointer(pointer) => pointer.text(event.raw.get()),
                LabelOrigin::Parameter(parameter) => {
                    let link = event.url.as_deref().and_then(Link::parse);
                    link.and_then(|link| link.parameter(parameter)).map(Text::from)
                }
            };
            if let Some(value) = value {
                event.add_label(name, value);
            }
        }
    }

    fn applies_to(&self, event: &Event<'_>) -> bool {
        self.provider == event.provider
            && self.source.as_ref().is_none_or(|source| *source == *event.source)
    }
}

/// Checks the number and the names of labels.
pub(crate) fn check(settings: &Settings, rules: &[Rule]) -> Result<(), SettingsError> {
    for (index, Rule { labels, .. }) in rules.iter().enumerate() {
        let is_unusable = |name: &&String| name.is_empty() || name.len() > limits::NAME;
        let problem = if labels.len() > limits::LABELS {
            format!("an event has at most {} labels", limits::LABELS)
        } else if let Some(name) = labels.keys().find(is_unusable) {
            format!("the name `{name}` cannot be used: a name has 1 to {} bytes", limits::NAME)
        } else {
            continue;
        };
        return Err(settings.invalid(&format!("enrich.extract[{index}].labels"), problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use event::ReceivedAt;
    use providers::Envelope;

    use super::*;

    const RAW: &[u8] = br#"{"event":"processed","email":"ada@example.com","timestamp":1800000000,
        "sg_event_id":"1","category":["a"],"campaign_id":"theirs",
        "custom":{"campaign":"ours","pool":"bulk","tags":["a","b"]}}"#;

    fn extract(source: &str, rules: &str) -> (Option<String>, Option<String>, Vec<String>) {
        #[derive(Deserialize)]
        struct Settings {
            extract: Vec<Rule>,
        }
        let Settings { extract } = toml::from_str(rules).unwrap();
        let envelope = Envelope {
            source,
            recipient: "ada@example.com",
            received_at: ReceivedAt(1_800_000_000_000_000),
            request_id: "r",
        };
        let mut event = providers::parse(Provider::SendGrid, RAW, &envelope).unwrap();
        let extraction = Extraction::new(extract);
        extraction.add(&mut event);
        let text = |text: Option<Text<'_>>| text.map(|text| text.to_string());
        let tags = event.tags.iter().map(ToString::to_string).collect();
        (text(event.campaign), text(event.stream), tags)
    }

    /// The values of the operator's fields have the limits of the provider's.
    #[test]
    fn extracted_texts_have_their_limits() {
        let many: Vec<String> = (0..100_000).map(|n| format!("{n:0300}")).collect();
        let raw = serde_json::json!({
            "event": "processed", "timestamp": 1_800_000_000, "sg_event_id": "1", "tags": many,
            "campaign": "é".repeat(1_000),
        });
        let (rules, raw) = (
            "[[extract]]\nprovider = \"sendgrid\"\ncampaign = \"/campaign\"\ntags = \"/tags\"",
            raw.to_string(),
        );
        #[derive(Deserialize)]
        struct Settings {
            extract: Vec<Rule>,
        }
        let Settings { extract } = toml::from_str(rules).unwrap();
        let envelope = Envelope {
            source: "acme",
            recipient: "ada@example.com",
            received_at: ReceivedAt(1_800_000_000_000_000),
            request_id: "r",
        };
        let mut event = providers::parse(Provider::SendGrid, raw.as_bytes(), &envelope).unwrap();
        let extraction = Extraction::new(extract);
        extraction.add(&mut event);
        assert_eq!(event.tags.len(), 1, "tags that differ only after the limit are one tag");
        assert_eq!(event.tags[0].len(), limits::NAME);
        assert_eq!(event.campaign.as_deref(), Some(&*"é".repeat(limits::NAME / 2)));
    }

    const RULES: &str = r#"
        [[extract]]
        provider = "mailgun"
        campaign = "/custom/pool"
        [[extract]]
        provider = "sendgrid"
        source = "acme"
        campaign = "/custom/nothing"
        tags = "/custom/tags"
        [[extract]]
        provider = "sendgrid"
        campaign = "/custom/campaign"
        stream = "/custom/pool"
        [[extract]]
        provider = "sendgrid"
        stream = "/custom/campaign"
    "#;

    #[test]
    fn the_first_rule_that_finds_a_value_wins() {
        let (campaign, stream, tags) = extract("acme", RULES);
        assert_eq!(campaign.as_deref(), Some("ours"));
        assert_eq!(stream.as_deref(), Some("bulk"));
        assert_eq!(tags, ["a", "b"]);
        let (.., tags) = extract("globex", RULES);
        assert_eq!(tags, ["a"], "the rule for tags applies to another source");
    }

    #[test]
    fn the_default_rules_find_the_streams() {
        let settings = service::Settings::load(None, std::iter::empty()).unwrap();
        let rules = crate::settings::EnrichSettings::read(&settings).unwrap().extract;
        let extraction = Extraction::new(rules);
        let message = r#"{"eventType":"Delivery","mail":{"timestamp":"2027-01-15T08:00:00Z",
            "messageId":"m","destination":["ada@example.com"],
            "tags":{"ses:configuration-set":["bulk"]}},
            "delivery":{"timestamp":"2027-01-15T08:00:01Z","recipients":["ada@example.com"]}}"#;
        let sns = serde_json::json!({"Type": "Notification", "TopicArn": "arn", "MessageId": "s",
            "Timestamp": "2027-01-15T08:00:02Z", "Message": message});
        let postmark = r#"{"RecordType":"Delivery","MessageID":"m","MessageStream":"bulk",
            "Recipient":"ada@example.com","DeliveredAt":"2027-01-15T08:00:00Z"}"#;
        let sendgrid = r#"{"event":"processed","timestamp":1800000000,"pool":{"name":"bulk","id":1},
            "email":"ada@example.com"}"#;
        for (provider, raw) in [
            (Provider::Ses, sns.to_string()),
            (Provider::Postmark, postmark.to_owned()),
            (Provider::SendGrid, sendgrid.to_owned()),
        ] {
            let envelope = Envelope {
                source: "acme",
                recipient: "ada@example.com",
                received_at: ReceivedAt(1_800_000_000_000_000),
                request_id: "r",
            };
            let mut event = providers::parse(provider, raw.as_bytes(), &envelope).unwrap();
            extraction.add(&mut event);
            assert_eq!(event.stream.as_deref(), Some("bulk"), "{provider}");
        }
    }

    #[test]
    fn the_campaign_of_the_provider_stays_if_no_rule_finds_one() {
        let nothing = r#"extract = [{provider = "sendgrid", campaign = "/custom/none"}]"#;
        assert_eq!(extract("acme", nothing).0.as_deref(), Some("theirs"));
        let error = toml::from_str::<Rule>(
            r#"provider = "sendgrid"
            campaign = "custom.campaign""#,
        )
        .unwrap_err();
        assert!(error.to_string().contains("is not a JSON pointer"), "{error}");
    }

    /// Returns the labels of a click, as `name=value`.
    fn labels(rules: &str, custom: serde_json::Value, url: &str) -> Vec<String> {
        #[derive(Deserialize)]
        struct Settings {
            extract: Vec<Rule>,
        }
        let Settings { extract } = toml::from_str(rules).unwrap();
        let raw = serde_json::json!({
            "event": "click", "timestamp": 1_800_000_000, "url": url, "custom": custom,
        });
        let raw = raw.to_string();
        let envelope = Envelope {
            source: "acme",
            recipient: "ada@example.com",
            received_at: ReceivedAt(1_800_000_000_000_000),
            request_id: "r",
        };
        let mut event = providers::parse(Provider::SendGrid, raw.as_bytes(), &envelope).unwrap();
        let extraction = Extraction::new(extract);
        extraction.add(&mut event);
        event.labels.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn labels_come_from_the_raw_event_and_from_the_link() {
        let rules = r#"
            [[extract]]
            provider = "sendgrid"
            source = "acme"
            labels = { list = "/custom/list", medium = "?utm_medium", none = "/custom/none" }
            [[extract]]
            provider = "sendgrid"
            labels = { list = "/custom/other", age = "/custom/age" }
            [[extract]]
            provider = "sendgrid"
            source = "globex"
            labels = { wrong = "/custom/list" }
        "#;
        let custom = serde_json::json!({"list": "trade fair", "other": "x", "age": 41});
        let found = labels(rules, custom, "https://a.example/?utm_medium=e%2Dmail");
        assert_eq!(found, ["age=41", "list=trade fair", "medium=e-mail"]);
        assert!(labels(rules, serde_json::json!({}), "no link").is_empty());
    }

    #[test]
    fn labels_are_bounded_in_length_and_number() {
        let all: Vec<String> = (0..40).map(|n| format!("l{n:02} = \"/custom/a\"")).collect();
        let (first, second) = all.split_at(20);
        let rule = |labels: &[String]| {
            format!("[[extract]]\nprovider = \"sendgrid\"\nlabels = {{ {} }}\n", labels.join(", "))
        };
        let rules = rule(first) + &rule(second);
        let found = labels(&rules, serde_json::json!({"a": "é".repeat(1_000)}), "");
        assert_eq!(found.len(), limits::LABELS);
        assert_eq!(found[0], format!("l00={}", "é".repeat(limits::NAME / 2)));

        let refused = |labels: &str| {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("mine.toml");
            let rule = format!("[[enrich.extract]]\nprovider = \"ses\"\nlabels = {{ {labels} }}\n");
            std::fs::write(&path, rule).unwrap();
            let settings = service::Settings::load(Some(&path), std::iter::empty()).unwrap();
            crate::settings::EnrichSettings::read(&settings).unwrap_err().to_string()
        };
        let error = refused(&all.join(", "));
        assert!(error.contains("enrich.extract[0].labels") && error.contains("32"), "{error}");
        let error = refused("\"\" = \"/a\"");
        assert!(error.contains("1 to 256 bytes"), "{error}");
        let error = refused("list = \"custom.list\"");
        assert!(error.contains("is not a JSON pointer"), "{error}");
    }
}
