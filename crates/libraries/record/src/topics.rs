use event::Kind;

/// The names of all topics. The prefix is empty in production; installations that share a cluster have
/// different ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// Prepended to every topic, consumer group and transactional id.
    pub prefix: String,
    raw: [String; Kind::ALL.len()],
    /// Canonical events with duplicates. Keyed by recipient.
    pub enriched: String,
    /// Canonical events without duplicates. Keyed by recipient.
    pub events: String,
    /// Pane deltas and watermarks. Keyed by scope.
    pub panes: String,
    /// Rates. Keyed by scope.
    pub rates: String,
    /// Alert transitions. Keyed by scope.
    pub alerts: String,
    /// Records that could not be processed. Keyed as the original record.
    pub dead_letters: String,
    /// The changelog of dedupe: event ids and engagements, one record per commit and partition.
    pub dedupe_changelog: String,
    /// The changelog of monitor-rate: panes, clocks and open episodes. Compacted.
    pub monitor_changelog: String,
}

/// The partitions, replication and retention of all topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The number of partitions of every topic keyed by recipient. It is the same for all of them, so
    /// that a recipient has one partition number everywhere.
    pub recipient_partitions: i32,
    /// The number of partitions of every topic keyed by scope.
    pub scope_partitions: i32,
    /// The replication factor.
    pub replication: i32,
    /// How many hours dedupe remembers an event. Its changelog is retained for one day longer.
    pub dedupe_horizon_hours: u32,
}

/// How a topic is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// The full name.
    pub name: String,
    /// The number of partitions.
    pub partitions: i32,
    /// The replication factor.
    pub replication: i32,
    /// Topic settings by their Kafka names.
    pub settings: Vec<(&'static str, String)>,
}

impl Topics {
    /// Returns the names with a prefix.
    pub fn new(prefix: &str) -> Self {
        let name = |rest: &str| format!("{prefix}{rest}");
        Self {
            prefix: prefix.to_owned(),
            raw: Kind::ALL.map(|kind| format!("{prefix}mail.raw.{kind}")),
            enriched: name("mail.enriched"),
            events: name("mail.events"),
            panes: name("mail.panes"),
            rates: name("mail.rates"),
            alerts: name("mail.alerts"),
            dead_letters: name("mail.dead-letters"),
            dedupe_changelog: name("mail.changelog.dedupe"),
            monitor_changelog: name("mail.changelog.monitor"),
        }
    }

    /// Returns the raw topic of a kind.
    pub fn raw(&self, kind: Kind) -> &str {
        &self.raw[kind as usize]
    }

    /// Returns all raw topics.
    pub fn all_raw(&self) -> impl Iterator<Item = &str> {
        self.raw.iter().map(String::as_str)
    }

    /// Returns the name of a stage's consumer group, which is also the stem of its transactional id.
    pub fn group(&self, stage: &str) -> String {
        format!("{}mailpulse-{stage}", self.prefix)
    }

    /// Returns how every topic is created.
    pub fn specs(&self, layout: Layout) -> Vec<TopicSpec> {
        const HOUR: u64 = 3_600_000;
        let spec = |name: &str, partitions, retention_hours: u64| TopicSpec {
            name: name.to_owned(),
            partitions,
            replication: layout.replication,
            settings: vec![
                ("retention.ms", (retention_hours * HOUR).to_string()),
                ("cleanup.policy", "delete".to_owned()),
                ("max.message.bytes", (20 << 20).to_string()),
            ],
        };
        let by_recipient = layout.recipient_partitions;
        let by_scope = layout.scope_partitions;
        let mut specs: Vec<_> =
            self.all_raw().map(|name| spec(name, by_recipient, 7 * 24)).collect();
        specs.push(spec(&self.enriched, by_recipient, 3 * 24));
        specs.push(spec(&self.events, by_recipient, 14 * 24));
        specs.push(spec(&self.panes, by_scope, 3 * 24));
        specs.push(spec(&self.rates, by_scope, 14 * 24));
        specs.push(spec(&self.alerts, by_scope, 90 * 24));
        specs.push(spec(&self.dead_letters, by_recipient, 30 * 24));
        let dedupe_hours = u64::from(layout.dedupe_horizon_hours) + 24;
        specs.push(spec(&self.dedupe_changelog, by_recipient, dedupe_hours));
        let mut compacted = spec(&self.monitor_changelog, by_scope, 24);
        compacted.settings = vec![("cleanup.policy", "compact".to_owned())];
        specs.push(compacted);
        specs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_names() {
        let topics = Topics::new("");
        assert_eq!(topics.raw(Kind::Bounced), "mail.raw.bounced");
        assert_eq!(topics.group("dedupe"), "mailpulse-dedupe");
        assert_eq!(Topics::new("t1.").events, "t1.mail.events");
    }

    #[test]
    fn a_recipient_has_one_partition_number_in_every_topic_keyed_by_it() {
        let layout = Layout {
            recipient_partitions: 6,
            scope_partitions: 3,
            replication: 1,
            dedupe_horizon_hours: 72,
        };
        let topics = Topics::new("");
        let specs = topics.specs(layout);
        let partitions = |name: &str| specs.iter().find(|s| s.name == name).unwrap().partitions;
        for name in topics.all_raw().chain([
            topics.enriched.as_str(),
            &topics.events,
            &topics.dead_letters,
            &topics.dedupe_changelog,
        ]) {
            assert_eq!(partitions(name), 6, "{name}");
        }
        assert_eq!(partitions(&topics.panes), partitions(&topics.monitor_changelog));
    }
}
