use rdkafka::error::KafkaError;

use crate::TopicPartition;

/// What can go wrong between us and Kafka.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// A property is unknown to librdkafka or has a value it does not take.
    #[error("kafka setting refused: {0}; see [kafka] and [kafka.properties]")]
    Settings(String),
    /// A topic has another number of partitions than the settings say: a recipient would lie on
    /// different partitions of different topics. No waiting mends that.
    #[error(
        "topic `{topic}` has {there} partitions where the settings say {wanted}; mend [topics] or \
         the topic"
    )]
    Partitions {
        /// Which.
        topic: String,
        /// How many it has.
        there: i32,
        /// How many it should have.
        wanted: i32,
    },
    /// A topic is missing and may not be created, or was not read in time.
    #[error("topic `{topic}`: {problem}")]
    Topic {
        /// Which.
        topic: String,
        /// What is wrong with it, and the mend.
        problem: String,
    },
    /// The broker or librdkafka said no.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// Restoring a changelog took longer than allowed.
    #[error("changelog `{topic}` partition {partition} was not restored within {seconds} s")]
    RestoreTimeout {
        /// Which.
        topic: String,
        /// Which.
        partition: i32,
        /// The limit.
        seconds: u64,
    },
    /// So many records in a row were refused that it must be our fault; the partition is held.
    #[error(
        "{in_a_row} records in a row were refused, the last at {}/{}/{offset}; the partition is held",
        partition.topic, partition.partition
    )]
    Refusals {
        /// How many.
        in_a_row: u32,
        /// Of which partition.
        partition: TopicPartition,
        /// Of the last.
        offset: i64,
    },
    /// A partition of ours has records that the client does not fetch, see `watch.rs`: the process
    /// must not go on.
    #[error(
        "{}/{} is not being read any more; only a new process reads on", partition.topic,
        partition.partition
    )]
    Silent {
        /// Which.
        partition: TopicPartition,
    },
    /// The client gave a record that was committed before: the process must not go on.
    #[error(
        "{}/{} was read at offset {offset} where the last commit ended at {expected}",
        partition.topic, partition.partition
    )]
    WentBack {
        /// Which.
        partition: TopicPartition,
        /// What should have come, or something after it.
        expected: i64,
        /// What came.
        offset: i64,
    },
    /// A step's own state failed: the process must not go on.
    #[error("state: {0}")]
    State(Box<dyn std::error::Error + Send + Sync>),
}

impl StreamError {
    /// Wraps an error of a step's own state.
    pub fn state(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::State(error.into())
    }

    /// Whether waiting may mend it.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Topic { .. } | Self::Kafka(_) | Self::RestoreTimeout { .. })
    }

    /// The stable code, for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Settings(_) => "kafka_settings",
            Self::Partitions { .. } => "kafka_partitions",
            Self::Topic { .. } => "kafka_topic",
            Self::Kafka(_) => "kafka",
            Self::RestoreTimeout { .. } => "restore_timeout",
            Self::Refusals { .. } => "refusals",
            Self::Silent { .. } => "silent_partition",
            Self::WentBack { .. } => "went_back",
            Self::State(_) => "state",
        }
    }
}
