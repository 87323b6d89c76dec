//! Writes a [`MailEvent`] in the format of each provider. There is one file per provider with one
//! function, which returns the JSON of the event, or `None` if the provider does not report it
//! (Postmark does not report accepted messages).
//!
//! The campaign is in every field that a provider has for it (tag, category, metadata), because
//! parsers may read any of them.

mod brevo;
mod generic;
mod mailersend;
mod mailgun;
mod mailjet;
mod mandrill;
mod postal;
mod postmark;
mod resend;
mod sendgrid;
mod ses;
mod sparkpost;
mod standard_webhooks;

use event::{IdBuilder, Provider};
use serde_json::Value;

use crate::MailEvent;

pub use brevo::brevo;
pub use generic::generic;
pub use mailersend::mailersend;
pub use mailgun::mailgun;
pub use mailjet::mailjet;
pub use mandrill::mandrill;
pub use postal::postal;
pub use postmark::postmark;
pub use resend::resend;
pub use sendgrid::sendgrid;
pub use ses::ses;
pub use sparkpost::sparkpost;
pub use standard_webhooks::standard_webhooks;

/// The link in every message.
const LINK: &str = "https://shop.example.com/offer?utm_source=mail";

/// User agents of people who read mail.
const READERS: [&str; 4] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.4.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
];

/// Mailjet's message ids are above 2^53, so a double cannot represent them.
const MAILJET_IDS_FROM: u64 = 1 << 60;

/// Marks an open by a machine at providers that have no flag for it.
const IMAGE_PROXY: &str =
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)";

/// Returns the event in the format of its provider.
pub fn json(event: &MailEvent) -> Option<Value> {
    match event.provider {
        Provider::SendGrid => sendgrid(event),
        Provider::Mailgun => mailgun(event),
        Provider::Postmark => postmark(event),
        Provider::Ses => ses(event),
        Provider::Mandrill => mandrill(event),
        Provider::Generic => generic(event),
        Provider::SparkPost => sparkpost(event),
        Provider::Resend => resend(event),
        Provider::StandardWebhooks => standard_webhooks(event),
        Provider::Brevo => brevo(event),
        Provider::Mailjet => mailjet(event),
        Provider::MailerSend => mailersend(event),
        Provider::Postal => postal(event),
        #[allow(unreachable_patterns, reason = "a provider that is not in `PROVIDERS`")]
        _ => None,
    }
}

/// Returns a message id in the provider's format, as the canonical event has it: for SendGrid only
/// the part before the first dot, and without angle brackets. Different numbers give different ids.
pub fn message_id(provider: Provider, number: u128) -> String {
    match provider {
        Provider::SendGrid => {
            use base64::Engine;
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(number.to_be_bytes())
        }
        Provider::Mailgun => format!("20261121100000.1.{number:032X}@mail.example.org"),
        Provider::Postmark | Provider::Generic | Provider::Resend | Provider::StandardWebhooks => {
            uuid_text(&number.to_be_bytes())
        }
        Provider::Ses => format!("01020198a0c1d2e3-{}-000000", uuid_text(&number.to_be_bytes())),
        Provider::Mandrill => format!("{number:032x}"),
        Provider::SparkPost => hex::encode(&digest(number)[..10]),
        Provider::Brevo => format!("202611211000.{number}@smtp-relay.mailin.fr"),
        Provider::Mailjet => {
            let [a, b, c, d, e, f, g, h, ..] = digest(number);
            let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 2;
            // A positive 64-bit integer.
            (MAILJET_IDS_FROM + number).to_string()
        }
        Provider::MailerSend => hex::encode(&digest(number)[..12]),
        Provider::Postal => {
            format!("{}@rp.postal.example.com", uuid_text(&number.to_be_bytes()))
        }
        #[allow(unreachable_patterns, reason = "a provider that is not in `PROVIDERS`")]
        _ => uuid_text(&number.to_be_bytes()),
    }
}

/// Shortens a number for ids with fewer than 16 bytes. A part of the number would not be unique,
/// because two numbers may differ in any of their bytes.
fn digest(number: u128) -> [u8; 16] {
    *IdBuilder::new("testkit message").part(&number.to_be_bytes()).finish().as_bytes()
}

/// Formats 16 bytes as 8-4-4-4-12 hexadecimal digits.
pub(crate) fn uuid_text(bytes: &[u8]) -> String {
    let hex = hex::encode(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn user_agent(event: &MailEvent) -> &'static str {
    if event.machine { IMAGE_PROXY } else { READERS[event.index_below(READERS.len())] }
}

/// Returns an address from a block that is reserved for documentation (RFC 5737).
fn client_ip(event: &MailEvent) -> String {
    format!("203.0.113.{}", 1 + event.index_below(250))
}

/// The address of the provider's server, from another such block.
const SENDING_IP: &str = "198.51.100.11";

/// The address of the recipient's server.
const MX_IP: &str = "192.0.2.25";

fn sender(event: &MailEvent) -> String {
    format!("hello@{}.test", event.source)
}

/// Copies the members of `more` into `object`. Both must be objects.
fn extend(object: &mut Value, more: Value) {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
}

#[cfg(test)]
mod tests;
