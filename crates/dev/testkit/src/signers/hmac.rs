//! Schemes with a shared secret.

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::SignedBody;

/// Signs for Mailgun: an envelope with one event, which may be any JSON text, and a signature
/// block. The block is hex HMAC-SHA256 over `timestamp ‖ token` and does not cover the event. The
/// token of 50 characters is derived from the event, so a retry has the same block.
pub fn mailgun(key: &[u8], event_data: &str, now_unix: i64) -> SignedBody {
    let (timestamp, token, signature) = mailgun_block(key, event_data.as_bytes(), now_unix);
    let block = json!({"timestamp": timestamp, "token": token, "signature": signature});
    let body = format!("{{\"signature\":{block},\"event-data\":{event_data}}}");
    let headers = [("content-type", "application/json"), ("user-agent", "mailgun/treq-20.9.0")];
    SignedBody::new(&headers, body.into())
}

/// Signs Mailgun's format from before 2018: a form with the event's fields and the three fields of
/// the signature block.
pub fn mailgun_form(key: &[u8], fields: &[(String, String)], now_unix: i64) -> SignedBody {
    let event = format!("{fields:?}");
    let (timestamp, token, signature) = mailgun_block(key, event.as_bytes(), now_unix);
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .append_pair("timestamp", &timestamp)
        .append_pair("token", &token)
        .append_pair("signature", &signature)
        .finish();
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("user-agent", "mailgun/treq-20.9.0"),
    ];
    SignedBody::new(&headers, body.into())
}

fn mailgun_block(key: &[u8], event: &[u8], now_unix: i64) -> (String, String, String) {
    let (timestamp, digest) = (now_unix.to_string(), hex::encode(Sha256::digest(event)));
    let token = digest[..50].to_owned();
    let signature = hex_sha256(key, &[timestamp.as_bytes(), token.as_bytes()]);
    (timestamp, token, signature)
}

/// Signs for Mandrill: a form with one field, which may be any text. HMAC-SHA1 over the configured
/// URL, the field's name and its decoded value, base64.
pub fn mandrill(key: &[u8], url: &str, value: &str) -> SignedBody {
    const FIELD: &str = "mandrill_events";
    let parts = [url.as_bytes(), FIELD.as_bytes(), value.as_bytes()];
    let signature = STANDARD.encode(Hash::Sha1.hmac(key, &parts));
    let body = form_urlencoded::Serializer::new(String::new()).append_pair(FIELD, value).finish();
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("user-agent", "Mandrill-Webhook/1.0"),
        ("x-mandrill-signature", &signature),
    ];
    SignedBody::new(&headers, body.into())
}

/// Signs for MailerSend: hex HMAC-SHA256 of the body.
pub fn mailersend(key: &[u8], body: Bytes) -> SignedBody {
    let signature = hex_sha256(key, &[&body]);
    let headers = [
        ("content-type", "application/json"),
        ("user-agent", "MailerSend"),
        ("signature", &signature),
    ];
    SignedBody::new(&headers, body)
}

/// A key of a Standard Webhooks endpoint.
#[derive(Clone, Copy)]
pub enum WebhookKey<'a> {
    /// Scheme `v1`: HMAC-SHA256 with the decoded secret.
    Hmac(&'a [u8]),
    /// Scheme `v1a`: Ed25519.
    Ed25519(&'a Ed25519KeyPair),
}

/// Signs with Standard Webhooks: `id.timestamp.body` with every key, separated by spaces. The
/// `prefix` of the headers is `webhook`, or `svix` for Svix and Resend. The id is derived from the
/// body, so a retry has the same id.
pub fn standard_webhooks(
    keys: &[WebhookKey<'_>],
    prefix: &str,
    body: Bytes,
    now_unix: i64,
) -> SignedBody {
    let id = format!("msg_{}", &hex::encode(Sha256::digest(&body))[..27]);
    let timestamp = now_unix.to_string();
    let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", &body].concat();
    let signatures: Vec<String> = keys
        .iter()
        .map(|key| match key {
            WebhookKey::Hmac(key) => {
                format!("v1,{}", STANDARD.encode(Hash::Sha256.hmac(key, &[&message])))
            }
            WebhookKey::Ed25519(key) => format!("v1a,{}", STANDARD.encode(key.sign(&message))),
        })
        .collect();
    let headers = [
        ("content-type", "application/json"),
        ("user-agent", "Svix-Webhooks/1.84"),
        (&*format!("{prefix}-id"), &*id),
        (&*format!("{prefix}-timestamp"), &*timestamp),
        (&*format!("{prefix}-signature"), &*signatures.join(" ")),
    ];
    SignedBody::new(&headers, body)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    Sha1,
    Sha256,
    Sha512,
}

impl Hash {
    /// Returns the HMAC of the concatenated parts.
    pub fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Sha1 => hmac::<Hmac<Sha1>>(key, parts),
            Self::Sha256 => hmac::<Hmac<Sha256>>(key, parts),
            Self::Sha512 => hmac::<Hmac<Sha512>>(key, parts),
        }
    }
}

