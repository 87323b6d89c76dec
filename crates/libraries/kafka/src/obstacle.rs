//! Why a client cannot use the cluster, and what to do.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use crate::{Connection, Error};

/// After this time a request for metadata looks for reasons why it has no answer, and is repeated.
const ATTEMPT: Duration = Duration::from_secs(2);

/// What is between a client and the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// No broker answers.
    Unreachable,
    /// The listener closes connections that are not encrypted.
    TlsListener,
    /// The listener does not understand TLS.
    PlainListener,
    /// The certificate of the broker is not accepted.
    Certificate,
    /// The broker does not accept the certificate of the client, or misses one.
    ClientCertificate,
    /// There is no token, because the identity provider does not answer or is not trusted.
    Token,
    /// The broker rejects the user, the password, the token or the mechanism, or the identity provider rejects the client.
    Login,
}

impl Obstacle {
    /// Returns the stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "kafka_unreachable",
            Self::TlsListener => "kafka_tls_listener",
            Self::PlainListener => "kafka_plain_listener",
            Self::Certificate => "kafka_certificate",
            Self::ClientCertificate => "kafka_client_certificate",
            Self::Token => "kafka_token",
            Self::Login => "kafka_login",
        }
    }

    /// Returns what to do.
    pub const fn fix(self) -> &'static str {
        match self {
            Self::Unreachable => {
                "check kafka.bootstrap, and that the brokers run and can be reached from here"
            }
            Self::TlsListener => {
                "the listener seems to require TLS; set security.protocol in [kafka.properties] to ssl \
                 or sasl_ssl, or use the port of a plaintext listener"
            }
            Self::PlainListener => {
                "the listener does not speak TLS; use the port of a TLS listener in kafka.bootstrap, or \
                 remove security.protocol"
            }
            Self::Certificate => {
                "set ssl.ca.location in [kafka.properties] to the certificate of the authority that \
                 signed the broker's certificate, and use host names of that certificate in \
                 kafka.bootstrap and advertised.listeners"
            }
            Self::ClientCertificate => {
                "set ssl.certificate.location and ssl.key.location in [kafka.properties] to a \
                 certificate that the brokers trust"
            }
            Self::Token => {
                "check that sasl.oauthbearer.token.endpoint.url in [kafka.properties] can be reached from here, and set \
                 https.ca.location to the certificate of the authority that signed its certificate"
            }
            Self::Login => {
                "check sasl.mechanisms, and sasl.username and sasl.password or sasl.oauthbearer.*, in \
                 [kafka.properties], and that the brokers know this user"
            }
        }
    }

    /// Returns whether the settings of client or broker must be corrected. The other obstacles can pass:
    /// librdkafka also suspects the wrong kind of listener if a broker stops during a handshake.
    pub const fn is_certain(self) -> bool {
        matches!(self, Self::Certificate | Self::ClientCertificate | Self::Login)
    }

    /// Finds the obstacle in an error that librdkafka 2.12 reports. The texts are from its
    /// `rdkafka_ssl.c`, `rdkafka_transport.c`, `rdkafka_broker.c` and `rdkafka_sasl.c`, and of OpenSSL.
    pub(crate) fn find(code: RDKafkaErrorCode, reason: &str) -> Option<Self> {
        let says = |texts: &[&str]| texts.iter().any(|text| reason.contains(text));
        // An identity provider that rejects the client answers with one of these (RFC 6749 §5.2).
        let is_rejected = says(&["400", "401", "403", "invalid_client", "unauthorized"]);
        match code {
            _ if says(&["acquire SASL OAUTHBEARER token"]) && !is_rejected => Some(Self::Token),
            RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::UnsupportedSASLMechanism => Some(Self::Login),
            _ if says(&["certificate verify failed", "could not be verified"]) => {
                Some(Self::Certificate)
            }
            _ if says(&["alert", "certificate required", "bad certificate"])
                && says(&["certificate", "unknown ca"]) =>
            {
                Some(Self::ClientCertificate)
            }
            _ if says(&["connecting to a PLAINTEXT", "wrong version number", "packet length"]) => {
                Some(Self::PlainListener)
            }
            // The connection was closed during the first request. `ssl://` is a part of the broker's
            // name if the connection is encrypted.
            _ if says(&["in state APIVERSION_QUERY"]) && !says(&["ssl://"]) => {
                Some(Self::TlsListener)
            }
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::SSL => Some(Self::Unreachable),
            _ => None,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The most specific obstacle that a client has reported.
#[derive(Default)]
struct Obstacles(Mutex<Option<(Obstacle, String)>>);

impl ClientContext for Obstacles {
    /// librdkafka logs that a listener closed the connection, and does not report it as an error.
    fn log(&self, _level: RDKafkaLogLevel, fac: &str, message: &str) {
        if fac == "FAIL" {
            // The message begins with the name of a thread: `[thrd:…]: `.
            let reason = message.split_once("]: ").map_or(message, |(_, reason)| reason);
            self.remember(RDKafkaErrorCode::BrokerTransportFailure, reason);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.remember(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown), reason);
    }
}

impl Obstacles {
    fn remember(&self, code: RDKafkaErrorCode, reason: &str) {
        let Some(found) = Obstacle::find(code, reason) else { return };
        let mut worst = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if worst.as_ref().is_none_or(|(known, _)| found > *known) {
            *worst = Some((found, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Obstacles {}

/// A client that asks for metadata, and tells why there is no answer.
pub(crate) struct MetadataClient(BaseConsumer<Obstacles>);

impl MetadataClient {
    /// Opens a client, which connects by itself.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub(crate) fn open(connection: &Connection) -> Result<Self, Error> {
        connection
            .client("admin")
            .set_log_level(RDKafkaLogLevel::Info)
            .create_with_context(Obstacles::default())
            .map(Self)
            .map_err(|error| Error::settings(&error))
    }

    /// Returns the metadata of all topics.
    ///
    /// # Errors
    /// [`Error::Connection`] at once if the [obstacle is certain](Obstacle::is_certain), or if there is no
    /// answer within `timeout`.
    pub(crate) fn fetch(&self, timeout: Duration) -> Result<Metadata, Error> {
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let error = match self.0.fetch_metadata(None, ATTEMPT.min(left)) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => error,
            };
            // The client reports its errors while it is polled.
            while self.0.poll(Duration::ZERO).is_some() {}
            let found = self.0.context().0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let (obstacle, reason) =
                found.unwrap_or_else(|| (Obstacle::Unreachable, error.to_string()));
            if obstacle.is_certain() || Instant::now() >= until {
                return Err(Error::Connection { obstacle, reason });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_provider_that_is_away_can_come_back() {
        let find = |reason: &str| Obstacle::find(RDKafkaErrorCode::Authentication, reason).unwrap();
        let away = "Failed to acquire SASL OAUTHBEARER token: Failed to retrieve OIDC token from \"https://id.example.com\": Could not resolve hostname (-1)";
        assert_eq!((find(away), find(away).is_certain()), (Obstacle::Token, false));
        let rejected = "Failed to acquire SASL OAUTHBEARER token: Failed to retrieve OIDC token from \"https://id.example.com\": invalid_client (401)";
        assert_eq!((find(rejected), find(rejected).is_certain()), (Obstacle::Login, true));
    }

    #[test]
    fn an_unreachable_cluster_is_an_obstacle_with_a_fix() {
        // Nothing listens on port 1.
        let connection =
            Connection { bootstrap: "127.0.0.1:1".to_owned(), ..Connection::default() };
        let client = MetadataClient::open(&connection).unwrap();
        let error = client.fetch(Duration::from_millis(500)).err().unwrap();
        assert_eq!(error.code(), "kafka_unreachable");
        assert!(error.is_transient());
        let text = error.to_string();
        assert!(text.contains("127.0.0.1:1") && text.contains("check kafka.bootstrap"), "{text}");
    }
}
