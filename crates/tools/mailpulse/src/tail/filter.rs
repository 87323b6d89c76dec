//! Which events are printed.

use event::{Kind, recipient_key};
use privacy::Pseudonymizer;

use super::line::TailedEvent;

/// The filters of the command line. An event must pass each, and has to match one value of a repeated one.
#[derive(Debug)]
pub(super) struct Filter {
    sources: Vec<String>,
    kinds: Vec<Kind>,
    /// The address, and its pseudonym if pseudonyms are configured. Empty: any.
    recipients: Vec<String>,
}

impl Filter {
    pub(super) fn of(
        sources: &[String],
        kinds: &[Kind],
        recipient: Option<&str>,
        pseudonymizer: Option<&Pseudonymizer>,
    ) -> Self {
        let recipients = recipient.into_iter().flat_map(|address| {
            let address = recipient_key(address).into_owned();
            let pseudonym = pseudonymizer.and_then(|it| it.pseudonym(&address));
            [Some(address), pseudonym.map(|it| recipient_key(&it).into_owned())]
        });
        let recipients = recipients.flatten().collect();
        Self { sources: sources.to_vec(), kinds: kinds.to_vec(), recipients }
    }

    pub(super) fn matches(&self, event: &TailedEvent<'_>) -> bool {
        let is_source = |wanted: &String| match wanted.split_once('/') {
            Some((provider, name)) => {
                provider.parse() == Ok(event.provider) && name == event.source
            }
            None => *wanted == event.source,
        };
        let recipient = event.recipient.as_deref().unwrap_or_default();
        (self.sources.is_empty() || self.sources.iter().any(is_source))
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && (self.recipients.is_empty() || self.recipients.iter().any(|it| it == recipient))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"event_id":"0","kind":"opened","provider":"sendgrid","source":"acme","occurred_at":1,
        "received_at":2,"recipient":"ada@example.com","request_id":"r"}"#;

    #[test]
    fn every_filter_must_match() {
        let event: TailedEvent<'_> = serde_json::from_str(EVENT).unwrap();
        let matches = |sources: &[&str], kinds: &[Kind], recipient| {
            let sources: Vec<String> = sources.iter().map(|it| (*it).to_owned()).collect();
            Filter::of(&sources, kinds, recipient, None).matches(&event)
        };
        assert!(matches(&[], &[], None));
        assert!(matches(
            &["shop", "acme"],
            &[Kind::Clicked, Kind::Opened],
            Some("Ada@Example.com")
        ));
        assert!(matches(&["sendgrid/acme"], &[], None));
        assert!(!matches(&["mailgun/acme"], &[], None));
        assert!(!matches(&["acm"], &[], None));
        assert!(!matches(&[], &[Kind::Clicked], None));
        assert!(!matches(&[], &[], Some("eve@example.com")));
    }

    #[test]
    fn an_address_is_found_by_its_pseudonym() {
        let key = Pseudonymizer::new(b"a key of the tests alone").unwrap();
        let pseudonym = key.pseudonym("ada@example.com").unwrap();
        let text = EVENT.replace("ada@example.com", &pseudonym);
        let event: TailedEvent<'_> = serde_json::from_str(&text).unwrap();
        assert!(Filter::of(&[], &[], Some("ada@example.com"), Some(&key)).matches(&event));
        assert!(!Filter::of(&[], &[], Some("ada@example.com"), None).matches(&event));
    }
}
