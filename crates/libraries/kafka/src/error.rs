use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaConfRes;

use crate::{NextOffset, Obstacle, Offset, TopicPartition};

/// A setting of a topic that breaks a promise of Mailpulse.
#[derive(Debug, thiserror::Error)]
#[error(
    "topic `{topic}` has {setting}={found}, but needs {wanted}: otherwise {otherwise}; run \
     `kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type topics \
     --entity-name {topic} --add-config {setting}={wanted}`"
)]
pub struct WrongTopicSetting {
    pub topic: String,
    /// The setting by its Kafka name.
    pub setting: &'static str,
    /// The value that the topic has.
    pub found: String,
    /// A value that keeps the promise.
    pub wanted: String,
    /// What happens with the value that the topic has.
    pub otherwise: &'static str,
    /// The brokers to connect to, for the command.
    pub bootstrap: String,
}

/// What can go wrong between a service and Kafka.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// librdkafka does not know a property, or rejects its value.
    #[error(
        "librdkafka rejected a Kafka setting: {0}; correct it in [kafka] or [kafka.properties]"
    )]
    Settings(String),
    /// A topic has another number of partitions than the settings. A recipient would have different
    /// partition numbers in different topics, so waiting does not help.
    #[error(
        "topic `{topic}` has {found} partitions, but the settings say {expected}; change [topics], or \
         recreate the topic"
    )]
    Partitions {
        topic: String,
        /// How many partitions it has.
        found: i32,
        /// How many the settings say.
        expected: i32,
    },
    /// A topic is missing and may not be created, or could not be read in time.
    #[error("topic `{topic}` {problem}")]
    Topic {
        topic: String,
        /// What is wrong with it, and the fix.
        problem: String,
    },
    /// A topic has a setting that breaks a promise of Mailpulse.
    #[error(transparent)]
    TopicSetting(Box<WrongTopicSetting>),
    /// A record was rejected for what it is: too large, for example. If it belongs to a record that was
    /// read, that one becomes a dead letter; otherwise the process ends, because the next attempt
    /// would fail in the same way.
    #[error(
        "a record for topic `{topic}` was rejected ({code}); check that `max.message.bytes` of the \
         topic is at least kafka.max_message_bytes, and the settings `batch_records` and `batch_bytes`"
    )]
    OutputRejected {
        topic: String,
        /// Why librdkafka or the broker rejected it.
        code: RDKafkaErrorCode,
    },
    /// The client cannot use the cluster.
    #[error("Kafka cannot be used: {reason}; {}", obstacle.fix())]
    Connection {
        obstacle: Obstacle,
        /// What librdkafka reported. It names brokers and no secrets.
        reason: String,
    },
    /// The broker or librdkafka returned an error.
    #[error("Kafka returned an error: {0}")]
    Kafka(#[from] KafkaError),
    /// Restoring a changelog took longer than allowed.
    #[error(
        "partition {partition} of the changelog `{topic}` could not be restored within {seconds} s; \
         check that the brokers are up and not overloaded"
    )]
    RestoreTimeout {
        /// The changelog's topic.
        topic: String,
        partition: i32,
        /// The limit.
        seconds: u64,
    },
    /// A partition has reached the refusal limit and is held.
    #[error(
        "{in_a_row} records in a row of {sources} sources became dead letters, the last at \
         {partition}/{offset}; the partition is held and tried again every minute"
    )]
    RefusalLimit {
        /// The number of dead letters in a row, over all refused sources.
        in_a_row: u32,
        /// The number of refused sources. Zero if the records have no source.
        sources: usize,
        partition: TopicPartition,
        /// The last of the records.
        offset: Offset,
    },
    /// The client no longer fetches a partition that has records, see `lag.rs`. The process must end.
    #[error(
        "the Kafka client no longer fetches {partition}, which has unread records; the process must \
         be restarted"
    )]
    Silent { partition: TopicPartition },
    /// The client returned a record that was committed before. The process must end.
    #[error(
        "the Kafka client returned offset {found} of {partition}, but the last commit ended before \
         {expected}; the process must be restarted"
    )]
    OffsetRegressed {
        partition: TopicPartition,
        /// The lowest offset that may follow the last commit.
        expected: NextOffset,
        /// The offset that was returned.
        found: Offset,
    },
    /// The committed offset of a partition is outside of it. The process must end.
    #[error(
        "the committed offset of a partition of group `{group}` is outside of the partition; see \
         docs/runbooks.md#position-mismatch"
    )]
    OutOfRange { group: String },
    /// The state of a stage failed. The process must end; it restores its state when it starts again.
    #[error("the state of the stage failed: {0}")]
    State(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Wraps an error of a stage's own state.
    pub fn state(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::State(error.into())
    }

    /// Explains why a client could not be created. Names the property, but never its value, which may
    /// be a secret; librdkafka's own description contains it.
    pub(crate) fn settings(error: &KafkaError) -> Self {
        Self::Settings(match error {
            KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, name, _) => {
                format!("it knows no property `{name}`")
            }
            KafkaError::ClientConfig(_, _, name, _) => {
                format!("the value of the property `{name}` is not valid")
            }
            // It names properties that contradict each other, and files and libraries that cannot be
            // read. librdkafka writes no password and no key into it.
            KafkaError::ClientCreation(description) => description.clone(),
            other => other.to_string(),
        })
    }

    /// Returns whether the error may pass while the process runs, by itself or because an operator
    /// repairs the cluster.
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Topic { .. }
                | Self::TopicSetting(_)
                | Self::Connection { .. }
                | Self::Kafka(_)
                | Self::RestoreTimeout { .. }
        )
    }

    /// The stable code, for logs and metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Settings(_) => "kafka_settings",
            Self::Partitions { .. } => "kafka_partitions",
            Self::Topic { .. } => "kafka_topic",
            Self::TopicSetting(_) => "topic_setting",
            Self::OutputRejected { .. } => "output_rejected",
            Self::Connection { obstacle, .. } => obstacle.code(),
            Self::Kafka(_) => "kafka",
            Self::RestoreTimeout { .. } => "restore_timeout",
            Self::RefusalLimit { .. } => "refusals",
            Self::Silent { .. } => "silent_partition",
            Self::OffsetRegressed { .. } => "went_back",
            Self::OutOfRange { .. } => "offset_out_of_range",
            Self::State(_) => "state",
        }
    }
}

