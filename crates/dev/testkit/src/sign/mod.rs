//! Provider payloads as signed requests: one function per provider, from already shaped JSON, and
//! beside it one that signs any text, for bodies that are authentic and nonsense. The schemes
//! themselves are in [`crate::seal`]; here are the keys of [`Credentials`].

mod sns;

use bytes::Bytes;
use event::Provider;
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

pub use sns::{ses, ses_message, ses_subscription_confirmation};

use crate::credentials::{BODY_ONLY_SOURCE, path};
use crate::seal::{self, Login, Sealed, WebhookKey};
use crate::{Credentials, Fact, SignedRequest, shape};

/// The id of the key in Postal's headers.
const POSTAL_KEY_ID: &str = "testkit";

/// Twilio SendGrid: an array, however few the events. On the wire they stand apart by CRLF and
/// `<`, `>` are escaped, so only the bytes as received verify.
pub fn sendgrid(
    credentials: &Credentials,
    source: &str,
    events: &[Value],
    now_unix: i64,
) -> SignedRequest {
    let elements: Vec<String> = events
        .iter()
        .map(|event| event.to_string().replace('<', "\\u003c").replace('>', "\\u003e"))
        .collect();
    let body = format!("[{}]\r\n", elements.join(",\r\n"));
    sendgrid_body(credentials, source, body.into(), now_unix)
}

/// SendGrid's signature over any body.
pub fn sendgrid_body(
    credentials: &Credentials,
    source: &str,
    body: Bytes,
    now_unix: i64,
) -> SignedRequest {
    let sealed = seal::sendgrid(&credentials.sendgrid, body, now_unix);
    request(Provider::SendGrid, source, signed(sealed))
}

/// Mailgun: one event, the signature block beside it in the body.
pub fn mailgun(
    credentials: &Credentials,
    source: &str,
    event_data: &Value,
    now_unix: i64,
) -> SignedRequest {
    mailgun_text(credentials, source, &event_data.to_string(), now_unix)
}

/// Mailgun's envelope around any JSON text.
pub fn mailgun_text(
    credentials: &Credentials,
    source: &str,
    event_data: &str,
    now_unix: i64,
) -> SignedRequest {
    let key = credentials.mailgun_signing_key.as_bytes();
    request(Provider::Mailgun, source, seal::mailgun(key, event_data, now_unix))
}

/// Mandrill: a form with one field, a JSON array in which PHP has escaped every slash. No events
/// is the ping that registers a webhook.
pub fn mandrill(credentials: &Credentials, source: &str, events: &[Value]) -> SignedRequest {
    let value = Value::from(events).to_string().replace('/', "\\/");
    mandrill_value(credentials, source, &value)
}

/// Mandrill's form with any text as the field's value.
pub fn mandrill_value(credentials: &Credentials, source: &str, value: &str) -> SignedRequest {
    let (key, url) =
        (credentials.mandrill_webhook_key.as_bytes(), credentials.mandrill_url(source));
    request(Provider::Mandrill, source, seal::mandrill(key, &url, value))
}

/// Any body of a provider that signs nothing, with its credentials: Postmark, SparkPost and Mailjet
/// with HTTP basic ones, Brevo with a bearer token.
///
/// # Panics
/// For a provider that signs.
pub fn unsigned_body(
    credentials: &Credentials,
    provider: Provider,
    source: &str,
    body: Bytes,
) -> SignedRequest {
    let (login, agent) = match provider {
        Provider::Postmark => (Login::Basic(credentials.postmark_login), "Postmark"),
        Provider::SparkPost => (Login::Basic(credentials.sparkpost_login), "SparkPost"),
        Provider::Mailjet => (Login::Basic(credentials.mailjet_login), "Mailjet-Event/1.0"),
        Provider::Brevo => (Login::Bearer(credentials.brevo_token), "Brevo Webhooks"),
        signs => panic!("{signs} signs its requests"),
    };
    request(provider, source, seal::login(login, agent, body))
}

/// Postmark: one event; HTTP basic credentials and no signature.
pub fn postmark(credentials: &Credentials, source: &str, event: &Value) -> SignedRequest {
    postmark_body(credentials, source, event.to_string().into())
}

/// Any body with Postmark's credentials.
pub fn postmark_body(credentials: &Credentials, source: &str, body: Bytes) -> SignedRequest {
    unsigned_body(credentials, Provider::Postmark, source, body)
}

/// Resend: Standard Webhooks under Svix's header names.
pub fn resend_body(
    credentials: &Credentials,
    source: &str,
    body: Bytes,
    now_unix: i64,
) -> SignedRequest {
    let key = WebhookKey::Hmac(credentials.resend_key);
    let sealed = seal::standard_webhooks(&[key], "svix", body, now_unix);
    request(Provider::Resend, source, sealed)
}

/// Standard Webhooks, signed `v1`.
pub fn standard_webhooks_body(
    credentials: &Credentials,
    source: &str,
    body: Bytes,
    now_unix: i64,
) -> SignedRequest {
    let key = WebhookKey::Hmac(credentials.standard_webhooks_key);
    let sealed = seal::standard_webhooks(&[key], "webhook", body, now_unix);
    request(Provider::StandardWebhooks, source, sealed)
}

/// MailerSend's signature over any body.
pub fn mailersend_body(credentials: &Credentials, source: &str, body: Bytes) -> SignedRequest {
    let sealed = seal::mailersend(credentials.mailersend_secret.as_bytes(), body);
    request(Provider::MailerSend, source, sealed)
}

