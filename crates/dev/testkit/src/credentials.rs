use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use event::Provider;

/// Invented senders: one for each provider, and a second generic source that signs only the body,
/// without a timestamp.
pub const SOURCES: [(Provider, &str); 14] = [
    (Provider::SendGrid, "acme"),
    (Provider::Mailgun, "blue-shop"),
    (Provider::Postmark, "receipts"),
    (Provider::Ses, "news"),
    (Provider::Mandrill, "city-press"),
    (Provider::Generic, "inhouse"),
    (Provider::SparkPost, "harbour"),
    (Provider::Resend, "dev-tools"),
    (Provider::StandardWebhooks, "forum"),
    (Provider::Brevo, "bakery"),
    (Provider::Mailjet, "festival"),
    (Provider::MailerSend, "clinic"),
    (Provider::Postal, "campus"),
    (Provider::Generic, BODY_ONLY_SOURCE),
];

/// The providers whose requests this crate can generate. A provider that is not in [`SOURCES`] is
/// tested with its own fixtures and vectors only.
pub const PROVIDERS: [Provider; SOURCES.len() - 1] = {
    let mut providers = [Provider::SendGrid; SOURCES.len() - 1];
    let mut index = 0;
    while index < providers.len() {
        providers[index] = SOURCES[index].0;
        index += 1;
    }
    providers
};

/// The generic source whose signature covers only the body ([`crate::sign::generic_body`]).
pub(crate) const BODY_ONLY_SOURCE: &str = "legacy";

/// Precedes the base64 of the key in the configuration of Resend and Standard Webhooks sources.
const WEBHOOK_SECRET_PREFIX: &str = "whsec_";

const POSTAL_PUBLIC_KEY_PEM: &str = include_str!("../keys/postal-public-key.pem");
const CERTIFICATE_PEM: &str = include_str!("../keys/sns-certificate.pem");

/// The keys that sign requests, and the configuration that verifies them. Every call of
/// [`Credentials::new`] returns the same keys, so one process can write the configuration and
/// another can post.
#[derive(Clone)]
pub struct Credentials {
    public_base_url: String,
    pub(crate) sendgrid: Arc<EcdsaKeyPair>,
    pub(crate) mailgun_signing_key: &'static str,
    pub(crate) postmark_login: &'static str,
    pub(crate) sns: Arc<RsaKeyPair>,
    pub(crate) mandrill_webhook_key: &'static str,
    pub(crate) generic_secret: &'static str,
    pub(crate) sparkpost_login: &'static str,
    pub(crate) resend_key: &'static [u8],
    pub(crate) standard_webhooks_key: &'static [u8],
    pub(crate) brevo_token: &'static str,
    pub(crate) mailjet_login: &'static str,
    pub(crate) mailersend_secret: &'static str,
    pub(crate) postal: Arc<RsaKeyPair>,
}

impl Credentials {
    /// Returns the keys that the configuration trusts. `public_base_url` (scheme, host and port) is
    /// the address to which the providers would post; Mandrill signs it.
    pub fn new(public_base_url: &str) -> Self {
        Self {
            public_base_url: public_base_url.trim_end_matches('/').to_owned(),
            sendgrid: p256(include_str!("../keys/sendgrid-key.pem")),
            mailgun_signing_key: "key-testkit-0f5b1c2d3e4a59687786",
            postmark_login: "postmark:testkit-4b1d-9c0e-aa71",
            sns: rsa(include_str!("../keys/sns-key.pem")),
            mandrill_webhook_key: "testkit_Wz7rN0cXq2",
            generic_secret: "testkit-generic-8d2f6f5e3c",
            sparkpost_login: "sparkpost:testkit-77c0-4a1f",
            resend_key: b"testkit-resend-key-of-32-bytes-x",
            standard_webhooks_key: b"testkit-webhook-key-of-24",
            brevo_token: "testkit-brevo-5e0b7d1a",
            mailjet_login: "mailjet:testkit-19d3-bb42",
            mailersend_secret: "testkit-mailersend-c41d9f",
            postal: rsa(include_str!("../keys/postal-key.pem")),
        }
    }

    /// Returns keys that are not in the configuration. Requests signed with them have the right
    /// form and must be rejected.
    #[must_use]
    pub fn impostor(&self) -> Self {
        Self {
            public_base_url: self.public_base_url.clone(),
            sendgrid: p256(include_str!("../keys/impostor-sendgrid-key.pem")),
            mailgun_signing_key: "key-impostor",
            postmark_login: "postmark:guessed",
            sns: rsa(include_str!("../keys/impostor-sns-key.pem")),
            mandrill_webhook_key: "impostor",
            generic_secret: "impostor",
            sparkpost_login: "sparkpost:guessed",
            resend_key: b"impostor",
            standard_webhooks_key: b"impostor",
            brevo_token: "guessed",
            mailjet_login: "mailjet:guessed",
            mailersend_secret: "impostor",
            postal: rsa(include_str!("../keys/impostor-sns-key.pem")),
        }
    }

    /// Returns the secret of a SendGrid source: base64 of the DER `SubjectPublicKeyInfo`.
    pub fn sendgrid_public_key(&self) -> String {
        self.sendgrid
            .public_key()
            .as_der()
            .map(|der: PublicKeyX509Der<'_>| STANDARD.encode(der.as_ref()))
            .unwrap_or_default()
    }

    /// Returns the certificate that verifies SNS messages, as PEM.
    pub fn sns_certificate_pem(&self) -> &'static str {
        CERTIFICATE_PEM
    }

