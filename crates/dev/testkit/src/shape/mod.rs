//! A [`Fact`] in each provider's own words. One file per provider, one function each: the JSON of
//! the event, or `None` for what the provider has no words for (Postmark does not report that it
//! took a message).
//!
//! The campaign is said in every way a provider has for it (tag, category, metadata), so a reader
//! finds it whichever it looks at.

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

use crate::Fact;

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

/// What people open mail with.
const READERS: [&str; 4] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.4.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
];

/// Mailjet's message ids are above 2^53, what a double can hold.
const MAILJET_IDS_FROM: u64 = 1 << 60;

/// The image proxy by which a machine's open is known where the provider has no flag for it.
const IMAGE_PROXY: &str =
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)";

/// The event as its provider would word it; the right function of this module by the fact's
/// provider.
pub fn json(fact: &Fact) -> Option<Value> {
    match fact.provider {
        Provider::SendGrid => sendgrid(fact),
        Provider::Mailgun => mailgun(fact),
        Provider::Postmark => postmark(fact),
        Provider::Ses => ses(fact),
        Provider::Mandrill => mandrill(fact),
        Provider::Generic => generic(fact),
        Provider::SparkPost => sparkpost(fact),
        Provider::Resend => resend(fact),
        Provider::StandardWebhooks => standard_webhooks(fact),
        Provider::Brevo => brevo(fact),
        Provider::Mailjet => mailjet(fact),
        Provider::MailerSend => mailersend(fact),
        Provider::Postal => postal(fact),
    }
}

/// The `number`th message id of the form the provider gives its messages, as it stands in
/// [`Fact::message_id`]: for SendGrid the part before the first dot, no angle brackets anywhere.
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
    }
}

/// What stands for a number where the form of an id is too short for it. A part of the number would
/// not do: what tells two of them apart may lie anywhere in it.
fn digest(number: u128) -> [u8; 16] {
    *IdBuilder::new("testkit message").part(&number.to_be_bytes()).finish().as_bytes()
}

/// 16 bytes in the 8-4-4-4-12 form.
pub(crate) fn uuid_text(bytes: &[u8]) -> String {
    let hex = hex::encode(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The user agent of an open or click.
fn user_agent(fact: &Fact) -> &'static str {
    if fact.machine { IMAGE_PROXY } else { READERS[fact.pick(READERS.len())] }
}

/// A client's address, from a block reserved for documentation (RFC 5737).
fn client_ip(fact: &Fact) -> String {
    format!("203.0.113.{}", 1 + fact.pick(250))
}

/// The sender of a source's mail.
fn sender(fact: &Fact) -> String {
    format!("hello@{}.test", fact.source)
}

/// Copies the members of `more` into `object`; both are objects wherever this is called.
fn extend(object: &mut Value, more: Value) {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
}

#[cfg(test)]
mod tests;
