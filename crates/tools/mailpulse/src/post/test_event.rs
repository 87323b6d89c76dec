//! Makes test events. Their recipient, message id and campaign say that they are tests; docs/tool.md has the conditions with
//! which analysts leave them out.

use event::{IdBuilder, Kind};
use testkit::MailEvent;

use crate::configured::ConfiguredSource;

/// The recipient of test events. RFC 2606 reserves the domain `invalid`, so nobody can have this address. The domain
/// stays if recipients are replaced by pseudonyms.
pub(crate) const RECIPIENT: &str = "mailpulse-test@mailpulse.invalid";
/// The beginning of the message ids of test events.
pub(crate) const MESSAGE_ID: &str = "mailpulse-test-";
/// The beginning of the message ids of test events of Mailjet, where they are numbers.
pub(crate) const MAILJET_MESSAGE_ID: &str = "7777777";
/// The campaign of test events; at providers without campaigns their tag.
const CAMPAIGN: &str = "mailpulse-test";

/// A test event, before it is written in the form of its provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TestEvent<'a> {
    pub(crate) source: &'a ConfiguredSource,
    pub(crate) kind: Kind,
    pub(crate) recipient: &'a str,
    /// UTC microseconds.
    pub(crate) at: i64,
    /// Different numbers give different messages.
    pub(crate) number: u128,
}

impl TestEvent<'_> {
    pub(crate) fn mail_event(&self) -> MailEvent {
        let provider = self.source.provider;
        let resolution = MailEvent::resolution_micros(provider);
        let mut event = MailEvent::new(provider, &self.source.name, self.kind, self.recipient, 0);
        event.message_id = match provider {
            event::Provider::Mailjet => {
                // Nineteen digits, as Mailjet has them, and below 2^63.
                format!("{MAILJET_MESSAGE_ID}{:012}", digest(self.number) % 1_000_000_000_000)
            }
            _ => format!("{MESSAGE_ID}{:032x}", self.number),
        };
        event.campaign = CAMPAIGN.to_owned();
        event.occurred_at_micros = self.at - self.at.rem_euclid(resolution);
        event
    }
}

/// Returns one of the recipients of `load`, which are spread over the partitions.
pub(crate) fn load_recipient(number: u64) -> String {
    format!("mailpulse-test-{number}@mailpulse.invalid")
}

fn digest(number: u128) -> u64 {
    let id = IdBuilder::new("mailpulse test").part(&number.to_be_bytes()).finish();
    let mut low = [0; 8];
    low.copy_from_slice(&id.as_bytes()[..8]);
    u64::from_le_bytes(low)
}