    /// Returns the `SigningCertURL` of SNS messages. It has the form of AWS's addresses and does
    /// not exist.
    pub fn sns_certificate_url(&self) -> &'static str {
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-7e577e577e577e577e577e577e577e57.pem"
    }

    /// Returns the secret of a Postal source: base64 of the DER `SubjectPublicKeyInfo`.
    pub fn postal_public_key(&self) -> String {
        POSTAL_PUBLIC_KEY_PEM.lines().filter(|line| !line.starts_with("-----")).collect()
    }

    /// Returns the SNS topic of every SES source.
    pub fn topic_arn(&self) -> &'static str {
        "arn:aws:sns:eu-west-1:123456789012:mail-events"
    }

    /// Returns the `public_url` of a Mandrill source.
    pub fn mandrill_url(&self, source: &str) -> String {
        format!("{}{}", self.public_base_url, path(Provider::Mandrill, source))
    }

    pub fn generic_secret(&self) -> &'static str {
        self.generic_secret
    }

    /// Returns the `[[source]]` tables of [`SOURCES`] for `mailpulse.toml`.
    pub fn sources_toml(&self) -> String {
        SOURCES.map(|(provider, name)| self.source_toml(provider, name)).join("\n")
    }

    /// Returns a `[[source]]` table with these keys and any source name.
    pub fn source_toml(&self, provider: Provider, name: &str) -> String {
        let (secret, options) = self.secret_and_options(provider, name);
        let secrets = secret.map_or(String::new(), |secret| format!("\"{secret}\""));
        format!(
            "[[source]]\nprovider = \"{provider}\"\nname = \"{name}\"\nsecrets = [{secrets}]\n{options}"
        )
    }

    /// Returns the configured secret (SNS has a certificate instead) and the other lines of the
    /// table.
    fn secret_and_options(&self, provider: Provider, name: &str) -> (Option<String>, String) {
        let secret = |secret: &str| Some(secret.to_owned());
        match provider {
            Provider::SendGrid => (Some(self.sendgrid_public_key()), String::new()),
            Provider::Mailgun => (secret(self.mailgun_signing_key), String::new()),
            Provider::Postmark => (secret(self.postmark_login), String::new()),
            Provider::Ses => (None, format!("topics = [\"{}\"]\n", self.topic_arn())),
            Provider::Mandrill => (
                secret(self.mandrill_webhook_key),
                format!("public_url = \"{}\"\n", self.mandrill_url(name)),
            ),
            Provider::Generic => (secret(self.generic_secret), generic_options(name)),
            Provider::SparkPost => (secret(self.sparkpost_login), String::new()),
            Provider::Resend => (Some(webhook_secret(self.resend_key)), String::new()),
            Provider::StandardWebhooks => {
                (Some(webhook_secret(self.standard_webhooks_key)), String::new())
            }
            Provider::Brevo => (secret(self.brevo_token), "scheme = \"bearer\"\n".to_owned()),
            Provider::Mailjet => (secret(self.mailjet_login), String::new()),
            Provider::MailerSend => (secret(self.mailersend_secret), String::new()),
            Provider::Postal => (Some(self.postal_public_key()), String::new()),
            #[allow(unreachable_patterns, reason = "a provider that is not in `PROVIDERS`")]
            _ => (None, String::new()),
        }
    }

    /// Writes the SNS certificate into `dir`, which is created if it is missing, for
    /// `sns_certificates = "dir"` of the ingress. The file name is the last segment of the URL.
    ///
    /// # Errors
    /// If the directory or the file cannot be written.
    pub fn write_certificates(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let url = self.sns_certificate_url();
        let name = url.rsplit_once('/').map_or(url, |(_, name)| name);
        std::fs::write(dir.join(name), CERTIFICATE_PEM)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("public_base_url", &self.public_base_url).finish()
    }
}

fn webhook_secret(key: &[u8]) -> String {
    format!("{WEBHOOK_SECRET_PREFIX}{}", STANDARD.encode(key))
}

/// Includes the defaults, so that the configuration shows what is signed. `tolerance_seconds` needs
/// a signed timestamp.
fn generic_options(name: &str) -> String {
    let signed = if name == BODY_ONLY_SOURCE {
        "signed = \"body\"\n"
    } else {
        "timestamp_header = \"X-Mailpulse-Timestamp\"\nsigned = \"timestamp.body\"\n\
         tolerance_seconds = 300\n"
    };
    format!("header = \"X-Mailpulse-Signature\"\nprefix = \"sha256=\"\n{signed}")
}

pub(crate) fn path(provider: Provider, source: &str) -> String {
    format!("/webhooks/{provider}/{source}")
}

#[allow(clippy::expect_used, reason = "the keys are compiled in; a bad one fails every test")]
fn p256(pem: &str) -> Arc<EcdsaKeyPair> {
    let der = der_of(pem);
    Arc::new(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der).expect("a P-256 key"))
}

#[allow(clippy::expect_used, reason = "the keys are compiled in; a bad one fails every test")]
fn rsa(pem: &str) -> Arc<RsaKeyPair> {
    Arc::new(RsaKeyPair::from_pkcs8(&der_of(pem)).expect("an RSA key"))
}

#[allow(clippy::expect_used, reason = "the keys are compiled in; a bad one fails every test")]
fn der_of(pem: &str) -> Vec<u8> {
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(base64).expect("base64")
}
