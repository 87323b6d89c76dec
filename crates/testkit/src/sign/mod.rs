//! Provider payloads as signed requests: one function per provider, from already shaped JSON, and
//! beside it one that signs any text, for bodies that are authentic and nonsense.
//!
//! Everything but SendGrid's ECDSA signature (which is random by design) is a function of the
//! arguments: signing the same payload for the same second again gives the same bytes, as a
//! provider's retry does.

mod sns;

use aws_lc_rs::rand::SystemRandom;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use event::Provider;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub use sns::{ses, ses_message, ses_subscription_confirmation};

use crate::credentials::{BODY_ONLY_SOURCE, path};
use crate::{Credentials, Fact, SignedRequest, shape};

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

/// SendGrid's signature over any body: ECDSA P-256 with SHA-256 over `timestamp ‖ body`, ASN.1
/// DER, base64.
pub fn sendgrid_body(
    credentials: &Credentials,
    source: &str,
    body: Bytes,
    now_unix: i64,
) -> SignedRequest {
    let timestamp = now_unix.to_string();
    let message = [timestamp.as_bytes(), &body].concat();
    let signature = credentials
        .sendgrid
        .sign(&SystemRandom::new(), &message)
        .map(|signature| STANDARD.encode(signature))
        .unwrap_or_default();
    request(
        Provider::SendGrid,
        source,
        &[
            ("content-type", "application/json"),
            ("user-agent", "SendGrid Event API"),
            ("x-twilio-email-event-webhook-timestamp", &timestamp),
            ("x-twilio-email-event-webhook-signature", &signature),
        ],
        body,
    )
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

/// Mailgun's envelope around any JSON text. The block is hex HMAC-SHA256 over `timestamp ‖ token`
/// and says nothing of the event. The token, 50 characters, is made from the event, so a retry
/// carries the block of the first attempt.
pub fn mailgun_text(
    credentials: &Credentials,
    source: &str,
    event_data: &str,
    now_unix: i64,
) -> SignedRequest {
    let timestamp = now_unix.to_string();
    let token = &hex::encode(Sha256::digest(event_data))[..50];
    let signature =
        mailgun_signature(credentials.mailgun_signing_key.as_bytes(), &timestamp, token);
    let block = json!({"timestamp": timestamp, "token": token, "signature": signature});
    let body = format!("{{\"signature\":{block},\"event-data\":{event_data}}}");
    request(
        Provider::Mailgun,
        source,
        &[("content-type", "application/json"), ("user-agent", "mailgun/treq-20.9.0")],
        body.into(),
    )
}

fn mailgun_signature(key: &[u8], timestamp: &str, token: &str) -> String {
    hex::encode(hmac_sha256(key, &[timestamp.as_bytes(), token.as_bytes()]))
}

/// Postmark: one event; HTTP basic credentials and no signature.
pub fn postmark(credentials: &Credentials, source: &str, event: &Value) -> SignedRequest {
    postmark_body(credentials, source, event.to_string().into())
}

/// Any body with Postmark's credentials.
pub fn postmark_body(credentials: &Credentials, source: &str, body: Bytes) -> SignedRequest {
    let authorization = format!("Basic {}", STANDARD.encode(credentials.postmark_login));
    request(
        Provider::Postmark,
        source,
        &[
            ("content-type", "application/json"),
            ("user-agent", "Postmark"),
            ("authorization", &authorization),
        ],
        body,
    )
}

/// Mandrill: a form with one field, a JSON array in which PHP has escaped every slash. No events
/// is the ping that registers a webhook.
pub fn mandrill(credentials: &Credentials, source: &str, events: &[Value]) -> SignedRequest {
    let value = Value::from(events).to_string().replace('/', "\\/");
    mandrill_value(credentials, source, &value)
}

/// Mandrill's form with any text as the field's value. Signed is the configured URL followed by
/// name and decoded value: HMAC-SHA1, base64.
pub fn mandrill_value(credentials: &Credentials, source: &str, value: &str) -> SignedRequest {
    let url = credentials.mandrill_url(source);
    let signature = mandrill_signature(credentials.mandrill_webhook_key.as_bytes(), &url, value);
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("mandrill_events", value)
        .finish();
    request(
        Provider::Mandrill,
        source,
        &[
            ("content-type", "application/x-www-form-urlencoded"),
            ("user-agent", "Mandrill-Webhook/1.0"),
            ("x-mandrill-signature", &signature),
        ],
        body.into(),
    )
}

#[allow(clippy::expect_used, reason = "an HMAC takes a key of any length")]
fn mandrill_signature(key: &[u8], url: &str, value: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("a key of any length");
    mac.update(url.as_bytes());
    mac.update(b"mandrill_events");
    mac.update(value.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// The generic provider: one object for one event, an array for more; signed as the source is
/// configured (the source `legacy` signs the body alone, every other `timestamp.body`).
pub fn generic(
    credentials: &Credentials,
    source: &str,
    events: &[Value],
    now_unix: i64,
) -> SignedRequest {
    let body = match events {
        [event] => event.to_string(),
        events => Value::from(events).to_string(),
    };
    generic_body(credentials, source, body.into(), now_unix)
}

/// The generic provider's signature over any body: `sha256=` and hex HMAC-SHA256.
pub fn generic_body(
    credentials: &Credentials,
    source: &str,
    body: Bytes,
    now_unix: i64,
) -> SignedRequest {
    let keyed = hmac_sha256_keyed(credentials.generic_secret.as_bytes());
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
    request(
        Provider::Generic,
        source,
        &[
            ("content-type", "application/json"),
            ("x-mailpulse-timestamp", &timestamp),
            ("x-mailpulse-signature", &signature),
        ],
        body,
    )
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
        Provider::Postmark => each(&|event| postmark(credentials, source, event)),
        Provider::Ses => each(&|event| ses(credentials, source, event, now_unix)),
        Provider::Mandrill => vec![mandrill(credentials, source, &events)],
        Provider::Generic => vec![generic(credentials, source, &events, now_unix)],
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
    match provider {
        Provider::SendGrid => sendgrid_body(credentials, source, cut.into(), now_unix),
        Provider::Mailgun => {
            mailgun_text(credentials, source, &format!("\"garbage {n}\""), now_unix)
        }
        Provider::Postmark => postmark_body(credentials, source, cut.into()),
        Provider::Ses => ses_message(credentials, source, &cut[1..], now_unix),
        Provider::Mandrill => mandrill_value(credentials, source, &cut),
        Provider::Generic => generic_body(credentials, source, cut.into(), now_unix),
    }
}

fn request(
    provider: Provider,
    source: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> SignedRequest {
    let headers =
        headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    SignedRequest { path: path(provider, source), headers, body }
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = hmac_sha256_keyed(key);
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[allow(clippy::expect_used, reason = "an HMAC takes a key of any length")]
pub(crate) fn hmac_sha256_keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key of any length")
}

#[cfg(test)]
mod tests;
