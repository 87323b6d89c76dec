//! The channel `email`, which sends each message through an SMTP server.
//!
//! Every incident is one thread. The message with which it begins has a `Message-ID` made of the
//! incident's id; all later ones name it in `In-Reply-To` and `References` (RFC 5322 §3.6.4), and all have
//! the same subject. A repeated delivery has the same `Message-ID` again.

use std::time::{Duration, UNIX_EPOCH};

use alerting::Change;
use courier::{AddressGuard, DeliveryError, Smtp, SmtpSettings};
use jiff::Timestamp;
use lettre::Message as Mail;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Mailboxes};

use crate::message::{Kind, Message, severity};

/// Where and how e-mails are sent.
#[derive(Debug)]
pub struct EmailSettings {
    /// The server.
    pub server: SmtpSettings,
    /// The sender, such as `Mailpulse <alerts@example.com>`.
    pub from: String,
    /// The recipients, in the same form.
    pub to: Vec<String>,
}

/// Sends e-mails.
#[derive(Debug)]
pub struct Email {
    server: Smtp,
    from: Mailbox,
    to: Mailboxes,
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
        let server = Smtp::new(settings.server, guard)?;
        Ok(Self { server, from: mailbox("from", &settings.from)?, to })
    }

    /// Sends the message once. `now` is the date in its header.
    ///
    /// # Errors
    /// Fails if the server does not accept it for every recipient.
    pub async fn send(&self, message: &Message, now: Timestamp) -> Result<(), DeliveryError> {
        let mail = self.mail(message, now).map_err(|error| DeliveryError::Rejected {
            answer: format!("the e-mail cannot be written: {error}"),
        })?;
        self.server.send(&mail, self.from.email.domain()).await
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
