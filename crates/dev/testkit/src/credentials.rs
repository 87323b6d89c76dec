use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use event::Provider;

/// Invented senders: one at each provider, and last a second generic one that signs the body alone,
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

/// The generic source whose signature covers the body alone ([`crate::sign::generic_body`]).
pub(crate) const BODY_ONLY_SOURCE: &str = "legacy";

/// What the Resend and Standard Webhooks sources are configured with: `whsec_` and base64 of the
/// key.
const WEBHOOK_SECRET_PREFIX: &str = "whsec_";

const POSTAL_PUBLIC_KEY_PEM: &str = include_str!("../keys/postal-public-key.pem");
const CERTIFICATE_PEM: &str = include_str!("../keys/sns-certificate.pem");

/// Both sides of every provider's secret: what requests are signed with, and what the
/// configuration must hold to believe them. The same for every call of [`Credentials::new`], so
/// one process may write the configuration and another post.
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
    /// The keys the configuration trusts. `public_base_url` (scheme, host and port, no trailing
    /// slash) is where the providers would post to; Mandrill signs it.
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

    /// Keys nobody has configured: what is signed with them has the right form and must be
    /// refused.
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

    /// The key a SendGrid source is configured with: base64 of the DER `SubjectPublicKeyInfo`.
    pub fn sendgrid_public_key(&self) -> String {
        self.sendgrid
            .public_key()
            .as_der()
            .map(|der: PublicKeyX509Der<'_>| STANDARD.encode(der.as_ref()))
            .unwrap_or_default()
    }

    /// The certificate SNS messages are checked with, as PEM.
    pub fn sns_certificate_pem(&self) -> &'static str {
        CERTIFICATE_PEM
    }

    /// The `SigningCertURL` of SNS messages: of AWS's form, known to nobody at AWS.
    pub fn sns_certificate_url(&self) -> &'static str {
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-7e577e577e577e577e577e577e577e57.pem"
    }

    /// The key a Postal source is configured with: base64 of the DER `SubjectPublicKeyInfo`.
    pub fn postal_public_key(&self) -> String {
        POSTAL_PUBLIC_KEY_PEM.lines().filter(|line| !line.starts_with("-----")).collect()
    }

    /// The SNS topic of every SES source.
    pub fn topic_arn(&self) -> &'static str {
        "arn:aws:sns:eu-west-1:123456789012:mail-events"
    }

    /// The exact URL a Mandrill source is configured with.
    pub fn mandrill_url(&self, source: &str) -> String {
        format!("{}{}", self.public_base_url, path(Provider::Mandrill, source))
    }

    /// The secret of generic sources.
    pub fn generic_secret(&self) -> &'static str {
        self.generic_secret
    }

    /// `[[source]]` tables of [`SOURCES`] for `mailpulse.toml`.
    pub fn sources_toml(&self) -> String {
        SOURCES.map(|(provider, name)| self.source_toml(provider, name)).join("\n")
    }

    /// One `[[source]]` table that trusts these keys under any source name.
    pub fn source_toml(&self, provider: Provider, name: &str) -> String {
        let (secret, options) = self.secret_and_options(provider, name);
        let secrets = secret.map_or(String::new(), |secret| format!("\"{secret}\""));
        format!(
            "[[source]]\nprovider = \"{provider}\"\nname = \"{name}\"\nsecrets = [{secrets}]\n{options}"
        )
    }

    /// The configured secret (SNS has a certificate instead) and the further lines of the table.
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
        }
    }

    /// Writes the SNS certificate into `dir` (made if missing) under the last segment of its URL,
    /// where the ingress looks with `sns_certificates = "dir"`.
    ///
    /// # Errors
    /// When the directory or the file cannot be written.
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

/// Says the defaults too, so that the configuration shows what is signed. Without a signed time
/// there is nothing a tolerance could be of.
fn generic_options(name: &str) -> String {
    let signed = if name == BODY_ONLY_SOURCE {
        "signed = \"body\"\n"
    } else {
        "timestamp_header = \"X-Mailpulse-Timestamp\"\nsigned = \"timestamp.body\"\n\
         tolerance_seconds = 300\n"
    };
    format!("header = \"X-Mailpulse-Signature\"\nprefix = \"sha256=\"\n{signed}")
}

/// The path of a source.
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
