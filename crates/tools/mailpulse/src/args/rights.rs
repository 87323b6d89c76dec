use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct RightsArgs {
    /// The form of the output.
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: RightFormat,
    /// The name of each service's principal, in which {service} is the name of the service. Without {service}, one
    /// principal gets all rights.
    #[arg(long, value_name = "NAME", default_value = "{service}")]
    pub(crate) principal: String,
    /// With `--format strimzi`: the name of the Kafka resource that the users belong to.
    #[arg(long, value_name = "NAME", default_value = "kafka")]
    pub(crate) strimzi_cluster: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RightFormat {
    /// A table to read. A name that ends with * is a prefix.
    Table,
    /// A JSON object per line.
    Json,
    /// Commands of Apache Kafka's tools. Set KAFKA to the brokers, and KAFKA_PROPERTIES to a file with the properties of
    /// the client, if it needs any.
    KafkaAcls,
    /// Users of the Strimzi operator.
    Strimzi,
    /// Resources of Terraform's provider Mongey/kafka.
    Terraform,
}
