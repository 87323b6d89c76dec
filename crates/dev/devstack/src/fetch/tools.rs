//! The tools of the machine we lean on: a Java runtime, Maven, npm, Prometheus and Alertmanager. What
//! is missing is installed where we may, else named together with the line that installs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{Error, notice, process};

/// Package lists and a Java runtime over a slow line.
const INSTALL_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// What Kafka 4 brokers need.
const OLDEST_JAVA: u32 = 17;

/// A tool and the Debian packages that bring it, best first.
struct Tool {
    name: &'static str,
    packages: &'static [&'static str],
    find: fn() -> Option<PathBuf>,
}

const JAVA: Tool = Tool {
    name: "a Java runtime, version 17 or newer,",
    packages: &["openjdk-21-jre-headless", "openjdk-17-jre-headless", "openjdk-25-jre-headless"],
    find: find_java,
};
const MAVEN: Tool = Tool { name: "Maven", packages: &["maven"], find: || on_path("mvn") };
const NPM: Tool = Tool { name: "npm", packages: &["npm"], find: || on_path("npm") };
const PROMETHEUS: Tool =
    Tool { name: "Prometheus", packages: &["prometheus"], find: || on_path("prometheus") };
const PROMTOOL: Tool =
    Tool { name: "promtool", packages: &["prometheus"], find: || on_path("promtool") };
const ALERTMANAGER: Tool = Tool {
    name: "Alertmanager",
    packages: &["prometheus-alertmanager"],
    find: || on_path("prometheus-alertmanager"),
};
const AMTOOL: Tool =
    Tool { name: "amtool", packages: &["prometheus-alertmanager"], find: || on_path("amtool") };

/// The `java` program of a runtime that can run Kafka, installed if need be.
///
/// # Errors
/// [`Error::MissingTool`] when there is none and we may not install it, or the installation fails.
pub fn java() -> Result<PathBuf, Error> {
    JAVA.obtain()
}

/// The Prometheus server, installed if need be.
///
/// # Errors
/// As [`java`].
pub fn prometheus() -> Result<PathBuf, Error> {
    PROMETHEUS.obtain()
}

/// The tool that checks Prometheus's configuration, installed if need be.
///
/// # Errors
/// As [`java`].
pub fn promtool() -> Result<PathBuf, Error> {
    PROMTOOL.obtain()
}

/// Debian's Alertmanager, installed if need be.
///
/// # Errors
/// As [`java`].
pub fn alertmanager() -> Result<PathBuf, Error> {
    ALERTMANAGER.obtain()
}

/// The tool that checks Alertmanager's configuration, installed if need be.
///
/// # Errors
/// As [`java`].
pub fn amtool() -> Result<PathBuf, Error> {
    AMTOOL.obtain()
}

pub(super) fn maven() -> Result<Command, Error> {
    MAVEN.obtain().map(Command::new)
}

pub(super) fn npm() -> Result<Command, Error> {
    NPM.obtain().map(Command::new)
}

impl Tool {
    fn obtain(&self) -> Result<PathBuf, Error> {
        if let Some(found) = (self.find)() {
            return Ok(found);
        }
        if let Step::Install { as_root } = step(Machine::look()) {
            self.install(as_root)?;
        }
        (self.find)().ok_or_else(|| self.missing())
    }