/// Returns whether librdkafka recovers from the error by itself while it is polled.
pub(crate) const fn is_transient(error: &KafkaError) -> bool {
    !matches!(error, KafkaError::MessageConsumptionFatal(_))
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::BaseConsumer;

    use crate::{Connection, Error};

    /// Returns how the error of a client with this property is shown, in every form.
    fn shown(name: &str, value: &str) -> String {
        let mut connection =
            Connection { bootstrap: "127.0.0.1:1".to_owned(), ..Connection::default() };
        connection.properties.insert(name.to_owned(), value.to_owned());
        let created = connection.client("test").create::<BaseConsumer>();
        let error = Error::settings(&created.err().unwrap());
        format!("{error} {error:?}")
    }

    #[test]
    fn a_rejected_property_is_named_and_its_value_is_not() {
        const SECRET: &str = "correct-horse-battery-staple";
        for name in [
            "sasl.pasword",                        // unknown
            "socket.timeout.ms",                   // not a number
            "security.protocol",                   // not one of the values
            "enable.ssl.certificate.verification", // not a boolean
        ] {
            let shown = shown(name, SECRET);
            assert!(shown.contains(name), "{shown}");
            assert!(!shown.contains(SECRET), "{shown}");
        }
    }

    #[test]
    fn a_rejected_property_is_named_without_its_value() {
        let rejected = |name: &str, value: &str| {
            let properties = [(name.to_owned(), value.to_owned())].into();
            let connection = Connection { properties, ..Connection::default() };
            let debug = format!("{connection:?}");
            assert!(debug.contains(name) && !debug.contains(value), "{debug}");
            let text = connection.check().unwrap_err().to_string();
            assert!(text.contains(name) && !text.contains(value), "{text}");
            text
        };
        rejected("sasl.pasword", "tulip-marsh");
        rejected("security.protocol", "tulip-marsh");
        let text = rejected("socket.timeout.ms", "tulip-marsh");
        assert!(text.contains("[kafka.properties]"), "{text}");
    }
}
