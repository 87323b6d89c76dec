//! Which signer a provider needs, and what of the body it is put around.

use event::Provider;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use testkit::seal::{self, Generic, Hash, Login, Sealed, SnsSigner, WebhookKey};

use super::keys::{self, Webhook};
use crate::Unusable;
use crate::args::{Scheme, Sign};

/// An address of Amazon's form, known to nobody at Amazon.
const CERTIFICATE_URL: &str = "https://sns.eu-west-1.amazonaws.com/\
     SimpleNotificationService-00000000000000000000000000000000.pem";
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:mail-events";

/// Signs `body` with the secrets: with the first one, or with all where a request has room for
/// several signatures.
pub(super) fn seal(
    how: &Sign,
    secrets: &[String],
    body: Vec<u8>,
    now: i64,
) -> Result<Sealed, Unusable> {
    let Some(secret) = secrets.first() else {
        return Err(Unusable(format!(
            "{} requests are made with a secret: give --secret-file, or --generate-key",
            how.provider
        )));
    };
    let key = secret.as_bytes();
    match how.provider {
        Provider::SendGrid => {
            seal::sendgrid(&keys::p256(secret)?, body.into(), now).map_err(cannot_sign)
        }
        Provider::Mailgun => mailgun(key, &body, now),
        Provider::Postmark | Provider::SparkPost | Provider::Brevo | Provider::Mailjet => {
            let agent = format!("mailpulse sign ({})", how.provider);
            Ok(seal::login(login(&how.scheme, secret)?, &agent, body.into()))
        }
        Provider::Ses => ses(&how.scheme, secret, &body, now),
        Provider::Mandrill => mandrill(&how.scheme, key, &body),
        Provider::Generic => generic(&how.scheme, secret, body, now),
        Provider::Resend => webhooks(secrets, "svix", body, now),
        Provider::StandardWebhooks => webhooks(secrets, "webhook", body, now),
        Provider::MailerSend => Ok(seal::mailersend(key, body.into())),
        Provider::Postal => {
            seal::postal(&keys::rsa(secret)?, &how.key_id, body.into()).map_err(cannot_sign)
        }
    }
}

/// Around an event, in place of the signature of a whole body, or into an old form.
fn mailgun(key: &[u8], body: &[u8], now: i64) -> Result<Sealed, Unusable> {
    #[derive(Deserialize)]
    struct Body<'b> {
        #[serde(rename = "event-data", borrow)]
        event_data: Option<&'b RawValue>,
    }
    let text = text(body)?;
    match serde_json::from_str::<Body<'_>>(text) {
        Ok(Body { event_data: Some(event) }) => Ok(seal::mailgun(key, event.get(), now)),
        Ok(Body { event_data: None }) => Ok(seal::mailgun(key, text.trim(), now)),
        Err(_) if text.trim_start().starts_with(['{', '[']) || !text.contains('=') => {
            Err(Unusable("the body is neither a JSON object nor a form".to_owned()))
        }
        Err(_) => {
            let block = ["timestamp", "token", "signature"];
            let fields: Vec<(String, String)> = form_urlencoded::parse(text.trim().as_bytes())
                .into_owned()
                .filter(|(name, _)| !block.contains(&&**name))
                .collect();
            Ok(seal::mailgun_form(key, &fields, now))
        }
    }
}

fn mandrill(scheme: &Scheme, key: &[u8], body: &[u8]) -> Result<Sealed, Unusable> {
    let Some(url) = &scheme.url else {
        let text = "Mandrill signs the webhook's address: give it with --url";
        return Err(Unusable(text.to_owned()));
    };
    let text = text(body)?.trim();
    let field = |(name, value)| (name == "mandrill_events").then_some(value);
    let value = form_urlencoded::parse(text.as_bytes()).find_map(field);
    Ok(seal::mandrill(key, url, value.as_deref().unwrap_or(text)))
}

fn login<'s>(scheme: &'s Scheme, secret: &'s str) -> Result<Login<'s>, Unusable> {
    match (&scheme.header, scheme.scheme.as_deref()) {
        (Some(name), _) => Ok(Login::Header(name, secret)),
        (None, Some("bearer")) => Ok(Login::Bearer(secret)),
        (None, _) if secret.contains(':') => Ok(Login::Basic(secret)),
        (None, _) => {
            let text =
                "the secret file has no `user:password`; or say --scheme bearer, or --header";
            Err(Unusable(text.to_owned()))
        }
    }
}

/// A notification around a record or any other text; an envelope is signed anew as it stands.
fn ses(scheme: &Scheme, secret: &str, body: &[u8], now: i64) -> Result<Sealed, Unusable> {
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
    seal::sns(signer, &fields).map_err(cannot_sign)
}

/// The signed fields of an SNS envelope; `None` where the text is none.
fn envelope(text: &str) -> Option<Vec<(&'static str, String)>> {
    let value: Value = serde_json::from_str(text).ok()?;
    value.get("Type")?.as_str()?;
    let field = |name: &'static str| Some((name, value.get(name)?.as_str()?.to_owned()));
    Some(seal::ENVELOPE_FIELDS.into_iter().filter_map(field).collect())
}

/// Made from the message, so that the same one signed again is a retry.
fn message_id(text: &str) -> String {
    use sha2::{Digest, Sha256};
    let hex = hex::encode(Sha256::digest(text));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]].join("-")
}

fn webhooks(secrets: &[String], prefix: &str, body: Vec<u8>, now: i64) -> Result<Sealed, Unusable> {
    let keys: Vec<Webhook> =
        secrets.iter().map(|secret| keys::webhook(secret)).collect::<Result<_, _>>()?;
    let keys: Vec<WebhookKey<'_>> = keys
        .iter()
        .map(|key| match key {
            Webhook::Hmac(key) => WebhookKey::Hmac(key),
            Webhook::Ed25519(pair) => WebhookKey::Ed25519(pair),
        })
        .collect();
    Ok(seal::standard_webhooks(&keys, prefix, body.into(), now))
}

/// The defaults are those of a source.
fn generic(scheme: &Scheme, secret: &str, body: Vec<u8>, now: i64) -> Result<Sealed, Unusable> {
    let key = key(scheme, secret)?;
    let algorithm = scheme.algorithm.as_deref().unwrap_or("sha256");
    let prefix = scheme.prefix.clone().unwrap_or_else(|| format!("{algorithm}="));
    let or = |given: &'_ Option<String>, default: &str| given.clone().unwrap_or(default.to_owned());
    let generic = Generic {
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
    Ok(generic.seal(body.into(), now))
}

fn key(scheme: &Scheme, secret: &str) -> Result<Vec<u8>, Unusable> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let (decoded, encoding) = match scheme.secret_encoding.as_deref() {
        Some("hex") => (hex::decode(secret).ok(), "hexadecimal"),
        Some("base64") => (STANDARD.decode(secret).ok(), "base64"),
        _ => (Some(secret.as_bytes().to_vec()), "text"),
    };
    let usable = decoded.filter(|key| !key.is_empty());
    usable.ok_or_else(|| Unusable(format!("the secret file holds no {encoding}")))
}

fn text(body: &[u8]) -> Result<&str, Unusable> {
    std::str::from_utf8(body).map_err(|_| Unusable("the body is not UTF-8".to_owned()))
}

fn cannot_sign(error: seal::CannotSign) -> Unusable {
    Unusable(error.to_string())
}