/// Postal's two signatures over any body.
pub fn postal_body(credentials: &Credentials, source: &str, body: Bytes) -> SignedRequest {
    let sealed = seal::postal(&credentials.postal, POSTAL_KEY_ID, body);
    request(Provider::Postal, source, signed(sealed))
}

/// The generic provider: one object for one event, an array for more; signed as the source is
/// configured (the source `legacy` signs the body alone, every other `timestamp.body`).
pub fn generic(
    credentials: &Credentials,
    source: &str,
    events: &[Value],
    now_unix: i64,
) -> SignedRequest {
    generic_body(credentials, source, one_or_array(events), now_unix)
}

/// The generic provider's signature over any body: `sha256=` and hex HMAC-SHA256.
pub fn generic_body(
    credentials: &Credentials,
    source: &str,
    body: Bytes,
    now_unix: i64,
) -> SignedRequest {
    let keyed = seal::keyed_sha256(credentials.generic_secret.as_bytes());
    generic_keyed(&keyed, source, body, now_unix)
}

/// [`generic_body`] with the key's two blocks already absorbed.
pub(crate) fn generic_keyed(
    keyed: &Hmac<Sha256>,
    source: &str,
    body: Bytes,
    now_unix: i64,
) -> SignedRequest {
    let timestamp = now_unix.to_string();
    let mut mac = keyed.clone();
    if source != BODY_ONLY_SOURCE {
        mac.update(timestamp.as_bytes());
        mac.update(b".");
    }
    mac.update(&body);
    let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    let headers = [
        ("content-type", "application/json"),
        ("x-mailpulse-timestamp", &timestamp),
        ("x-mailpulse-signature", &signature),
    ];
    let headers =
        headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    request(Provider::Generic, source, Sealed { headers, body })
}

/// The facts of one source as the provider would post them: together where it batches, one
/// request each where it does not. Facts the provider has no words for are left out.
pub fn facts(credentials: &Credentials, facts: &[Fact], now_unix: i64) -> Vec<SignedRequest> {
    let Some(first) = facts.first() else { return Vec::new() };
    let source = first.source.as_str();
    let events: Vec<Value> = facts.iter().filter_map(shape::json).collect();
    let each = |sign: &dyn Fn(&Value) -> SignedRequest| events.iter().map(sign).collect();
    match first.provider {
        _ if events.is_empty() => Vec::new(),
        Provider::SendGrid => vec![sendgrid(credentials, source, &events, now_unix)],
        Provider::Mailgun => each(&|event| mailgun(credentials, source, event, now_unix)),
        Provider::Ses => each(&|event| ses(credentials, source, event, now_unix)),
        Provider::Mandrill => vec![mandrill(credentials, source, &events)],
        Provider::Generic => vec![generic(credentials, source, &events, now_unix)],
        provider @ (Provider::SparkPost | Provider::Mailjet) => {
            let body = Value::from(events).to_string();
            vec![unsigned_body(credentials, provider, source, body.into())]
        }
        provider @ Provider::Brevo => {
            vec![unsigned_body(credentials, provider, source, one_or_array(&events))]
        }
        provider => each(&|event| body(credentials, provider, source, event.to_string(), now_unix)),
    }
}

/// A request that is authentic and cannot be read: cut short in the middle of the JSON (Mailgun:
/// an `event-data` that is no object, since a cut body has no signature to check). `n` makes each
/// one different.
pub fn garbage(
    credentials: &Credentials,
    provider: Provider,
    source: &str,
    n: usize,
    now_unix: i64,
) -> SignedRequest {
    let cut = format!("[{{\"event\":\"delivered\",\"garbage\":{n},\"email\":\"ada");
    let cut = match provider {
        Provider::Mailgun => format!("\"garbage {n}\""),
        Provider::Ses => cut[1..].to_owned(),
        _ => cut,
    };
    body(credentials, provider, source, cut, now_unix)
}

/// Any text as the body; of Mailgun as `event-data`, of SES as the message, of Mandrill as the
/// field's value.
fn body(
    credentials: &Credentials,
    provider: Provider,
    source: &str,
    text: String,
    now_unix: i64,
) -> SignedRequest {
    match provider {
        Provider::SendGrid => sendgrid_body(credentials, source, text.into(), now_unix),
        Provider::Mailgun => mailgun_text(credentials, source, &text, now_unix),
        Provider::Postmark | Provider::SparkPost | Provider::Brevo | Provider::Mailjet => {
            unsigned_body(credentials, provider, source, text.into())
        }
        Provider::Ses => ses_message(credentials, source, &text, now_unix),
        Provider::Mandrill => mandrill_value(credentials, source, &text),
        Provider::Generic => generic_body(credentials, source, text.into(), now_unix),
        Provider::Resend => resend_body(credentials, source, text.into(), now_unix),
        Provider::StandardWebhooks => {
            standard_webhooks_body(credentials, source, text.into(), now_unix)
        }
        Provider::MailerSend => mailersend_body(credentials, source, text.into()),
        Provider::Postal => postal_body(credentials, source, text.into()),
    }
}

fn one_or_array(events: &[Value]) -> Bytes {
    match events {
        [event] => event.to_string().into(),
        events => Value::from(events).to_string().into(),
    }
}

#[allow(clippy::expect_used, reason = "the keys are compiled in; one that cannot sign fails tests")]
fn signed(sealed: Result<Sealed, seal::CannotSign>) -> Sealed {
    sealed.expect("a key that can sign")
}

fn request(provider: Provider, source: &str, Sealed { headers, body }: Sealed) -> SignedRequest {
    SignedRequest { path: path(provider, source), headers, body }
}

#[cfg(test)]
mod tests;
