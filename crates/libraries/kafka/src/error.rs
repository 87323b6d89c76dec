use rdkafka::error::KafkaError;

use crate::{NextOffset, Offset, TopicPartition};

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
        "{in_a_row} records in a row became dead letters, the last at {partition}/{offset}; the \
         partition is held"
    )]
    RefusalLimit {
        /// The number of dead letters in a row.
        in_a_row: u32,
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
    /// The state of a stage failed. The process must end; it restores its state when it starts again.
    #[error("the state of the stage failed: {0}")]
    State(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Wraps an error of a stage's own state.
    pub fn state(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::State(error.into())
    }

    pub(crate) fn settings(error: &KafkaError) -> Self {
        Self::Settings(error.to_string())
    }

    /// Returns whether the error may pass by itself.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Topic { .. } | Self::Kafka(_) | Self::RestoreTimeout { .. })
    }

    /// The stable code, for logs and metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Settings(_) => "kafka_settings",
            Self::Partitions { .. } => "kafka_partitions",
            Self::Topic { .. } => "kafka_topic",
            Self::Kafka(_) => "kafka",
            Self::RestoreTimeout { .. } => "restore_timeout",
            Self::RefusalLimit { .. } => "refusals",
            Self::Silent { .. } => "silent_partition",
            Self::OffsetRegressed { .. } => "went_back",
            Self::State(_) => "state",
        }
    }
}

/// Returns whether librdkafka recovers from the error by itself while it is polled.
pub(crate) const fn is_transient(error: &KafkaError) -> bool {
    !matches!(error, KafkaError::MessageConsumptionFatal(_))
}
