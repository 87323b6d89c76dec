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
    /// Transitions of episodes, the clocks of monitor-rate, and actions of people. Keyed by scope; everything
    /// is in partition 0, because incidents across sources must meet.
    pub alerts: String,
    /// Incidents. Keyed by incident. The latest record of each is kept.
    pub incidents: String,
    /// Records that could not be processed. Keyed as the original record.
    pub dead_letters: String,
    /// The changelog of dedupe: event ids and memories of messages, one record per commit and
    /// partition.
    pub dedupe_changelog: String,
    /// The changelog of monitor-rate: panes, clocks and open episodes. Compacted.
    pub monitor_changelog: String,
    /// The changelog of monitor-incidents: incidents and their episodes. Compacted.
    pub incidents_changelog: String,
    /// How far each stage has read each partition. Compacted.
    pub positions: String,
    /// The tombstones of erased recipients. It has one partition and is compacted, so that a reader of the whole
    /// topic knows all of them.
    pub erased: String,
    /// Who must not be mailed, and lifts. Compacted. Records that `suppress` writes because of an event are in the
    /// partition of the recipient; those of operators are in that of their key.
    pub suppressions: String,
    /// The changelog of suppress: soft bounces that do not suppress yet. Compacted.
    pub suppress_changelog: String,
    /// What rules of `automate` want to do. Keyed by rule.
    pub intents: String,
    /// What rules of `automate` do. Keyed by recipient.
    pub actions: String,
    /// Who is a member of which segment. Compacted. In the partition of the recipient.
    pub segments: String,
    /// The changelog of automate-match: cooldowns, patterns and follow-ups. Compacted.
    pub automate_changelog: String,
    /// The changelog of automate-limit: how often rules have acted. Compacted.
    pub limits_changelog: String,
    /// What each campaign counts since it began. Keyed by scope. Compacted.
    pub campaigns: String,
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
    /// How many hours dedupe remembers an event or a message, whichever is longer. Its changelog is
    /// retained for one day longer.
    pub dedupe_horizon_hours: u32,
    /// The largest record, in bytes.
    pub max_message_bytes: usize,
}

impl Layout {
    /// Returns how many replicas must have a record before it is acknowledged. With three replicas, an
    /// acknowledged record survives the loss of a broker, and one broker can be away.
    const fn min_insync_replicas(&self) -> i32 {
        if self.replication > 2 { self.replication - 1 } else { 1 }
    }
}

/// A setting of a topic on which a promise of Mailpulse depends. A topic that exists may have other
/// settings than [`Topics::specs`] creates it with, but not other than these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredSetting {
    /// The full name of the topic.
    pub topic: String,
    /// The setting by its Kafka name.
    pub name: &'static str,
    /// The values that keep the promise.
    pub wanted: Wanted,
    /// What happens with other values.
    pub otherwise: &'static str,
    /// The value that a service sets at startup in place of another one. `None`: the operator has to
    /// decide, and the service ends.
    pub raise_to: Option<String>,
}

/// The values of a setting that keep a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Only this text.
    Exactly(&'static str),
    /// This number or a larger one. In Kafka, -1 means no limit.
    AtLeast(i64),
}

impl Wanted {
    /// Returns whether a value keeps the promise.
    pub fn allows(self, value: &str) -> bool {
        match self {
            // Kafka returns the words of a list in the order in which they were set.
            Self::Exactly(wanted) => {
                let words = |list: &str| {
                    list.split(',')
                        .map(|it| it.trim().to_owned())
                        .collect::<std::collections::BTreeSet<_>>()
                };
                words(value) == words(wanted)
            }
            Self::AtLeast(wanted) => {
                value.parse::<i64>().is_ok_and(|value| value == -1 || value >= wanted)
            }
        }
    }

    /// Returns a value that keeps the promise.
    pub fn value(self) -> String {
        match self {
            Self::Exactly(wanted) => wanted.to_owned(),
            Self::AtLeast(wanted) => wanted.to_string(),
        }
    }
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

/// The size of the batches that monitor writes to its changelog.
const COMPACTED_MESSAGE_BYTES: usize = 1 << 20;
/// Milliseconds.
const HOUR: u64 = 3_600_000;

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
            incidents: name("mail.incidents"),
            dead_letters: name("mail.dead-letters"),
            dedupe_changelog: name("mail.changelog.dedupe"),
            monitor_changelog: name("mail.changelog.monitor"),
            incidents_changelog: name("mail.changelog.incidents"),
            positions: name("mail.positions"),
            erased: name("mail.erased"),
            suppressions: name("mail.suppressions"),
            suppress_changelog: name("mail.changelog.suppress"),
            intents: name("mail.intents"),
            actions: name("mail.actions"),
            segments: name("mail.segments"),
            automate_changelog: name("mail.changelog.automate"),
            limits_changelog: name("mail.changelog.automate-limits"),
            campaigns: name("mail.campaigns"),
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

