//! The channel `email`, which sends each message through an SMTP server.
//!
//! Every incident is one thread. The message with which it begins has a `Message-ID` made of the
//! incident's id; all later ones name it in `In-Reply-To` and `References` (RFC 5322 §3.6.4), and all have
//! the same subject. A repeated delivery has the same `Message-ID` again.

use std::time::{Duration, UNIX_EPOCH};

use alerting::Change;
use jiff::Timestamp;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Mailboxes};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message as Mail, Tokio1Executor};
use service::Secret;

use crate::address_guard::AddressGuard;
use crate::endpoint::DeliveryError;
use crate::message::{Kind, Message, severity};

/// The timeout of connecting, and of each command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of one attempt. Servers may delay their greeting to deter spammers.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// How the connection to the server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// TLS after the command STARTTLS. The server must offer it.
    Starttls,
    /// TLS from the start.
    Tls,
    /// None.
    None,
}

impl Encryption {
    /// Returns the port that is usual for it.
    pub const fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}

/// Where and how e-mails are sent.
#[derive(Debug)]
pub struct EmailSettings {
    /// The name of the server, which its certificate must have.
    pub host: String,
    /// The port of the server.
    pub port: u16,
    /// How the connection is encrypted.
    pub encryption: Encryption,
    /// A PEM file with certificates of authorities to trust besides those of the system. Empty: none.
    pub ca_file: String,
    /// User and password. `None`: the server needs none.
    pub login: Option<(String, Secret)>,
    /// The sender, such as `Mailpulse <alerts@example.com>`.
    pub from: String,
    /// The recipients, in the same form.
    pub to: Vec<String>,
}

/// Sends e-mails.
#[derive(Debug)]
pub struct Email {
    host: String,
    port: u16,
    tls: Tls,
    login: Option<(String, Secret)>,
    from: Mailbox,
    to: Mailboxes,
    guard: AddressGuard,
}

