//! `mailpulse topics`: how the topics must be created, for those who create them with tools of their own.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use kafka::TopicSettings;
use record::{TopicSpec, Topics};
use serde::Deserialize;
use serde_json::json;
use service::{Settings, SettingsError};

use crate::Outcome;
use crate::args::{TopicFormat, TopicsArgs};

/// How long dedupe remembers, on which the retention of its changelog depends.
#[derive(Debug, Deserialize)]
struct DedupeHorizons {
    #[serde(with = "service::units::duration")]
    horizon: Duration,
    #[serde(with = "service::units::duration")]
    remember: Duration,
}

/// The keys of `[kafka]` that the topics depend on. The others can be secrets, which the person who creates topics may not
/// have.
#[derive(Debug, Deserialize)]
struct Names {
    prefix: String,
    max_message_bytes: usize,
}

/// Prints the topics as services create them with `topics.create`. Nothing is connected.
///
/// # Errors
/// If the settings are invalid.
pub(crate) fn run(config: Option<&Path>, args: &TopicsArgs) -> anyhow::Result<Outcome> {
    let specs = specs(&Settings::discover(config)?)?;
    let text = match args.format {
        TopicFormat::Table => table(&specs),
        TopicFormat::Json => each(&specs, json_line),
        TopicFormat::KafkaTopics => each(&specs, command),
        TopicFormat::Strimzi => each(&specs, |spec| strimzi(spec, &args.strimzi_cluster)),
        TopicFormat::Terraform => each(&specs, terraform),
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Outcome::Done)
}

/// Returns how services create every topic with these settings.
pub(crate) fn specs(settings: &Settings) -> Result<Vec<TopicSpec>, SettingsError> {
    let Names { prefix, max_message_bytes } = settings.section("kafka")?;
    let topics: TopicSettings = settings.section("topics")?;
    let DedupeHorizons { horizon, remember } = settings.section("dedupe")?;
    let hours = horizon.max(remember).as_secs().div_ceil(3600);
    let layout = topics.layout(u32::try_from(hours).unwrap_or(u32::MAX), max_message_bytes);
    Ok(Topics::new(&prefix).specs(layout))
}

fn each(specs: &[TopicSpec], format: impl Fn(&TopicSpec) -> String) -> String {
    specs.iter().map(format).collect()
}

fn table(specs: &[TopicSpec]) -> String {
    let width = specs.iter().map(|spec| spec.name.len()).max().unwrap_or_default();
    let mut text = format!("{:<width$}  partitions  replication  settings\n", "topic");
    for spec in specs {
        let settings = spec.settings.iter().map(|(name, value)| format!("{name}={value}"));
        let _ = writeln!(
            text,
            "{:<width$}  {:>10}  {:>11}  {}",
            spec.name,
            spec.partitions,
            spec.replication,
            settings.collect::<Vec<_>>().join(" ")
        );
    }
    text
}

fn json_line(spec: &TopicSpec) -> String {
    let settings: serde_json::Map<_, _> =
        spec.settings.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let line = json!({
        "topic": spec.name,
        "partitions": spec.partitions,
        "replication": spec.replication,
        "settings": settings,
    });
    format!("{line}\n")
}

/// A command of the tools of Apache Kafka. The brokers and a file with the client's properties are variables of the shell.
fn command(spec: &TopicSpec) -> String {
    let mut text = format!(
        "kafka-topics.sh --bootstrap-server \"$KAFKA\" ${{KAFKA_PROPERTIES:+--command-config \"$KAFKA_PROPERTIES\"}} \
         --create --if-not-exists --topic '{}' --partitions {} --replication-factor {}",
        spec.name, spec.partitions, spec.replication
    );
    for (name, value) in &spec.settings {
        let _ = write!(text, " --config '{name}={value}'");
    }
    text.push('\n');
    text
}

/// A `KafkaTopic` of the Strimzi operator (<https://strimzi.io/docs/operators/latest/configuring#type-KafkaTopic-reference>).
fn strimzi(spec: &TopicSpec, cluster: &str) -> String {
    let mut text = format!(
        "---\napiVersion: kafka.strimzi.io/v1beta2\nkind: KafkaTopic\nmetadata:\n  name: {name}\n  labels:\n    \
         strimzi.io/cluster: {cluster}\nspec:\n  topicName: {topic}\n  partitions: {partitions}\n  \
         replicas: {replicas}\n  config:\n",
        name = quoted(&resource_name(&spec.name)),
        cluster = quoted(cluster),
        topic = quoted(&spec.name),
        partitions = spec.partitions,
        replicas = spec.replication,
    );
    for (name, value) in &spec.settings {
        let _ = writeln!(text, "    {name}: {}", quoted(value));
    }
    text
}

/// A `kafka_topic` of Terraform's provider Mongey/kafka (<https://registry.terraform.io/providers/Mongey/kafka>).
fn terraform(spec: &TopicSpec) -> String {
    let mut identifier = spec.name.replace('.', "_");
    if identifier.starts_with(|c: char| !c.is_ascii_alphabetic()) {
        identifier.insert_str(0, "topic_");
    }
    let mut text = format!(
        "resource \"kafka_topic\" {identifier} {{\n  name               = {name}\n  \
         partitions         = {partitions}\n  replication_factor = {replication}\n  config = {{\n",
        identifier = quoted(&identifier),
        name = quoted(&spec.name),
        partitions = spec.partitions,
        replication = spec.replication,
    );
    for (name, value) in &spec.settings {
        let _ = writeln!(text, "    {} = {}", quoted(name), quoted(value));
    }
    text.push_str("  }\n  lifecycle {\n    prevent_destroy = true\n  }\n}\n");
    text
}

/// The name of a Kubernetes resource: a topic may have capitals, underscores, and signs at its beginning, and it may not.
fn resource_name(topic: &str) -> String {
    let name = topic.replace('_', "-").to_ascii_lowercase();
    name.trim_start_matches(['-', '.']).to_owned()
}

/// A string of YAML and HCL. Topics, settings and numbers have no character that the two escape in different ways.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}