    /// Returns the settings that topics must have, whoever created them.
    pub fn required_settings(&self, layout: Layout) -> Vec<RequiredSetting> {
        let mut required = Vec::new();
        for spec in self.specs(layout) {
            let mut require = |name, wanted, otherwise| {
                let topic = spec.name.clone();
                let raise_to = None;
                required.push(RequiredSetting { topic, name, wanted, otherwise, raise_to });
            };
            let is_compacted = [
                &self.monitor_changelog,
                &self.incidents_changelog,
                &self.positions,
                &self.erased,
                &self.suppressions,
                &self.suppress_changelog,
                &self.segments,
                &self.automate_changelog,
                &self.limits_changelog,
                &self.campaigns,
            ]
            .contains(&&spec.name);
            let (policy, otherwise) = if spec.name == self.erased {
                ("compact", "recipients that were erased would come back with a replay")
            } else if spec.name == self.suppressions {
                ("compact", "it would be forgotten who must not be mailed")
            } else if spec.name == self.incidents {
                (
                    "compact,delete",
                    "notify would forget open incidents, or read closed ones for ever",
                )
            } else if is_compacted {
                ("compact", "the state of a stage would be deleted")
            } else {
                ("delete", "records with the same key would be removed before they are read")
            };
            require("cleanup.policy", Wanted::Exactly(policy), otherwise);
            // The records of this changelog are small. Releases up to 0.1.0 created it with Kafka's default.
            let largest = if is_compacted {
                layout.max_message_bytes.min(COMPACTED_MESSAGE_BYTES)
            } else {
                layout.max_message_bytes
            };
            require(
                "max.message.bytes",
                Wanted::AtLeast(i64::try_from(largest).unwrap_or(i64::MAX)),
                "records of up to kafka.max_message_bytes would be rejected",
            );
            require(
                "min.insync.replicas",
                Wanted::AtLeast(layout.min_insync_replicas().into()),
                "the loss of a broker would lose acknowledged records",
            );
            if spec.name == self.dedupe_changelog {
                let horizon = i64::from(layout.dedupe_horizon_hours) * HOUR.cast_signed();
                let otherwise = "dedupe would forget events within its horizon";
                require("retention.bytes", Wanted::Exactly("-1"), otherwise);
                required.push(RequiredSetting {
                    topic: spec.name.clone(),
                    name: "retention.ms",
                    wanted: Wanted::AtLeast(horizon),
                    otherwise,
                    // A longer retention breaks no promise, and the horizons may grow with a release.
                    raise_to: Some((dedupe_hours(layout) * HOUR).to_string()),
                });
            }
        }
        required
    }