/// A setting that cannot be used: its key and the problem.
type Problem = (&'static str, String);

impl Email {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the key and the problem.
    pub fn new(settings: EmailSettings, guard: AddressGuard) -> Result<Self, Problem> {
        let mailbox = |key, text: &str| -> Result<Mailbox, Problem> {
            text.parse().map_err(|_| {
                (
                    key,
                    format!(
                        "\"{text}\" is not an address; write it as \"Team <team@example.com>\""
                    ),
                )
            })
        };
        if settings.to.is_empty() {
            return Err(("to", "has no recipient; write at least one address".to_owned()));
        }
        let mut to = Mailboxes::new();
        for text in &settings.to {
            to.push(mailbox("to", text)?);
        }
        Ok(Self {
            tls: tls(&settings)?,
            from: mailbox("from", &settings.from)?,
            host: settings.host,
            port: settings.port,
            login: settings.login,
            to,
            guard,
        })
    }

    /// Sends the message once. `now` is the date in its header.
    ///
    /// # Errors
    /// Fails if the server does not accept it for every recipient.
    pub async fn send(&self, message: &Message, now: Timestamp) -> Result<(), DeliveryError> {
        let mail = self.mail(message, now).map_err(|error| DeliveryError::Rejected {
            answer: format!("the e-mail cannot be written: {error}"),
        })?;
        let attempt = tokio::time::timeout(ATTEMPT_TIMEOUT, self.transmit(mail));
        attempt.await.unwrap_or_else(|_| Err(DeliveryError::Unreachable("timed out".to_owned())))
    }

    async fn transmit(&self, mail: Mail) -> Result<(), DeliveryError> {
        let addresses = self.guard.resolve(&self.host, self.port).await?;
        let mut last = DeliveryError::Unreachable("the host has no address".to_owned());
        for address in addresses {
            // The address was checked, so the connection is made to it; `tls` has the name.
            let transport =
                AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
                    .port(self.port)
                    .tls(self.tls.clone())
                    .hello_name(ClientId::Domain(self.from.email.domain().to_owned()))
                    .timeout(Some(COMMAND_TIMEOUT));
            let transport = match &self.login {
                Some((user, password)) => transport
                    .credentials(Credentials::new(user.clone(), password.expose().to_owned())),
                None => transport,
            };
            match transport.build().send(mail.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => last = delivery_error(&error),
            }
            if !matches!(last, DeliveryError::Unreachable(_)) {
                break;
            }
        }
        Err(last)
    }

    fn mail(&self, message: &Message, now: Timestamp) -> Result<Mail, lettre::error::Error> {
        let domain = self.from.email.domain();
        let id = |of: &str| format!("<mailpulse-{of}@{domain}>");
        let incident = message.delivery.as_ref().map(|one| one.received.id().to_string());
        let is_first = matches!(message.kind, Kind::Change(Change::Opened) | Kind::Passed);
        let own = incident.clone().filter(|_| is_first).unwrap_or_else(|| message.id.clone());
        let date = UNIX_EPOCH + Duration::from_secs(now.as_second().try_into().unwrap_or(0));
        let mut mail = Mail::builder()
            .from(self.from.clone())
            .mailbox(lettre::message::header::To::from(self.to.clone()))
            .subject(format!("[Mailpulse] {}", message.subject))
            .date(date)
            .message_id(Some(id(&own)))
            .header(AutoSubmitted)
            .header(Severity(severity(message.severity)))
            .header(ContentType::TEXT_PLAIN);
        if let Some(incident) = incident.filter(|_| !is_first) {
            mail = mail.in_reply_to(id(&incident)).references(id(&incident));
        }
        mail.body(format!("{}\n", message.page.text()))
    }
}

/// Tells other programs not to reply (RFC 3834).
#[derive(Debug, Clone)]
struct AutoSubmitted;

/// The severity, for filters of mail programs.
#[derive(Debug, Clone)]
struct Severity(&'static str);

macro_rules! written_header {
    ($type:ty, $name:literal, $value:expr) => {
        impl Header for $type {
            fn name() -> HeaderName {
                HeaderName::new_from_ascii_str($name)
            }

            // The headers are only written.
            fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
                Err("this header is never read".into())
            }

            fn display(&self) -> HeaderValue {
                let value: fn(&Self) -> String = $value;
                HeaderValue::new(Self::name(), value(self))
            }
        }
    };
}

written_header!(AutoSubmitted, "Auto-Submitted", |_| "auto-generated".to_owned());
written_header!(Severity, "X-Mailpulse-Severity", |severity| severity.0.to_owned());

fn tls(settings: &EmailSettings) -> Result<Tls, Problem> {
    if settings.encryption == Encryption::None {
        return Ok(Tls::None);
    }
    let mut parameters = TlsParameters::builder(settings.host.clone());
    if !settings.ca_file.is_empty() {
        let path = &settings.ca_file;
        let unusable = |error: &dyn std::fmt::Display| {
            ("ca_file", format!("{path} cannot be used: {error}; it must be a PEM file"))
        };
        let pem = std::fs::read(path).map_err(|error| unusable(&error))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| unusable(&error))?;
        parameters = parameters.add_root_certificate(certificate);
    }
    let parameters = parameters.build_rustls().map_err(|error| {
        ("host", format!("TLS cannot be set up: {error}; install the package ca-certificates"))
    })?;
    Ok(match settings.encryption {
        Encryption::Tls => Tls::Wrapper(parameters),
        Encryption::Starttls | Encryption::None => Tls::Required(parameters),
    })
}

fn delivery_error(error: &lettre::transport::smtp::Error) -> DeliveryError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    if error.is_permanent() {
        DeliveryError::Rejected { answer: text }
    } else if error.is_transient() {
        DeliveryError::Unavailable { answer: text, retry_after: None }
    } else {
        DeliveryError::Unreachable(text)
    }
}
