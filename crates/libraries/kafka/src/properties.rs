//! The librdkafka properties that `[kafka.properties]` may not contain, because this crate sets them.

/// Properties that this crate sets for a reason, with the other names that librdkafka has for them. A value of the
/// operator would be ignored or would break a promise, so it is refused. docs/operations.md has the same table.
pub(crate) const RESERVED: &[(&[&str], &str)] = &[
    (&["bootstrap.servers", "metadata.broker.list"], "its value is that of `kafka.bootstrap`"),
    (
        &["message.max.bytes"],
        "its value is that of `kafka.max_message_bytes`, with which topics are created",
    ),
    (&["compression.type", "compression.codec"], "its value is that of `kafka.compression`"),
    (&["group.protocol"], "its value is that of `kafka.group_protocol`"),
    (&["session.timeout.ms"], "its value is that of `kafka.session_timeout`"),
    (
        &["group.instance.id"],
        "its value follows from `service.instance`, and only the classic group protocol has it",
    ),
    (
        &["group.remote.assignor", "partition.assignment.strategy"],
        "all members of a group must divide partitions alike, some stages by the number of the partition",
    ),
    (
        &["group.id", "transactional.id"],
        "offsets and open transactions are found by these names, which begin with `kafka.prefix`",
    ),
    (
        &["enable.idempotence", "acks", "request.required.acks"],
        "exactly-once needs it: a record must be durable, and written once",
    ),
    (
        &["isolation.level"],
        "exactly-once needs it: records of aborted transactions must not be read",
    ),
    (
        &[
            "enable.auto.commit",
            "auto.commit.enable",
            "auto.commit.interval.ms",
            "enable.auto.offset.store",
        ],
        "the delivery guarantees need it: offsets are committed with or after the results",
    ),
    (
        &["auto.offset.reset"],
        "a lost offset must stop a partition; otherwise records would be left out or read again",
    ),
    (&["enable.partition.eof"], "services must notice that they have read a topic to its end"),
    (&["partitioner"], "a recipient must have the same partition number in all topics"),
    (
        &["transaction.timeout.ms", "message.timeout.ms", "delivery.timeout.ms"],
        "it decides what a successor finds after a failure; for the ingress, its value is that of `ingress.ack_timeout`",
    ),
    (&["delivery.report.only.error"], "each kind of producer needs certain reports"),
    (
        &[
            "linger.ms",
            "queue.buffering.max.ms",
            "queue.buffering.max.kbytes",
            "queue.buffering.max.messages",
            "batch.num.messages",
            "batch.size",
        ],
        "it bounds the memory and the delay of each kind of producer",
    ),
    (
        &[
            "fetch.wait.max.ms",
            "fetch.queue.backoff.ms",
            "queued.min.messages",
            "queued.max.messages.kbytes",
            "max.partition.fetch.bytes",
            "fetch.message.max.bytes",
        ],
        "it bounds the memory and the delay of each kind of consumer",
    ),
    (&["statistics.interval.ms"], "it finds consumers that no longer fetch a partition"),
];

/// Properties that this crate sets, unless `[kafka.properties]` contains them.
#[cfg(test)]
const DEFAULTS: &[&str] = &[
    "client.id",
    "max.poll.interval.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "socket.keepalive.enable",
    "topic.metadata.refresh.interval.ms",
];

