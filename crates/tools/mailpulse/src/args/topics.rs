use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct TopicsArgs {
    /// The form of the output.
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: TopicFormat,
    /// With `--format strimzi`: the name of the Kafka resource that the topics belong to.
    #[arg(long, value_name = "NAME", default_value = "kafka")]
    pub(crate) strimzi_cluster: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TopicFormat {
    /// A table to read.
    Table,
    /// A JSON object per line.
    Json,
    /// A command of Apache Kafka's tools per line. Set KAFKA to the brokers, and KAFKA_PROPERTIES to a file with the
    /// properties of the client, if it needs any.
    KafkaTopics,
    /// Resources of the Strimzi operator.
    Strimzi,
    /// Resources of Terraform's provider Mongey/kafka.
    Terraform,
}
