//! `mailpulse topics`: every form has the same topics, and those that services create.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tool;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use record::{Layout, TopicSpec, Topics};
use serde_json::Value;
use tool::Tool;

const SETTINGS: &str = "[kafka]\nprefix = \"_2Two_\"\nmax_message_bytes = 8388608\n\
    [kafka.properties]\n\"sasl.password\" = \"env:A_SECRET_THAT_NOBODY_HAS\"\n\
    [topics]\nreplication = 3\nrecipient_partitions = 12\nscope_partitions = 4\n\
    [dedupe]\nhorizon = \"24h\"\nremember = \"48h\"\n";

/// A topic as one of the forms describes it.
#[derive(Debug, PartialEq, Eq)]
struct Topic {
    partitions: i64,
    replication: i64,
    settings: BTreeMap<String, String>,
}

type Described = BTreeMap<String, Topic>;

/// What services create.
fn expected() -> Described {
    let layout = Layout {
        recipient_partitions: 12,
        scope_partitions: 4,
        replication: 3,
        dedupe_horizon_hours: 48,
        max_message_bytes: 8_388_608,
    };
    let topic = |spec: TopicSpec| {
        let settings = spec.settings.into_iter().map(|(name, value)| (name.to_owned(), value));
        let topic = Topic {
            partitions: spec.partitions.into(),
            replication: spec.replication.into(),
            settings: settings.collect(),
        };
        (spec.name, topic)
    };
    Topics::new("_2Two_").specs(layout).into_iter().map(topic).collect()
}

fn printed(tool: &Tool, format: &[&str]) -> String {
    tool.write("mailpulse.toml", SETTINGS);
    let output = tool.run(&[&["topics"], format].concat());
    assert_eq!(output.code, 0, "{}", output.err);
    output.text
}

fn texts(map: &Value) -> BTreeMap<String, String> {
    let text =
        |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap().to_owned());
    map.as_object().unwrap().iter().map(text).collect()
}

#[test]
fn json_has_every_topic() {
    let printed = printed(&Tool::new(), &["--format", "json"]);
    let topic = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let topic = Topic {
            partitions: line["partitions"].as_i64().unwrap(),
            replication: line["replication"].as_i64().unwrap(),
            settings: texts(&line["settings"]),
        };
        (line["topic"].as_str().unwrap().to_owned(), topic)
    };
    assert_eq!(printed.lines().map(topic).collect::<Described>(), expected());
}

/// A shell runs the commands. In place of Kafka's tool, a script writes down its arguments.
#[test]
fn a_shell_creates_every_topic_with_the_commands() {
    let tool = Tool::new();
    let commands = printed(&tool, &["--format", "kafka-topics"]);
    tool.write("kafka-topics.sh", "#!/bin/sh\nprintf '%s\\n' \"$@\" end >> \"$ARGUMENTS\"\n");
    let script = tool.path("kafka-topics.sh");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    for properties in ["", "/etc/my kafka.properties"] {
        let arguments = tool.path("arguments");
        let _ = std::fs::remove_file(&arguments);
        let path = format!("{}:/usr/bin:/bin", script.parent().unwrap().display());
        let status = Command::new("/bin/sh")
            .args(["-e", "-c", &commands])
            .env("PATH", path)
            .env("KAFKA", "kafka-1.example.com:9092")
            .env("KAFKA_PROPERTIES", properties)
            .env("ARGUMENTS", &arguments)
            .status()
            .unwrap();
        assert!(status.success());
        let all = std::fs::read_to_string(&arguments).unwrap();
        let mut found = Described::new();
        for call in all.split("\nend\n").filter(|call| !call.is_empty()) {
            let mut settings = BTreeMap::new();
            let mut values = BTreeMap::new();
            let mut arguments = call.lines();
            while let Some(name) = arguments.next() {
                match name {
                    "--create" | "--if-not-exists" => {}
                    "--config" => {
                        let (name, value) = arguments.next().unwrap().split_once('=').unwrap();
                        settings.insert(name.to_owned(), value.to_owned());
                    }
                    name => drop(values.insert(name, arguments.next().unwrap())),
                }
            }
            assert_eq!(values["--bootstrap-server"], "kafka-1.example.com:9092");
            let given = values.get("--command-config").copied().unwrap_or_default();
            assert_eq!(given, properties);
            let partitions = values["--partitions"].parse().unwrap();
            let replication = values["--replication-factor"].parse().unwrap();
            let topic = Topic { partitions, replication, settings };
            found.insert(values["--topic"].to_owned(), topic);
        }
        assert_eq!(found, expected());
    }
}

