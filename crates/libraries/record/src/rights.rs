//! What each service may do in Kafka, as access control lists (ACLs) express it.
//!
//! A cluster whose authorizer denies by default needs these entries, and no others. Operations that imply
//! another one are not repeated: reading and writing a topic imply describing it
//! (<https://kafka.apache.org/documentation/#operations_resources_and_protocols>).

use std::fmt;

use crate::Topics;

/// The principals: the services, and `operator` for the tool `mailpulse`.
pub const PRINCIPALS: [&str; 11] = [
    "ingress", "enrich", "dedupe", "monitor", "archive", "notify", "suppress", "forward",
    "automate", "console", OPERATOR,
];

/// The principal of the tool `mailpulse`.
const OPERATOR: &str = "operator";

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    Topic,
    /// A consumer group.
    Group,
    TransactionalId,
    /// The cluster. Its entries have no name.
    Cluster,
}

/// What an entry allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    Read,
    Write,
    Create,
    Describe,
    /// Reading the settings of a topic, or of the brokers.
    DescribeConfigs,
    /// Changing the settings of a topic.
    AlterConfigs,
}

/// One entry of an access control list. It allows; nothing is denied explicitly.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Right {
    /// One of [`PRINCIPALS`].
    pub principal: &'static str,
    pub resource: Resource,
    /// The name of the resource, or how it begins.
    pub name: String,
    /// Whether the entry is about all resources whose names begin with `name`.
    pub is_prefix: bool,
    pub operation: Operation,
}

impl Resource {
    /// The name in Kafka's command line tools, such as `transactional-id`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Group => "group",
            Self::TransactionalId => "transactional-id",
            Self::Cluster => "cluster",
        }
    }
}

impl Operation {
    /// The name in Kafka's command line tools, such as `DescribeConfigs`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Create => "Create",
            Self::Describe => "Describe",
            Self::DescribeConfigs => "DescribeConfigs",
            Self::AlterConfigs => "AlterConfigs",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a service reads and writes.
struct Access<'t> {
    principal: &'static str,
    reads: Vec<&'t str>,
    writes: Vec<&'t str>,
    /// Whether it is in consumer groups, whose names begin with `mailpulse-` and the principal.
    has_group: bool,
    /// Whether it writes in transactions, whose ids begin like the names of the groups.
    has_transactions: bool,
}

impl Topics {
    /// Returns the entries that all services and the tool need. If `creates` (the setting
    /// `topics.create`), services may create topics and raise their settings.
    pub fn rights(&self, creates: bool) -> Vec<Right> {
        let each = self.accesses();
        let mut rights: Vec<Right> =
            each.iter().flat_map(|access| self.rights_of(access, creates)).collect();
        rights.extend(self.rights_of_operator());
        rights
    }

