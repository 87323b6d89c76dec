//! Which protocol the members of consumer groups use.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::client::KAFKA_REQUEST_TIMEOUT;
use crate::obstacle::MetadataClient;
use crate::{Connection, Error};

/// The broker's setting with the protocols that it supports. Brokers before Kafka 3.7 do not have it, and
/// support only the classic protocol.
const BROKER_SETTING: &str = "group.coordinator.rebalance.protocols";

/// The librdkafka property `group.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// KIP-848.
    Consumer,
    Classic,
}

impl Protocol {
    /// Returns the configured protocol, or `None` if the broker decides.
    pub(crate) fn configured(connection: &Connection) -> Option<Self> {
        match connection.group_protocol.as_str() {
            "consumer" => Some(Self::Consumer),
            "classic" => Some(Self::Classic),
            _ => None,
        }
    }

    /// Returns the configured protocol, or the newest one that the broker supports. If this principal may
    /// not ask, this is the classic one, which every broker has.
    ///
    /// # Errors
    /// [`Error::Connection`] if no broker answers, and [`Error::Settings`].
    pub(crate) fn choose(connection: &Connection) -> Result<Self, Error> {
        if let Some(configured) = Self::configured(connection) {
            return Ok(configured);
        }
        let metadata = MetadataClient::open(connection)?.fetch(KAFKA_REQUEST_TIMEOUT)?;
        let broker = metadata.brokers().first().ok_or(KafkaError::NoMessageReceived)?;
        let admin: AdminClient<DefaultClientContext> =
            connection.client("admin").create().map_err(|error| Error::settings(&error))?;
        let options = AdminOptions::new().request_timeout(Some(KAFKA_REQUEST_TIMEOUT));
        let broker = [ResourceSpecifier::Broker(broker.id())];
        let runtime =
            tokio::runtime::Builder::new_current_thread().build().map_err(Error::state)?;
        let mut answer = runtime.block_on(admin.describe_configs(&broker, &options))?;
        let protocol = match answer.pop() {
            Some(Ok(broker)) => {
                let setting = broker.entries.into_iter().find(|entry| entry.name == BROKER_SETTING);
                Self::newest_of(setting.and_then(|setting| setting.value).as_deref())
            }
            Some(Err(RDKafkaErrorCode::ClusterAuthorizationFailed)) => {
                tracing::warn!(
                    "this principal may not read the broker's settings; allow it DescribeConfigs on the \
                     cluster, or set kafka.group_protocol"
                );
                Self::Classic
            }
            Some(Err(code)) => return Err(KafkaError::AdminOp(code).into()),
            None => return Err(KafkaError::NoMessageReceived.into()),
        };
        tracing::info!(?protocol, "group protocol chosen by what the broker supports");
        Ok(protocol)
    }

    /// Reads the value of [`BROKER_SETTING`].
    fn newest_of(value: Option<&str>) -> Self {
        let mut protocols = value.unwrap_or_default().split(',').map(str::trim);
        if protocols.any(|protocol| protocol.eq_ignore_ascii_case("consumer")) {
            Self::Consumer
        } else {
            Self::Classic
        }
    }

    /// Sets the protocol of a member of `group`.
    pub(crate) fn set(self, connection: &Connection, group: &str, config: &mut ClientConfig) {
        match self {
            // We set no group.instance.id. Under KIP-848 a static member that was killed is rejected
            // (UNRELEASED_INSTANCE_ID, fatal) until its session has expired. A dynamic member joins
            // at once and receives the partitions when the old session has expired.
            Self::Consumer => {
                config.set("group.protocol", "consumer");
            }
            Self::Classic => {
                config
                    .set("group.protocol", "classic")
                    .set("session.timeout.ms", connection.session_timeout.as_millis().to_string())
                    .set("partition.assignment.strategy", "cooperative-sticky");
                if connection.static_member {
                    config.set("group.instance.id", format!("{group}-{}", connection.instance));
                }
            }
        }
    }

    /// Makes one member the owner of all partitions of a number. All members of the group must do this:
    /// under the classic protocol, members with different strategies cannot be in one group.
    pub(crate) fn set_aligned(self, config: &mut ClientConfig) {
        match self {
            Self::Consumer => config.set("group.remote.assignor", "range"),
            Self::Classic => config.set("partition.assignment.strategy", "range"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(group_protocol: &str) -> Protocol {
        let connection = Connection {
            bootstrap: devstack::shared_kafka().to_owned(),
            group_protocol: group_protocol.to_owned(),
            compression: "lz4".to_owned(),
            properties: devstack::kafka_properties(devstack::shared_kafka()),
            ..Connection::default()
        };
        Protocol::choose(&connection).unwrap()
    }

    #[test]
    fn the_newest_protocol_of_the_broker_is_chosen_unless_one_is_configured() {
        assert_eq!(chosen("auto"), Protocol::Consumer, "Kafka 4 supports it");
        assert_eq!(chosen("classic"), Protocol::Classic);
        assert_eq!(chosen("consumer"), Protocol::Consumer);
    }

    #[test]
    fn the_session_of_the_classic_protocol_is_the_configured_one() {
        let session_timeout = std::time::Duration::from_secs(45);
        let connection = Connection { session_timeout, ..Connection::default() };
        let session_of = |protocol: Protocol| {
            let mut config = ClientConfig::new();
            protocol.set(&connection, "group", &mut config);
            config.get("session.timeout.ms").map(str::to_owned)
        };
        assert_eq!(session_of(Protocol::Classic).as_deref(), Some("45000"));
        assert_eq!(session_of(Protocol::Consumer), None, "the broker decides");
    }

    #[test]
    fn a_broker_without_the_new_protocol_gets_the_classic_one() {
        let newest = Protocol::newest_of;
        assert_eq!(newest(None), Protocol::Classic, "before Kafka 3.7");
        assert_eq!(newest(Some("classic")), Protocol::Classic);
        assert_eq!(newest(Some("classic, consumer,streams")), Protocol::Consumer);
    }
}