/// The generic scheme, with the options of a generic source.
#[derive(Debug, Clone, Copy)]
pub struct GenericScheme<'a> {
    pub key: &'a [u8],
    pub hash: Hash,
    /// Whether the signature is base64 instead of hexadecimal.
    pub is_base64: bool,
    /// Precedes the signature in its header.
    pub prefix: &'a str,
    /// The name of the signature's header.
    pub header: &'a str,
    /// The template of the signed text, with `{body}`, `{timestamp}` and `{id}`.
    pub signed: &'a str,
    /// Sent if `signed` contains `{timestamp}`.
    pub timestamp_header: &'a str,
    /// Whether the timestamp is in milliseconds instead of seconds.
    pub is_millis: bool,
    /// Sent if `signed` contains `{id}`.
    pub id_header: &'a str,
}

impl GenericScheme<'_> {
    /// Signs a body. The id is derived from the body, so a retry has the same id.
    pub fn sign(&self, body: Bytes, now_unix: i64) -> SignedBody {
        let timestamp = (if self.is_millis { now_unix * 1_000 } else { now_unix }).to_string();
        let id = hex::encode(&Sha256::digest(&body)[..16]);
        let message = self.message(&id, &timestamp, &body);
        let tag = self.hash.hmac(self.key, &[&message]);
        let written = if self.is_base64 { STANDARD.encode(tag) } else { hex::encode(tag) };
        let signature = format!("{}{written}", self.prefix);
        let (header, id_header) =
            (self.header.to_ascii_lowercase(), self.id_header.to_ascii_lowercase());
        let timestamp_header = self.timestamp_header.to_ascii_lowercase();
        let mut headers = vec![("content-type", "application/json")];
        if self.signed.contains("{id}") {
            headers.push((&id_header, &id));
        }
        if self.signed.contains("{timestamp}") {
            headers.push((&timestamp_header, &timestamp));
        }
        headers.push((&header, &signature));
        SignedBody::new(&headers, body)
    }

    fn message(&self, id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
        // Each part after the first begins with a name and `}`.
        let mut parts = self.signed.split('{');
        let mut message = parts.next().unwrap_or_default().as_bytes().to_vec();
        for part in parts {
            let (name, text) = part.split_once('}').unwrap_or((part, ""));
            message.extend_from_slice(match name {
                "id" => id.as_bytes(),
                "timestamp" => timestamp.as_bytes(),
                "body" => body,
                other => other.as_bytes(),
            });
            message.extend_from_slice(text.as_bytes());
        }
        message
    }
}

fn hex_sha256(key: &[u8], parts: &[&[u8]]) -> String {
    hex::encode(Hash::Sha256.hmac(key, parts))
}

/// Returns an HMAC that has already processed the key, to sign millions of bodies.
pub(crate) fn keyed_sha256(key: &[u8]) -> Hmac<Sha256> {
    keyed(key)
}

fn hmac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac: M = keyed(key);
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

#[allow(clippy::expect_used, reason = "an HMAC accepts keys of any length")]
fn keyed<M: KeyInit>(key: &[u8]) -> M {
    M::new_from_slice(key).expect("a key of any length")
}