    /// The table of readers and writers.
    fn accesses(&self) -> Vec<Access<'_>> {
        let raw: Vec<&str> = self.all_raw().collect();
        let ingress = Access {
            principal: "ingress",
            reads: Vec::new(),
            writes: raw.iter().copied().chain([&*self.dead_letters]).collect(),
            has_group: false,
            has_transactions: false,
        };
        let mut enrich = self.stage("enrich", &[], &[&self.enriched]);
        enrich.reads.extend(raw);
        let without_transactions = |access| Access { has_transactions: false, ..access };
        let console = Access {
            principal: "console",
            reads: own(&[&self.events, &self.rates, &self.incidents]).collect(),
            writes: Vec::new(),
            has_group: false,
            has_transactions: false,
        };
        vec![
            ingress,
            enrich,
            self.stage(
                "dedupe",
                &[&self.enriched, &self.dedupe_changelog],
                &[&self.events, &self.dedupe_changelog],
            ),
            self.stage(
                "monitor",
                &[
                    &self.events,
                    &self.panes,
                    &self.alerts,
                    &self.monitor_changelog,
                    &self.incidents_changelog,
                ],
                &[
                    &self.panes,
                    &self.rates,
                    &self.alerts,
                    &self.incidents,
                    &self.campaigns,
                    &self.monitor_changelog,
                    &self.incidents_changelog,
                ],
            ),
            without_transactions(self.stage(
                "archive",
                &[
                    &self.events,
                    &self.rates,
                    &self.alerts,
                    &self.incidents,
                    &self.actions,
                    &self.suppressions,
                    &self.dead_letters,
                ],
                &[],
            )),
            without_transactions(self.stage("notify", &[&self.incidents], &[&self.alerts])),
            self.stage(
                "suppress",
                &[&self.events, &self.incidents, &self.suppressions, &self.suppress_changelog],
                &[&self.suppressions, &self.suppress_changelog],
            ),
            without_transactions(self.stage("forward", &[&self.events], &[])),
            self.stage(
                "automate",
                &[
                    &self.events,
                    &self.incidents,
                    &self.intents,
                    &self.actions,
                    &self.segments,
                    &self.campaigns,
                    &self.suppressions,
                    &self.automate_changelog,
                    &self.limits_changelog,
                ],
                &[
                    &self.intents,
                    &self.actions,
                    &self.segments,
                    &self.automate_changelog,
                    &self.limits_changelog,
                ],
            ),
            console,
        ]
    }

    /// A stage that reads and writes in transactions. Every stage follows the erased recipients, knows its own positions, and
    /// writes dead letters.
    fn stage<'t>(
        &'t self,
        principal: &'static str,
        reads: &[&'t String],
        writes: &[&'t String],
    ) -> Access<'t> {
        Access {
            principal,
            reads: own(reads).chain([&*self.erased, &*self.positions]).collect(),
            writes: own(writes).chain([&*self.dead_letters, &*self.positions]).collect(),
            has_group: true,
            has_transactions: true,
        }
    }

    fn rights_of(&self, access: &Access<'_>, creates: bool) -> Vec<Right> {
        let Access { principal, reads, writes, has_group, has_transactions } = access;
        let right = |resource, name: &str, is_prefix, operation| {
            let name = name.to_owned();
            Right { principal, resource, name, is_prefix, operation }
        };
        let mut rights = self.rights_of_all(principal);
        if creates {
            let topics = self.topics_prefix();
            rights.push(right(Resource::Topic, &topics, true, Operation::Create));
            rights.push(right(Resource::Topic, &topics, true, Operation::AlterConfigs));
        }
        let read = |topic: &&str| right(Resource::Topic, topic, false, Operation::Read);
        rights.extend(reads.iter().map(read));
        let write = |topic: &&str| right(Resource::Topic, topic, false, Operation::Write);
        rights.extend(writes.iter().map(write));
        // `monitor` and `automate` have several stages, so the name is a prefix.
        let own = self.group(principal);
        if *has_group {
            rights.push(right(Resource::Group, &own, true, Operation::Read));
        }
        if *has_transactions {
            rights.push(right(Resource::TransactionalId, &own, true, Operation::Write));
        }
        rights
    }

    /// What every principal needs: it checks the topics at its start, and asks which group protocol the
    /// brokers have. A client that reads without a group has the name of one, and looks for its coordinator.
    fn rights_of_all(&self, principal: &'static str) -> Vec<Right> {
        let (topics, groups) = (self.topics_prefix(), self.group(""));
        let right = |resource, name: &str, is_prefix, operation| {
            let name = name.to_owned();
            Right { principal, resource, name, is_prefix, operation }
        };
        let mut rights = vec![
            right(Resource::Cluster, "", false, Operation::DescribeConfigs),
            right(Resource::Topic, &topics, true, Operation::Describe),
            right(Resource::Topic, &topics, true, Operation::DescribeConfigs),
            right(Resource::Group, &groups, true, Operation::Describe),
        ];
        if !self.prefix.is_empty() {
            rights.push(right(Resource::Group, "mailpulse-", true, Operation::Describe));
        }
        rights
    }

    /// The tool reads every topic and writes to most of them: it redrives dead letters, erases, suppresses, and sets
    /// positions.
    fn rights_of_operator(&self) -> Vec<Right> {
        let (topics, groups) = (self.topics_prefix(), self.group(""));
        let right = |resource, name: &str, operation| {
            let name = name.to_owned();
            Right { principal: OPERATOR, resource, name, is_prefix: true, operation }
        };
        let mut rights = self.rights_of_all(OPERATOR);
        rights.extend([
            right(Resource::Topic, &topics, Operation::Read),
            right(Resource::Topic, &topics, Operation::Write),
            right(Resource::Group, &groups, Operation::Read),
            right(Resource::TransactionalId, &groups, Operation::Write),
        ]);
        rights
    }

    /// How the names of all topics begin.
    fn topics_prefix(&self) -> String {
        format!("{}mail.", self.prefix)
    }
}

fn own<'t>(topics: &[&'t String]) -> impl Iterator<Item = &'t str> {
    topics.iter().map(|topic| topic.as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn may(rights: &[Right], principal: &str, topic: &str, operation: Operation) -> bool {
        rights.iter().any(|right| {
            let is_meant = match right.is_prefix {
                true => topic.starts_with(&right.name),
                false => topic == right.name,
            };
            right.principal == principal
                && right.resource == Resource::Topic
                && right.operation == operation
                && is_meant
        })
    }

    #[test]
    fn only_dedupe_and_the_operator_write_events() {
        let topics = Topics::new("prod.");
        for creates in [false, true] {
            let rights = topics.rights(creates);
            let writers: Vec<&str> = PRINCIPALS
                .into_iter()
                .filter(|it| may(&rights, it, &topics.events, Operation::Write))
                .collect();
            assert_eq!(writers, ["dedupe", "operator"]);
            assert!(!may(&rights, "ingress", &topics.events, Operation::Read));
        }
    }

    #[test]
    fn every_topic_is_read_and_written_by_a_service() {
        let topics = Topics::new("");
        let layout = crate::Layout {
            recipient_partitions: 6,
            scope_partitions: 6,
            replication: 3,
            dedupe_horizon_hours: 1,
            max_message_bytes: 1 << 20,
        };
        let rights = topics.rights(false);
        for spec in topics.specs(layout) {
            for operation in [Operation::Read, Operation::Write] {
                let services = PRINCIPALS.into_iter().filter(|it| *it != OPERATOR);
                let by: Vec<&str> =
                    services.filter(|it| may(&rights, it, &spec.name, operation)).collect();
                // Only the tool writes tombstones.
                let is_written = spec.name != topics.erased || operation == Operation::Read;
                assert_eq!(!by.is_empty(), is_written, "{operation} {}: {by:?}", spec.name);
            }
        }
    }

    #[test]
    fn no_right_is_given_twice_and_none_outside_of_the_prefix() {
        let rights = Topics::new("prod.").rights(true);
        let distinct: BTreeSet<&Right> = rights.iter().collect();
        assert_eq!(distinct.len(), rights.len());
        for right in &rights {
            let is_shared = right.resource == Resource::Cluster || right.name == "mailpulse-";
            assert!(is_shared || right.name.starts_with("prod.mail"), "{right:?}");
            // Names of groups without the prefix are only looked for.
            let is_changing = matches!(right.operation, Operation::Read | Operation::Write);
            assert!(!is_shared || !is_changing, "{right:?}");
        }
    }
}
