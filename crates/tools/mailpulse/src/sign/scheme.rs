//! Selects the signer of a provider, and puts the body into the provider's envelope.

use event::Provider;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use testkit::signers::{
    self, GenericScheme, Hash, Login, SignedBody, SigningFailed, SnsSigner, WebhookKey,
};

use super::keys::{self, WebhookSecret};
use crate::InputError;
use crate::args::Scheme;

/// Has the form of Amazon's addresses and does not exist.
const CERTIFICATE_URL: &str = "https://sns.eu-west-1.amazonaws.com/\
     SimpleNotificationService-00000000000000000000000000000000.pem";
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:mail-events";

/// What decides the signature besides the body and the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signing<'a> {
    pub(crate) provider: Provider,
    pub(crate) scheme: &'a Scheme,
    /// Postal: the id of the key.
    pub(crate) key_id: &'a str,
    /// The texts of the keys that sign.
    pub(crate) secrets: &'a [String],
}

/// Signs `body` with the first secret, or with all secrets if the scheme allows several signatures. `now` is in unix
/// seconds.
///
/// # Errors
/// If the secret is missing or is no key, or if the body cannot be in the provider's envelope.
pub(crate) fn sign(
    signing: Signing<'_>,
    body: Vec<u8>,
    now: i64,
) -> Result<SignedBody, InputError> {
    let Signing { provider, scheme, key_id, secrets } = signing;
    let Some(secret) = secrets.first() else {
        return Err(InputError(format!(
            "{provider} requests need a secret: give --secret-file or --generate-key"
        )));
    };
    let key = secret.as_bytes();
    match provider {
        Provider::SendGrid => {
            signers::sendgrid(&keys::p256(secret)?, body.into(), now).map_err(cannot_sign)
        }
        Provider::Mailgun => mailgun(key, &body, now),
        Provider::Postmark | Provider::SparkPost | Provider::Brevo | Provider::Mailjet => {
            let agent = format!("mailpulse sign ({provider})");
            Ok(signers::login(login(scheme, secret)?, &agent, body.into()))
        }
        Provider::Ses => ses(scheme, secret, &body, now),
        Provider::Mandrill => mandrill(scheme, key, &body),
        Provider::Generic => generic(scheme, secret, body, now),
        Provider::Resend => webhooks(secrets, "svix", body, now),
        Provider::StandardWebhooks => webhooks(secrets, "webhook", body, now),
        Provider::MailerSend => Ok(signers::mailersend(key, body.into())),
        Provider::Postal => {
            signers::postal(&keys::rsa(secret)?, key_id, body.into()).map_err(cannot_sign)
        }
        #[allow(unreachable_patterns, reason = "a provider that has no signer yet")]
        other => Err(InputError(format!("`mailpulse sign` cannot sign requests of {other} yet"))),
    }
}

/// Adds the signature to an event, or replaces the signature of a body or of a form from before
/// 2018.
fn mailgun(key: &[u8], body: &[u8], now: i64) -> Result<SignedBody, InputError> {
    #[derive(Deserialize)]
    struct Body<'b> {
        #[serde(rename = "event-data", borrow)]
        event_data: Option<&'b RawValue>,
    }
    let text = text(body)?;
    match serde_json::from_str::<Body<'_>>(text) {
        Ok(Body { event_data: Some(event) }) => Ok(signers::mailgun(key, event.get(), now)),
        Ok(Body { event_data: None }) => Ok(signers::mailgun(key, text.trim(), now)),
        Err(_) if text.trim_start().starts_with(['{', '[']) || !text.contains('=') => {
            Err(InputError("the body is neither a JSON object nor a form".to_owned()))
        }
        Err(_) => {
            let block = ["timestamp", "token", "signature"];
            let fields: Vec<(String, String)> = form_urlencoded::parse(text.trim().as_bytes())
                .into_owned()
                .filter(|(name, _)| !block.contains(&&**name))
                .collect();
            Ok(signers::mailgun_form(key, &fields, now))
        }
    }
}

fn mandrill(scheme: &Scheme, key: &[u8], body: &[u8]) -> Result<SignedBody, InputError> {
    let Some(url) = &scheme.url else {
        let text = "Mandrill signs the webhook's address: give it with --url";
        return Err(InputError(text.to_owned()));
    };
    let text = text(body)?.trim();
    let field = |(name, value)| (name == "mandrill_events").then_some(value);
    let value = form_urlencoded::parse(text.as_bytes()).find_map(field);
    Ok(signers::mandrill(key, url, value.as_deref().unwrap_or(text)))
}

fn login<'s>(scheme: &'s Scheme, secret: &'s str) -> Result<Login<'s>, InputError> {
    match (&scheme.header, scheme.scheme.as_deref()) {
        (Some(name), _) => Ok(Login::Header(name, secret)),
        (None, Some("bearer")) => Ok(Login::Bearer(secret)),
        (None, _) if secret.contains(':') => Ok(Login::Basic(secret)),
        (None, _) => {
            let text = "the secret must be `user:password`, or give --scheme bearer or --header";
            Err(InputError(text.to_owned()))
        }
    }
}

