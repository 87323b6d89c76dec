//! Campaign, stream and tags from where the operator keeps them.

use event::{Event, Provider, Text};
use serde::Deserialize;

use crate::pointer::Pointer;

/// One `[[enrich.extract]]`; each key is explained in `deploy/mailpulse.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    provider: Provider,
    /// All sources of the provider where it is left out.
    source: Option<String>,
    campaign: Option<Pointer>,
    stream: Option<Pointer>,
    tags: Option<Pointer>,
}

/// The rules in the operator's order.
pub(crate) struct Extraction(Vec<Rule>);

impl Extraction {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// Fills in what the rules for its source find. Of several rules the first that finds a
    /// campaign or a stream gives it; it takes the place of the provider's own. Tags are added to
    /// those there are.
    pub(crate) fn add(&self, event: &mut Event<'_>) {
        let (mut campaign, mut stream) = (None, None);
        let raw = event.raw.get();
        for rule in &self.0 {
            if !rule.is_for(event) {
                continue;
            }
            let find = |pointer: &Option<Pointer>| pointer.as_ref()?.text(raw);
            campaign = campaign.or_else(|| find(&rule.campaign));
            stream = stream.or_else(|| find(&rule.stream));
            if let Some(pointer) = &rule.tags {
                add_tags(&mut event.tags, pointer.texts(raw));
            }
        }
        event.campaign = campaign.or(event.campaign.take());
        event.stream = stream.or(event.stream.take());
    }
}

fn add_tags<'a>(tags: &mut Vec<Text<'a>>, found: Vec<Text<'a>>) {
    for tag in found {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
}

impl Rule {
    fn is_for(&self, event: &Event<'_>) -> bool {
        self.provider == event.provider
            && self.source.as_ref().is_none_or(|source| *source == *event.source)
    }
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
        Extraction::new(extract).add(&mut event);
        let text = |text: Option<Text<'_>>| text.map(|text| text.to_string());
        let tags = event.tags.iter().map(ToString::to_string).collect();
        (text(event.campaign), text(event.stream), tags)
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
    fn the_first_rule_of_the_source_that_finds_something_gives_it() {
        let (campaign, stream, tags) = extract("acme", RULES);
        assert_eq!(campaign.as_deref(), Some("ours"));
        assert_eq!(stream.as_deref(), Some("bulk"));
        assert_eq!(tags, ["a", "b"]);
        let (.., tags) = extract("globex", RULES);
        assert_eq!(tags, ["a"], "another source's tags");
    }

    #[test]
    fn the_built_in_rules_find_the_streams() {
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
    fn what_is_not_found_leaves_the_providers_own() {
        let nothing = r#"extract = [{provider = "sendgrid", campaign = "/custom/none"}]"#;
        assert_eq!(extract("acme", nothing).0.as_deref(), Some("theirs"));
        let error = toml::from_str::<Rule>(
            r#"provider = "sendgrid"
            campaign = "custom.campaign""#,
        )
        .unwrap_err();
        assert!(error.to_string().contains("is not a JSON pointer"), "{error}");
    }
}
