//! E-mails through an SMTP server.

use std::time::Duration;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use service::Secret;

use crate::address_guard::AddressGuard;
use crate::endpoint::DeliveryError;

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

/// A server that sends e-mails.
#[derive(Debug)]
pub struct SmtpSettings {
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
}

/// Sends e-mails through one server.
#[derive(Debug)]
pub struct Smtp {
    host: String,
    port: u16,
    tls: Tls,
    login: Option<(String, Secret)>,
    guard: AddressGuard,
}

/// A setting that cannot be used: its key and the problem.
type Problem = (&'static str, String);

impl Smtp {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the key and the problem.
    pub fn new(settings: SmtpSettings, guard: AddressGuard) -> Result<Self, Problem> {
        let tls = tls(&settings)?;
        let SmtpSettings { host, port, login, .. } = settings;
        Ok(Self { host, port, tls, login, guard })
    }

    /// Sends the mail once. `hello` is the name with which the client introduces itself, usually the
    /// domain of the sender.
    ///
    /// # Errors
    /// Fails if the server does not accept it for every recipient.
    pub async fn send(&self, mail: &Message, hello: &str) -> Result<(), DeliveryError> {
        let attempt = tokio::time::timeout(ATTEMPT_TIMEOUT, self.transmit(mail, hello));
        attempt.await.unwrap_or_else(|_| Err(DeliveryError::Unreachable("timed out".to_owned())))
    }

    async fn transmit(&self, mail: &Message, hello: &str) -> Result<(), DeliveryError> {
        let addresses = self.guard.resolve(&self.host, self.port).await?;
        let mut last = DeliveryError::Unreachable("the host has no address".to_owned());
        for address in addresses {
            // The address was checked, so the connection is made to it; `tls` has the name.
            let transport =
                AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
                    .port(self.port)
                    .tls(self.tls.clone())
                    .hello_name(ClientId::Domain(hello.to_owned()))
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
}

fn tls(settings: &SmtpSettings) -> Result<Tls, Problem> {
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