/// Puts a record, or any other text, into a notification. Replaces the signature of an envelope.
fn ses(scheme: &Scheme, secret: &str, body: &[u8], now: i64) -> Result<SignedBody, InputError> {
    let (key, text) = (keys::rsa(secret)?, text(body)?);
    let at = jiff::Timestamp::from_second(now).unwrap_or_default();
    let topic = scheme.topics.first().map_or(TOPIC, String::as_str);
    let fields = match envelope(text) {
        Some(fields) => fields,
        None => vec![
            ("Type", "Notification".to_owned()),
            ("MessageId", message_id(text)),
            ("TopicArn", topic.to_owned()),
            ("Message", text.to_owned()),
            ("Timestamp", at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()),
        ],
    };
    let version = scheme.signature_version.unwrap_or(2);
    let signer = SnsSigner { key: &key, certificate_url: CERTIFICATE_URL, version };
    signers::sns(signer, &fields).map_err(cannot_sign)
}

/// Returns the signed fields of an SNS envelope, or `None` if the text is not an envelope.
fn envelope(text: &str) -> Option<Vec<(&'static str, String)>> {
    let value: Value = serde_json::from_str(text).ok()?;
    value.get("Type")?.as_str()?;
    let field = |name: &'static str| Some((name, value.get(name)?.as_str()?.to_owned()));
    Some(signers::ENVELOPE_FIELDS.into_iter().filter_map(field).collect())
}

/// Derives the id from the message, so that the same message signed again is a retry.
fn message_id(text: &str) -> String {
    use sha2::{Digest, Sha256};
    let hex = hex::encode(Sha256::digest(text));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]].join("-")
}

fn webhooks(
    secrets: &[String],
    prefix: &str,
    body: Vec<u8>,
    now: i64,
) -> Result<SignedBody, InputError> {
    let keys: Vec<WebhookSecret> =
        secrets.iter().map(|secret| keys::webhook(secret)).collect::<Result<_, _>>()?;
    let keys: Vec<WebhookKey<'_>> = keys
        .iter()
        .map(|key| match key {
            WebhookSecret::Hmac(key) => WebhookKey::Hmac(key),
            WebhookSecret::Ed25519(pair) => WebhookKey::Ed25519(pair),
        })
        .collect();
    Ok(signers::standard_webhooks(&keys, prefix, body.into(), now))
}

/// Has the same defaults as a generic source.
fn generic(
    scheme: &Scheme,
    secret: &str,
    body: Vec<u8>,
    now: i64,
) -> Result<SignedBody, InputError> {
    let key = key(scheme, secret)?;
    let algorithm = scheme.algorithm.as_deref().unwrap_or("sha256");
    let prefix = scheme.prefix.clone().unwrap_or_else(|| format!("{algorithm}="));
    let or = |given: &'_ Option<String>, default: &str| given.clone().unwrap_or(default.to_owned());
    let generic = GenericScheme {
        key: &key,
        hash: match algorithm {
            "sha1" => Hash::Sha1,
            "sha512" => Hash::Sha512,
            _ => Hash::Sha256,
        },
        is_base64: scheme.encoding.as_deref() == Some("base64"),
        prefix: &prefix,
        header: &or(&scheme.header, "x-mailpulse-signature"),
        signed: match scheme.signed.as_deref() {
            Some("body") => "{body}",
            None | Some("timestamp.body") => "{timestamp}.{body}",
            Some(template) => template,
        },
        timestamp_header: &or(&scheme.timestamp_header, "x-mailpulse-timestamp"),
        is_millis: scheme.timestamp_unit.as_deref() == Some("milliseconds"),
        id_header: &or(&scheme.id_header, "x-mailpulse-id"),
    };
    Ok(generic.sign(body.into(), now))
}

fn key(scheme: &Scheme, secret: &str) -> Result<Vec<u8>, InputError> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let (decoded, encoding) = match scheme.secret_encoding.as_deref() {
        Some("hex") => (hex::decode(secret).ok(), "hexadecimal"),
        Some("base64") => (STANDARD.decode(secret).ok(), "base64"),
        _ => (Some(secret.as_bytes().to_vec()), "text"),
    };
    let key = decoded.filter(|key| !key.is_empty());
    key.ok_or_else(|| InputError(format!("the secret file has no {encoding}")))
}

fn text(body: &[u8]) -> Result<&str, InputError> {
    std::str::from_utf8(body).map_err(|_| InputError("the body is not UTF-8".to_owned()))
}

fn cannot_sign(error: SigningFailed) -> InputError {
    InputError(error.to_string())
}
