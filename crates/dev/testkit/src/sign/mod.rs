//! Signs requests with the keys of [`Credentials`]. For each provider there is a function that
//! takes payloads, and one that takes any text, for authentic bodies with malformed content. The
//! signature schemes are in [`crate::signers`].

mod sns;
mod values;

use bytes::Bytes;
use event::Provider;
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

pub use sns::{ses, ses_message, ses_subscription_confirmation};
pub use values::values;

use crate::credentials::{BODY_ONLY_SOURCE, path};
use crate::signers::{self, Login, SignedBody, WebhookKey};
use crate::{Credentials, MailEvent, SignedRequest, payloads};

const POSTAL_KEY_ID: &str = "testkit";

/// Signs a SendGrid request. A single event is an array, too. Like SendGrid, it separates events
/// with CRLF and escapes `<` and `>`, so a body that was parsed and written again does not verify.
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

/// Signs any body for SendGrid.
pub fn sendgrid_body(
    credentials: &Credentials,
    source: &str,
    body: Bytes,
    now_unix: i64,
) -> SignedRequest {
    let signed_body = signers::sendgrid(&credentials.sendgrid, body, now_unix);
    request(Provider::SendGrid, source, expect_signed(signed_body))
}

/// Signs a Mailgun request with one event. The signature is part of the body.
pub fn mailgun(
    credentials: &Credentials,
    source: &str,
    event_data: &Value,
    now_unix: i64,
) -> SignedRequest {
    mailgun_text(credentials, source, &event_data.to_string(), now_unix)
}

/// Signs any JSON text as `event-data` of Mailgun.
pub fn mailgun_text(
    credentials: &Credentials,
    source: &str,
    event_data: &str,
    now_unix: i64,
) -> SignedRequest {
    let key = credentials.mailgun_signing_key.as_bytes();
    request(Provider::Mailgun, source, signers::mailgun(key, event_data, now_unix))
}

/// Signs a Mandrill request: a form with one field, a JSON array. Like PHP, it escapes every slash.
/// Without events it is the ping that Mandrill sends when a webhook is registered.
pub fn mandrill(credentials: &Credentials, source: &str, events: &[Value]) -> SignedRequest {
    let value = Value::from(events).to_string().replace('/', "\\/");
    mandrill_value(credentials, source, &value)
}

/// Signs any text as the field of Mandrill's form.
pub fn mandrill_value(credentials: &Credentials, source: &str, value: &str) -> SignedRequest {
    let (key, url) =
        (credentials.mandrill_webhook_key.as_bytes(), credentials.mandrill_url(source));
    request(Provider::Mandrill, source, signers::mandrill(key, &url, value))
}

/// Adds the credentials of a provider without signatures to any body: HTTP basic authentication for
/// Postmark, SparkPost and Mailjet, a bearer token for Brevo.
///
/// # Panics
/// If the provider signs its requests.
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
        other => panic!("{other} signs its requests"),
    };
    request(provider, source, signers::login(login, agent, body))
}

/// Returns a Postmark request with one event and HTTP basic authentication.
pub fn postmark(credentials: &Credentials, source: &str, event: &Value) -> SignedRequest {
    postmark_body(credentials, source, event.to_string().into())
}

/// Adds Postmark's credentials to any body.
pub fn postmark_body(credentials: &Credentials, source: &str, body: Bytes) -> SignedRequest {
    unsigned_body(credentials, Provider::Postmark, source, body)
}

/// Signs any body for Resend: Standard Webhooks with Svix's header names.
pub fn resend_body(
    credentials: &Credentials,
    source: &str,
    body: Bytes,
    now_unix: i64,
) -> SignedRequest {
    let key = WebhookKey::Hmac(credentials.resend_key);
    let signed_body = signers::standard_webhooks(&[key], "svix", body, now_unix);
    request(Provider::Resend, source, signed_body)
}