    /// Installs the first package that can be installed; the caller looks whether it did.
    fn install(&self, as_root: &[&str]) -> Result<(), Error> {
        let log = std::env::temp_dir().join(format!("devstack-apt-{}.log", std::process::id()));
        let apt = |words: &[&str]| {
            let line = [as_root, &["apt-get", "-q", "-y"], words].concat();
            notice(&format!("{} is missing: {}", self.name, line.join(" ")));
            let mut command = Command::new(line[0]);
            command.args(&line[1..]).env("DEBIAN_FRONTEND", "noninteractive");
            process::run(command, &log, INSTALL_PATIENCE, || {})
        };
        // A failed update is no reason to give up: the lists at hand may do.
        let _ = apt(&["update"]);
        let mut last = Ok(());
        for package in self.packages {
            last = apt(&["install", "--no-install-recommends", package]);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    fn missing(&self) -> Error {
        let install = match self.packages {
            [best, ..] if on_path("apt-get").is_some() => format!("sudo apt-get install -y {best}"),
            _ => "your package manager".to_owned(),
        };
        Error::MissingTool { tool: self.name, install }
    }
}

/// What we may do on this machine.
#[derive(Debug, Clone, Copy)]
struct Machine {
    apt: bool,
    root: bool,
    /// `sudo` works without asking for a password.
    sudo: bool,
}

/// What to do about a missing tool.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Run apt-get behind these words.
    Install { as_root: &'static [&'static str] },
    /// Leave it to the user.
    Tell,
}

fn step(machine: Machine) -> Step {
    match machine {
        Machine { apt: false, .. } => Step::Tell,
        Machine { root: true, .. } => Step::Install { as_root: &[] },
        Machine { sudo: true, .. } => Step::Install { as_root: &["sudo", "-n"] },
        _ => Step::Tell,
    }
}

impl Machine {
    fn look() -> Self {
        Self {
            apt: on_path("apt-get").is_some(),
            root: output(Path::new("id"), &["-u"]).is_some_and(|id| id.trim() == "0"),
            sudo: output(Path::new("sudo"), &["-n", "true"]).is_some(),
        }
    }
}

fn find_java() -> Option<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
    [home, on_path("java")].into_iter().flatten().find(|java| {
        let version = output(java, &["-version"]).and_then(|text| java_version(&text));
        version.is_some_and(|major| major >= OLDEST_JAVA)
    })
}

/// The feature version in what `java -version` prints: `17` of `"17.0.15"`, `8` of `"1.8.0_392"`
/// (the scheme before JEP 223), `26` of `"26-ea"`.
fn java_version(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("version \"")?;
    let (version, _) = rest.split_once('"')?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match numbers.next()?.ok()? {
        1 => numbers.next()?.ok(),
        major => Some(major),
    }
}

/// Where a program is on the PATH.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}

/// What a program prints, on both streams, if it succeeds.
fn output(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    output.status.success().then(|| String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_versions_of_all_schemes_are_read() {
        let debian = "openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime Environment";
        assert_eq!(java_version(debian), Some(17));
        assert_eq!(java_version("java version \"1.8.0_392\""), Some(8));
        assert_eq!(java_version("openjdk version \"26-ea\" 2026-03-17"), Some(26));
        assert_eq!(java_version("openjdk version \"21\" 2023-09-19 LTS"), Some(21));
        let noisy = "Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version \"25.0.1\"";
        assert_eq!(java_version(noisy), Some(25));
        assert_eq!(java_version("java: command not found"), None);
        assert_eq!(java_version("openjdk version \"\""), None);
    }

    #[test]
    fn a_missing_tool_is_installed_only_where_we_may() {
        let machine = |apt, root, sudo| Machine { apt, root, sudo };
        assert_eq!(step(machine(true, true, false)), Step::Install { as_root: &[] });
        assert_eq!(step(machine(true, true, true)), Step::Install { as_root: &[] });
        let with_sudo = Step::Install { as_root: &["sudo", "-n"] };
        assert_eq!(step(machine(true, false, true)), with_sudo);
        assert_eq!(step(machine(true, false, false)), Step::Tell);
        assert_eq!(step(machine(false, true, true)), Step::Tell);
    }

    #[test]
    fn what_is_missing_is_named_with_its_mend() {
        let error = MAVEN.missing();
        assert_eq!(error.code(), "missing_tool");
        if on_path("apt-get").is_some() {
            assert!(error.to_string().ends_with("sudo apt-get install -y maven"), "{error}");
        }
    }
}
