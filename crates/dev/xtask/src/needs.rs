//! What a task needs on this machine.

use fetch::Tool;

use crate::task::{Invocation, Task};

/// Server software that must be fetched, and groups of tools.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// A Kafka broker will be a child process.
    pub(crate) kafka: bool,
    /// Kafka's jars are not in the cache.
    pub(crate) kafka_jars: bool,
    /// libchdb is needed and not in the cache.
    pub(crate) libchdb: bool,
    /// clickhouse-connect is needed and not in the cache.
    pub(crate) clickhouse_connect: bool,
    /// aiosmtpd is needed and not in the cache.
    pub(crate) aiosmtpd: bool,
    /// Helm is needed and not in the cache.
    pub(crate) helm: bool,
    /// Prometheus and prlimit, for chaos.
    chaos: bool,
    /// The tools of the tests.
    tests: bool,
}

impl Needs {
    pub(crate) fn of(invocation: &Invocation) -> Self {
        let cache = fetch::cache();
        // These tasks kill servers or need servers with certain data, so they start their own even if
        // others run.
        let own_servers = matches!(
            invocation.task,
            Task::Chaos | Task::Record | Task::Upgrade | Task::Test | Task::TestSome | Task::Setup
        );
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let has_servers = invocation.task != Task::Dist;
        let starts = |variable| {
            has_servers && (own_servers || (!is_set(variable) && !fetch::docker_answers()))
        };
        let (kafka, clickhouse) = (starts("MAILPULSE_KAFKA"), starts("MAILPULSE_CLICKHOUSE"));
        let tests = matches!(invocation.task, Task::Test | Task::Setup);
        Self {
            kafka,
            kafka_jars: kafka && !fetch::has_kafka_jars(&cache),
            libchdb: clickhouse && !fetch::has_libchdb(&cache),
            clickhouse_connect: tests && !fetch::has_clickhouse_connect(&cache),
            aiosmtpd: tests && !fetch::has_aiosmtpd(&cache),
            helm: tests && !fetch::has_helm(&cache),
            chaos: tests || invocation.task == Task::Chaos,
            tests,
        }
    }

    /// Returns the tools that must be installed before anything else starts.
    pub(crate) fn tools(&self) -> Vec<&'static Tool> {
        let groups: [(bool, &[&'static Tool]); 7] = [
            (true, &[&Tool::CC, &Tool::MAKE, &Tool::PKG_CONFIG, &Tool::OPENSSL, &Tool::LIBCURL]),
            (self.kafka, &[&Tool::JAVA]),
            (self.kafka_jars, &[&Tool::MAVEN]),
            (self.libchdb, &[&Tool::NPM]),
            (self.clickhouse_connect || self.aiosmtpd || self.helm, &[&Tool::PYTHON]),
            (self.chaos, &[&Tool::PROMETHEUS, &Tool::PRLIMIT]),
            (
                self.tests,
                &[
                    &Tool::PROMTOOL,
                    &Tool::ALERTMANAGER,
                    &Tool::AMTOOL,
                    &Tool::CURL,
                    &Tool::CHROMIUM,
                ],
            ),
        ];
        groups
            .into_iter()
            .filter(|(needed, _)| *needed)
            .flat_map(|(_, tools)| tools.to_vec())
            .collect()
    }

    /// Returns what will be fetched, for the announcement.
    pub(crate) fn downloads(&self) -> Option<String> {
        let names = [
            (self.kafka_jars, "Kafka (44 MB)"),
            (self.libchdb, "libchdb (543 MB unpacked)"),
            (self.clickhouse_connect, "clickhouse-connect"),
            (self.aiosmtpd, "aiosmtpd"),
            (self.helm, "Helm (compiled)"),
        ];
        let names: Vec<_> =
            names.into_iter().filter_map(|(needed, name)| needed.then_some(name)).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_needed_only_for_what_is_not_fetched_yet() {
        let names = |needs: Needs| needs.tools().iter().map(|tool| tool.name).collect::<Vec<_>>();
        let nothing = names(Needs::default());
        let build = [Tool::CC, Tool::MAKE, Tool::PKG_CONFIG, Tool::OPENSSL, Tool::LIBCURL]
            .map(|it| it.name);
        assert_eq!(nothing, build);
        let kafka = names(Needs { kafka: true, ..Needs::default() });
        assert_eq!(kafka[5..], [Tool::JAVA.name]);
        let fetch =
            names(Needs { kafka: true, kafka_jars: true, libchdb: true, ..Needs::default() });
        assert_eq!(fetch[5..], [Tool::JAVA.name, Tool::MAVEN.name, Tool::NPM.name]);
    }
}