/// Signs any body with Standard Webhooks `v1`.
pub fn standard_webhooks_body(
    credentials: &Credentials,
    source: &str,
    body: Bytes,
    now_unix: i64,
) -> SignedRequest {
    let key = WebhookKey::Hmac(credentials.standard_webhooks_key);
    let signed_body = signers::standard_webhooks(&[key], "webhook", body, now_unix);
    request(Provider::StandardWebhooks, source, signed_body)
}

/// Signs any body for MailerSend.
pub fn mailersend_body(credentials: &Credentials, source: &str, body: Bytes) -> SignedRequest {
    let signed_body = signers::mailersend(credentials.mailersend_secret.as_bytes(), body);
    request(Provider::MailerSend, source, signed_body)
}

/// Signs any body for Postal, with SHA-1 and SHA-256.
pub fn postal_body(credentials: &Credentials, source: &str, body: Bytes) -> SignedRequest {
    let signed_body = signers::postal(&credentials.postal, POSTAL_KEY_ID, body);
    request(Provider::Postal, source, expect_signed(signed_body))
}

/// Signs a request of the generic provider: an object for one event, an array for several. The
/// source `legacy` signs only the body, all others `timestamp.body`.
pub fn generic(
    credentials: &Credentials,
    source: &str,
    events: &[Value],
    now_unix: i64,
) -> SignedRequest {
    generic_body(credentials, source, one_or_array(events), now_unix)
}

/// Signs any body for the generic provider: `sha256=` and hex HMAC-SHA256.
pub fn generic_body(
    credentials: &Credentials,
    source: &str,
    body: Bytes,
    now_unix: i64,
) -> SignedRequest {
    let keyed = signers::keyed_sha256(credentials.generic_secret.as_bytes());
    generic_keyed(&keyed, source, body, now_unix)
}

/// Like [`generic_body`], with an HMAC that has already processed the key.
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
    request(Provider::Generic, source, SignedBody { headers, body })
}

/// Signs the events of one source as the provider posts them: in one request if it posts batches,
/// and otherwise in one request per event. Omits events that the provider does not report.
pub fn events(
    credentials: &Credentials,
    events: &[MailEvent],
    now_unix: i64,
) -> Vec<SignedRequest> {
    let Some(first) = events.first() else { return Vec::new() };
    let json: Vec<Value> = events.iter().filter_map(payloads::json).collect();
    values(credentials, first.provider, &first.source, &json, now_unix)
}

/// Signs a body that cannot be parsed: JSON that ends in the middle. For Mailgun `event-data` is
/// not an object instead, because the signature is inside the JSON. `n` makes each body different.
pub fn malformed(
    credentials: &Credentials,
    provider: Provider,
    source: &str,
    n: usize,
    now_unix: i64,
) -> SignedRequest {
    let text = format!("[{{\"event\":\"delivered\",\"garbage\":{n},\"email\":\"ada");
    let text = match provider {
        Provider::Mailgun => format!("\"garbage {n}\""),
        Provider::Ses => text[1..].to_owned(),
        _ => text,
    };
    body(credentials, provider, source, text, now_unix)
}

/// Signs any text as the body, for Mailgun as `event-data`, for SES as the message, and for
/// Mandrill as the form field.
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
        #[allow(unreachable_patterns, reason = "a provider that is not in `PROVIDERS`")]
        other => panic!("testkit has no signer for {other}"),
    }
}

fn one_or_array(events: &[Value]) -> Bytes {
    match events {
        [event] => event.to_string().into(),
        events => Value::from(events).to_string().into(),
    }
}

#[allow(clippy::expect_used, reason = "the keys are compiled in; a bad one fails every test")]
fn expect_signed(signed_body: Result<SignedBody, signers::SigningFailed>) -> SignedBody {
    signed_body.expect("a key that can sign")
}

fn request(
    provider: Provider,
    source: &str,
    SignedBody { headers, body }: SignedBody,
) -> SignedRequest {
    SignedRequest { path: path(provider, source), headers, body }
}

#[cfg(test)]
mod tests;