    /// Returns how every topic is created.
    pub fn specs(&self, layout: Layout) -> Vec<TopicSpec> {
        let everywhere = [
            ("max.message.bytes", layout.max_message_bytes.to_string()),
            ("min.insync.replicas", layout.min_insync_replicas().to_string()),
        ];
        let spec = |name: &str, partitions, retention_hours: u64| TopicSpec {
            name: name.to_owned(),
            partitions,
            replication: layout.replication,
            settings: [
                ("retention.ms", (retention_hours * HOUR).to_string()),
                ("cleanup.policy", "delete".to_owned()),
            ]
            .into_iter()
            .chain(everywhere.clone())
            .collect(),
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
        let mut incidents = spec(&self.incidents, by_scope, 90 * 24);
        for (name, value) in &mut incidents.settings {
            if *name == "cleanup.policy" {
                "compact,delete".clone_into(value);
            }
        }
        // notify reads the topic at its start, and only closed segments are compacted.
        incidents.settings.push(("segment.ms", HOUR.to_string()));
        // A record that notifies people must not be removed before notify has read it.
        incidents.settings.push(("min.compaction.lag.ms", (7 * 24 * HOUR).to_string()));
        specs.push(incidents);
        specs.push(spec(&self.dead_letters, by_recipient, 30 * 24));
        specs.push(spec(&self.dedupe_changelog, by_recipient, dedupe_hours(layout)));
        let mut compacted = spec(&self.monitor_changelog, by_scope, 24);
        compacted.settings = vec![("cleanup.policy", "compact".to_owned())];
        compacted.settings.extend(everywhere.clone());
        let mut positions = TopicSpec { name: self.positions.clone(), ..compacted.clone() };
        positions.partitions = by_recipient;
        // Only closed segments are compacted, and every assignment reads the rest.
        positions.settings.push(("segment.bytes", (16 << 20).to_string()));
        positions.settings.push(("segment.ms", HOUR.to_string()));
        let mut incidents_changelog =
            TopicSpec { name: self.incidents_changelog.clone(), ..positions.clone() };
        incidents_changelog.partitions = by_scope;
        let erased = TopicSpec { name: self.erased.clone(), partitions: 1, ..positions.clone() };
        let suppress_changelog =
            TopicSpec { name: self.suppress_changelog.clone(), ..positions.clone() };
        let mut suppressions = TopicSpec { name: self.suppressions.clone(), ..positions.clone() };
        // A client of the delta feed that is slower than a day must still see that a lift was forgotten.
        suppressions.settings.push(("delete.retention.ms", (7 * 24 * HOUR).to_string()));
        specs.push(spec(&self.intents, by_scope, 3 * 24));
        specs.push(spec(&self.actions, by_recipient, 14 * 24));
        let compacted_like = |name: &str, partitions| TopicSpec {
            name: name.to_owned(),
            partitions,
            ..positions.clone()
        };
        let segments = compacted_like(&self.segments, by_recipient);
        let automate_changelog = compacted_like(&self.automate_changelog, by_recipient);
        let limits_changelog = compacted_like(&self.limits_changelog, by_scope);
        let campaigns = compacted_like(&self.campaigns, by_scope);
        specs.extend([segments, automate_changelog, limits_changelog, campaigns]);
        specs.extend([
            compacted,
            positions,
            incidents_changelog,
            erased,
            suppressions,
            suppress_changelog,
        ]);
        specs
    }
}

/// Returns how long the changelog of dedupe is retained.
const fn dedupe_hours(layout: Layout) -> u64 {
    layout.dedupe_horizon_hours as u64 + 24
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout {
        recipient_partitions: 1,
        scope_partitions: 1,
        replication: 1,
        dedupe_horizon_hours: 72,
        max_message_bytes: 20 << 20,
    };

    #[test]
    fn topics_are_created_with_the_settings_that_they_must_have() {
        let topics = Topics::new("");
        for (replication, insync) in [(1, "1"), (2, "1"), (3, "2"), (5, "4")] {
            let layout = Layout { replication, ..LAYOUT };
            let specs = topics.specs(layout);
            for required in topics.required_settings(layout) {
                let spec = specs.iter().find(|spec| spec.name == required.topic).unwrap();
                let set = spec.settings.iter().find(|(name, _)| *name == required.name);
                let value = set.map_or("-1", |(_, value)| value); // Kafka's default of retention.bytes
                assert!(required.wanted.allows(value), "{required:?} {value}");
                let raised = required.raise_to.as_deref();
                assert!(raised.is_none_or(|raised| raised == value), "{required:?} {value}");
                if required.name == "min.insync.replicas" {
                    assert_eq!(value, insync, "{replication} replicas");
                }
            }
        }
    }

    #[test]
    fn a_value_is_compared_as_a_number_or_as_text() {
        let values = |wanted: Wanted| {
            ["delete", "compact", "-1", "9", "10", "11"].map(|value| wanted.allows(value))
        };
        assert_eq!(values(Wanted::AtLeast(10)), [false, false, true, false, true, true]);
        assert_eq!(values(Wanted::Exactly("delete")), [true, false, false, false, false, false]);
    }

    #[test]
    fn stable_names() {
        let topics = Topics::new("");
        assert_eq!(topics.raw(Kind::Bounced), "mail.raw.bounced");
        assert_eq!(topics.group("dedupe"), "mailpulse-dedupe");
        assert_eq!(Topics::new("t1.").events, "t1.mail.events");
    }

    #[test]
    fn a_recipient_has_one_partition_number_in_every_topic_keyed_by_it() {
        let layout = Layout { recipient_partitions: 6, scope_partitions: 3, ..LAYOUT };
        let topics = Topics::new("");
        let specs = topics.specs(layout);
        let partitions = |name: &str| specs.iter().find(|s| s.name == name).unwrap().partitions;
        for name in topics.all_raw().chain([
            topics.enriched.as_str(),
            &topics.events,
            &topics.dead_letters,
            &topics.dedupe_changelog,
            &topics.suppressions,
            &topics.suppress_changelog,
            &topics.actions,
            &topics.segments,
            &topics.automate_changelog,
        ]) {
            assert_eq!(partitions(name), 6, "{name}");
        }
        assert_eq!(partitions(&topics.panes), partitions(&topics.monitor_changelog));
        assert_eq!(partitions(&topics.intents), partitions(&topics.limits_changelog));
    }
}