#[test]
fn strimzi_has_a_resource_for_every_topic() {
    let printed = printed(&Tool::new(), &["--format", "strimzi", "--strimzi-cluster", "events"]);
    let mut found = Described::new();
    for document in printed.split("---\n").skip(1) {
        let resource: Value = serde_saphyr::from_str(document).unwrap();
        assert_eq!(resource["apiVersion"], "kafka.strimzi.io/v1beta2");
        assert_eq!(resource["kind"], "KafkaTopic");
        assert_eq!(resource["metadata"]["labels"]["strimzi.io/cluster"], "events");
        let name = resource["metadata"]["name"].as_str().unwrap();
        // RFC 1123, as names of Kubernetes must be.
        let is_valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
        assert!(name.chars().all(is_valid) && name.starts_with("2two-mail."), "{name}");
        let spec = &resource["spec"];
        let topic = Topic {
            partitions: spec["partitions"].as_i64().unwrap(),
            replication: spec["replicas"].as_i64().unwrap(),
            settings: texts(&spec["config"]),
        };
        found.insert(spec["topicName"].as_str().unwrap().to_owned(), topic);
    }
    assert_eq!(found, expected());
}

#[test]
fn terraform_has_a_resource_for_every_topic() {
    let printed = printed(&Tool::new(), &["--format", "terraform"]);
    let mut found = Described::new();
    for block in printed.split("resource \"kafka_topic\" ").skip(1) {
        assert!(block.starts_with("\"topic__2Two_mail_"), "{block}");
        let value =
            |line: &str| line.split_once('=').unwrap().1.trim().trim_matches('"').to_owned();
        let value_of = |name: &str| {
            value(block.lines().find(|line| line.trim_start().starts_with(name)).unwrap())
        };
        let config = block.split("config = {\n").nth(1).unwrap().split("  }\n").next().unwrap();
        let settings = config.lines().map(|line| {
            let name = line.split('"').nth(1).unwrap().to_owned();
            (name, value(line))
        });
        let topic = Topic {
            partitions: value_of("partitions ").parse().unwrap(),
            replication: value_of("replication_factor ").parse().unwrap(),
            settings: settings.collect(),
        };
        assert!(block.contains("prevent_destroy = true") && block.ends_with("}\n"), "{block}");
        assert_eq!(block.matches('{').count(), block.matches('}').count(), "{block}");
        found.insert(value_of("name "), topic);
    }
    assert_eq!(found, expected());
}

#[test]
fn the_table_has_every_topic_and_mistakes_are_named() {
    let tool = Tool::new();
    let table = printed(&tool, &[]);
    for (name, topic) in expected() {
        let line = table.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[1..3], [topic.partitions.to_string(), topic.replication.to_string()]);
        assert_eq!(words.len(), 3 + topic.settings.len(), "{line}");
    }
    for (key, value) in
        [("recipient_partitions", "0"), ("scope_partitions", "-1"), ("replication", "0")]
    {
        tool.write("mailpulse.toml", format!("[topics]\n{key} = {value}\n"));
        let wrong = tool.run(&["topics"]);
        assert_eq!(wrong.code, 2, "{}", wrong.text);
        assert!(wrong.err.contains(key) && wrong.err.contains("at least 1"), "{}", wrong.err);
    }
}
