use std::fmt::Write;

use crate::needs::Needs;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Demo,
    Up,
    /// All tests, then chaos and truth.
    Test,
    /// Tests that the user has selected.
    TestSome,
    Chaos,
    Truth,
    Day,
    Questions,
    Predict,
    Automate,
    Noise,
    Record,
    Upgrade,
    Bench,
    Dist,
    Setup,
    Help,
}

/// The parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) task: Task,
    /// The arguments of the program `tasks`.
    pub(crate) arguments: Vec<String>,
    /// Install system packages without a question.
    pub(crate) yes: bool,
}

impl Invocation {
    /// Returns `None` if the first argument is not a task.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Option<Self> {
        let (options, arguments): (Vec<_>, Vec<_>) =
            arguments.partition(|argument| argument == "--yes");
        let task = match (arguments.first().map(String::as_str), arguments.len()) {
            (Some("demo"), _) => Task::Demo,
            (Some("up"), _) => Task::Up,
            (Some("test"), 1) => Task::Test,
            (Some("test"), _) => Task::TestSome,
            (Some("chaos"), _) => Task::Chaos,
            (Some("truth"), _) => Task::Truth,
            (Some("day"), _) => Task::Day,
            (Some("questions"), _) => Task::Questions,
            (Some("predict"), _) => Task::Predict,
            (Some("automate"), _) => Task::Automate,
            (Some("noise"), _) => Task::Noise,
            (Some("bench"), _) => Task::Bench,
            (Some("dist"), _) => Task::Dist,
            (Some("record"), _) => Task::Record,
            (Some("upgrade"), _) => Task::Upgrade,
            (Some("setup"), 1) => Task::Setup,
            (Some("help" | "--help" | "-h"), 1) => Task::Help,
            _ => return None,
        };
        Some(Self { task, arguments, yes: !options.is_empty() })
    }

    /// What cargo compiles. Always the whole workspace: with another selection, cargo would unify
    /// features differently and compile dependencies again.
    pub(crate) fn cargo_arguments(&self) -> Vec<&'static str> {
        let mut arguments = vec!["build", "--workspace", "--bins"];
        match self.task {
            Task::Test => arguments.push("--tests"),
            // A simulation in a debug build takes more than an hour.
            Task::Bench | Task::Noise | Task::Dist => arguments.push("--release"),
            _ => {}
        }
        arguments
    }

    /// The subdirectory of the target directory with the compiled programs.
    pub(crate) fn profile_directory(&self) -> &'static str {
        if matches!(self.task, Task::Bench | Task::Noise | Task::Dist) {
            "release"
        } else {
            "debug"
        }
    }

    /// Returns the phases of the task and about how long they take on two cores with empty caches.
    pub(crate) fn announcement(&self, needs: &Needs) -> String {
        let mut text = format!("cargo xtask {}\n", self.arguments.join(" "));
        let mut number = 0;
        let mut phase = |what: &str, duration: &str| {
            number += 1;
            let _ = writeln!(text, "  {number}. {what:<58} {duration}");
        };
        phase("check and install the tools of this machine", "seconds");
        if let Some(downloads) = needs.downloads() {
            phase(&format!("fetch {downloads}, once"), "1-3 min, during 3.");
        }
        match self.task {
            Task::Test => phase("compile the workspace and its tests", "12 min, later seconds"),
            Task::Bench | Task::Noise | Task::Dist => {
                phase("compile the workspace for release", "20 min, later seconds");
            }
            Task::Setup | Task::Help => {}
            _ => phase("compile the workspace", "7 min, later seconds"),
        }
        let start = "start Kafka, ClickHouse and the services";
        match self.task {
            Task::Demo => {
                phase(start, "15 s");
                phase("post five hours of mail and compare the results", "1 min");
            }
            Task::Up => phase(start, "15 s"),
            Task::Test => {
                phase("start Kafka and ClickHouse, and run all tests", "10 min");
                phase("a short chaos run", "5 min");
                phase("a short truth run", "2 min");
                phase("a short day", "2 min");
                phase("the questions of the analysts", "2 min");
                phase("automate, while it is killed", "2 min");
            }
            Task::TestSome => phase("start Kafka and ClickHouse, and run cargo test", "varies"),
            Task::Chaos => {
                phase(start, "20 s");
                phase("kill, freeze and stop everything", "--short 3 min, else --minutes");
                phase("wait for the last events and prove the ledger", "1-3 min");
            }
            Task::Truth => {
                phase(start, "20 s");
                phase("post a week of mail", "--short 1 min, else 5 min");
                phase("compare every metric with the truth", "20 s");
            }
            Task::Day => {
                phase(start, "20 s");
                phase("play a day of mail in virtual time", "--short 2 min, else 10 min");
                phase("compare what people were told with the expectation", "20 s");
            }
            Task::Questions => {
                phase(start, "20 s");
                phase("send mail, and ask every question of the analysts", "2 min");
            }
            Task::Predict => phase("simulate recipients and score predictions", "1 min"),
            Task::Automate => {
                phase("start Kafka", "10 s");
                phase("kill members of automate while events arrive", "--short 95 s, else 3 min");
            }
            Task::Noise => phase("simulate healthy senders", "--days 30: 5 min"),
            Task::Record => {
                phase(start, "20 s");
                phase("post mail, and kill one process after the other", "1 min");
                phase("start the services on a copy, and pack the rest", "2 min");
            }
            Task::Upgrade => {
                phase("start Kafka, ClickHouse and the services on a recording", "20 s");
                phase("process what is left, and compare the results", "1 min");
            }
            Task::Bench => {
                phase("start Kafka and ClickHouse", "10 s");
                phase("run the legs of the benchmark", "10 min");
            }
            Task::Dist => phase("pack the release into target/dist", "1 min"),
            Task::Setup | Task::Help => {}
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Invocation> {
        Invocation::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_task_keeps_its_arguments_except_for_yes() {
        let demo = parse("demo --yes --once").unwrap();
        assert_eq!((demo.task, demo.yes), (Task::Demo, true));
        assert_eq!(demo.arguments, ["demo", "--once"]);
        assert_eq!(parse("test").unwrap().task, Task::Test);
        assert_eq!(parse("test --yes").unwrap().task, Task::Test);
        assert_eq!(parse("test -p dedupe").unwrap().task, Task::TestSome);
        assert_eq!(parse("--help").unwrap().task, Task::Help);
        for wrong in ["", "demos", "--once demo"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn cargo_always_selects_the_whole_workspace() {
        for task in [
            "demo",
            "up",
            "test",
            "test -p dedupe",
            "chaos",
            "truth",
            "day",
            "questions",
            "predict",
            "automate",
            "noise",
            "record",
            "upgrade",
            "bench",
            "dist",
        ] {
            let arguments = parse(task).unwrap().cargo_arguments();
            assert!(arguments.starts_with(&["build", "--workspace", "--bins"]), "{task}");
        }
    }

    #[test]
    fn the_announcement_fits_a_terminal() {
        for task in [
            "demo --once",
            "up",
            "test",
            "test -p dedupe",
            "chaos",
            "truth --short",
            "day --kills",
            "questions --short",
            "predict --short",
            "automate --short",
            "noise --days 30",
            "record /tmp/recording",
            "upgrade",
            "bench",
            "dist",
            "setup",
        ] {
            let announcement = parse(task).unwrap().announcement(&Needs::default());
            let longest = announcement.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= 100, "{task}: {longest}");
        }
    }
}