/// Checks a name in `[kafka.properties]`.
///
/// # Errors
/// Tells why a reserved property cannot be set.
pub(crate) fn check(name: &str) -> Result<(), String> {
    // librdkafka reads `topic.acks` as `acks`.
    let plain = name.strip_prefix("topic.").unwrap_or(name);
    match RESERVED.iter().find(|(names, _)| names.contains(&name) || names.contains(&plain)) {
        Some((_, reason)) => Err(format!(
            "`{name}` is set by Mailpulse, because {reason}; remove it from [kafka.properties]"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::{Path, PathBuf};

    use rdkafka::ClientConfig;

    use super::*;
    use crate::Connection;
    use crate::group_protocol::Protocol;

    fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("tests.rs") {
                found.push(path);
            }
        }
    }

    /// Calls of `set` that set no property by its name: those of gauges, cells and topics, the group protocol, and
    /// the properties of the operator.
    const OTHER_CALLS: [(&str, &str); 10] = [
        ("client.rs", "key, value)"),
        ("client.rs", "self, group,"),
        ("group.rs", "connection, group,"),
        ("lag.rs", "*lag as f64)"),
        ("ledger.rs", "count as f64)"),
        ("positions.rs", "f64::from("),
        ("publisher.rs", "sender)"),
        ("refusal_limit.rs", "f64::from("),
        ("topics.rs", "key, value)"),
        ("topics.rs", "name, "),
    ];

    /// Returns the names that the code of this crate sets, by the file in which it does.
    fn set_by_the_code() -> BTreeMap<String, PathBuf> {
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        assert!(files.len() > 30, "{files:?}");
        let mut names = BTreeMap::new();
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
            for call in code.split(".set(").skip(1) {
                let argument = call.trim_start();
                if let Some(literal) = argument.strip_prefix('"') {
                    let name = literal.split('"').next().unwrap();
                    names.insert(name.to_owned(), file.clone());
                } else if argument.starts_with("MAX_POLL_INTERVAL,") {
                    names.insert("max.poll.interval.ms".to_owned(), file.clone());
                } else {
                    let file_name = file.file_name().unwrap().to_str().unwrap();
                    let is_other = OTHER_CALLS
                        .iter()
                        .any(|(name, start)| file_name == *name && argument.starts_with(start));
                    assert!(
                        is_other,
                        "name the property in {}: .set({argument:.40}",
                        file.display()
                    );
                }
            }
        }
        names
    }

    #[test]
    fn every_property_that_the_code_sets_is_reserved_or_a_default() {
        let set = set_by_the_code();
        assert!(set.len() > 25, "{set:?}");
        for (name, file) in &set {
            let is_default = DEFAULTS.contains(&name.as_str());
            assert!(check(name).is_err() != is_default, "{name} in {}", file.display());
        }
        for name in DEFAULTS {
            assert!(set.contains_key(*name), "{name} is not set");
        }
        for (names, _) in RESERVED {
            assert!(set.contains_key(names[0]), "{} is not set", names[0]);
            let unique: BTreeSet<_> = names.iter().collect();
            assert_eq!(unique.len(), names.len());
        }
    }

    #[test]
    fn a_default_gives_way_to_the_value_of_the_operator() {
        for name in DEFAULTS {
            let properties = [((*name).to_owned(), "7".to_owned())].into();
            let connection = Connection { properties, ..Connection::default() };
            let mut member = connection.consumer("test", "group", 1);
            Protocol::Classic.set(&connection, "group", &mut member);
            for config in
                [&connection.producer("test"), &connection.reader("test", "group"), &member]
            {
                assert_eq!(config.get(name), Some("7"), "{name}");
            }
        }
    }

    /// librdkafka has two names for some properties.
    #[test]
    fn no_other_name_of_a_reserved_property_is_forgotten() {
        let other_names = [
            ("bootstrap.servers", "metadata.broker.list", "a:1"),
            ("compression.type", "compression.codec", "zstd"),
            ("acks", "request.required.acks", "1"),
            ("message.timeout.ms", "delivery.timeout.ms", "9876"),
            ("linger.ms", "queue.buffering.max.ms", "98"),
            ("max.partition.fetch.bytes", "fetch.message.max.bytes", "98765"),
        ];
        for (name, other, value) in other_names {
            let native = ClientConfig::new().set(other, value).create_native_config().unwrap();
            let read = native.get(name).unwrap();
            assert_eq!(read.trim_end_matches('\0'), value, "{name}");
            assert!(check(name).is_err() && check(other).is_err(), "{name}");
        }
        // librdkafka removes this prefix.
        for name in ["topic.auto.offset.reset", "topic.partitioner", "topic.acks"] {
            assert!(check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_documentation_has_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/operations.md");
        let text = std::fs::read_to_string(path).unwrap();
        let list = |names: &[&str]| {
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        };
        for (names, reason) in RESERVED {
            let row = format!("| {} | {reason} |", list(names));
            assert!(text.contains(&row), "docs/operations.md lacks this row:\n{row}");
        }
        let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            one_line.contains(&list(DEFAULTS)),
            "docs/operations.md lacks:\n{}",
            list(DEFAULTS)
        );
    }
}
