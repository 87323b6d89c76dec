//! Tools of this machine that the demo and the tests need.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Error, Permission, apt};

/// The oldest Java that can run a Kafka 4 broker.
const OLDEST_JAVA: u32 = 17;

/// A tool, and the Debian packages that contain it.
pub struct Tool {
    pub name: &'static str,
    /// What needs it, as the end of "needed …".
    pub why: &'static str,
    /// The packages to try, best first.
    pub packages: &'static [&'static str],
    find: fn() -> Option<PathBuf>,
}

macro_rules! tools {
    ($($constant:ident = $name:literal, $why:literal, [$($package:literal),+], $find:expr;)*) => {
        impl Tool {
            $(pub const $constant: Self =
                Self { name: $name, why: $why, packages: &[$($package),+], find: $find };)*
        }
    };
}

tools! {
    CC = "a C compiler (cc)", "to compile librdkafka, aws-lc and jemalloc",
        ["gcc"], || on_path("cc");
    MAKE = "make", "to compile librdkafka and jemalloc", ["make"], || on_path("make");
    PKG_CONFIG = "pkg-config", "to find OpenSSL", ["pkg-config"], || on_path("pkg-config");
    OPENSSL = "OpenSSL's headers (libssl-dev)", "to compile librdkafka with TLS",
        ["libssl-dev"], find_openssl;
    LIBCURL = "libcurl's headers (libcurl4-openssl-dev)", "to compile librdkafka with OAUTHBEARER",
        ["libcurl4-openssl-dev"], find_libcurl;
    JAVA = "a Java runtime, version 17 or newer", "to run Kafka",
        ["openjdk-21-jre-headless", "openjdk-17-jre-headless", "openjdk-25-jre-headless"], find_java;
    MAVEN = "Maven (mvn)", "to fetch Kafka's jars", ["maven"], || on_path("mvn");
    NPM = "npm", "to fetch libchdb, the ClickHouse engine", ["npm"], || on_path("npm");
    PROMETHEUS = "Prometheus", "by chaos, and by the tests of the alert rules",
        ["prometheus"], || on_path("prometheus");
    PROMTOOL = "promtool", "by the tests of the alert rules", ["prometheus"], || on_path("promtool");
    ALERTMANAGER = "Alertmanager", "by the tests of notify",
        ["prometheus-alertmanager"], || on_path("prometheus-alertmanager");
    AMTOOL = "amtool", "by the tests of Alertmanager's configuration",
        ["prometheus-alertmanager"], || on_path("amtool");
    CURL = "curl", "by the tests of chdb and of the operator's tool", ["curl"], || on_path("curl");
    CHROMIUM = "Chromium", "by the tests of the console", ["chromium"], find_chromium;
    PYTHON = "Python 3 with venv", "by the tests of chdb", ["python3-venv"], find_python;
    PRLIMIT = "prlimit", "by chaos and by the tests of full disks",
        ["util-linux"], || on_path("prlimit");
}

impl Tool {
    /// Returns the path of the program if it is installed.
    pub fn find(&self) -> Option<PathBuf> {
        (self.find)()
    }

    /// Returns the path of the program, and installs it first if it is missing.
    pub(crate) fn obtain(&self) -> Result<PathBuf, Error> {
        if let Some(found) = self.find() {
            return Ok(found);
        }
        if Permission::of_this_process() == Permission::Granted {
            apt::install(&[self])?;
        }
        self.find().ok_or_else(|| self.missing())
    }

    pub(crate) fn missing(&self) -> Error {
        let install = match self.packages {
            [best, ..] if on_path("apt-get").is_some() => {
                format!("cargo xtask setup (or: sudo apt-get install -y {best})")
            }
            _ => "your package manager".to_owned(),
        };
        Error::MissingTool { tool: self.name, install }
    }
}

/// Returns the path of `java`, and installs a Java runtime first if none can run Kafka.
///
/// # Errors
/// [`Error::MissingTool`] if there is none and this process may not install it, and the errors of the
/// installation.
pub fn java() -> Result<PathBuf, Error> {
    Tool::JAVA.obtain()
}

/// Returns the path of the Prometheus server, and installs it first if it is missing.
///
/// # Errors
/// As [`java`].
pub fn prometheus() -> Result<PathBuf, Error> {
    Tool::PROMETHEUS.obtain()
}

/// Returns the path of the tool that checks Prometheus's configuration, and installs it first if it
/// is missing.
///
/// # Errors
/// As [`java`].
pub fn promtool() -> Result<PathBuf, Error> {
    Tool::PROMTOOL.obtain()
}

/// Returns the path of Debian's Alertmanager, and installs it first if it is missing.
///
/// # Errors
/// As [`java`].
pub fn alertmanager() -> Result<PathBuf, Error> {
    Tool::ALERTMANAGER.obtain()
}

/// Returns the path of the tool that checks Alertmanager's configuration, and installs it first if it
/// is missing.
///
/// # Errors
/// As [`java`].
pub fn amtool() -> Result<PathBuf, Error> {
    Tool::AMTOOL.obtain()
}

/// Returns the path of Chromium or Chrome, and installs Chromium first if both are missing.
///
/// # Errors
/// As [`java`].
pub fn chromium() -> Result<PathBuf, Error> {
    Tool::CHROMIUM.obtain()
}

fn find_chromium() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(on_path)
}

/// The crate `openssl-sys` finds OpenSSL in the same places.
fn find_openssl() -> Option<PathBuf> {
    let configured = std::env::var_os("OPENSSL_DIR").map(PathBuf::from);
    let homebrew = ["/opt/homebrew/opt/openssl@3", "/usr/local/opt/openssl@3"].map(PathBuf::from);
    let mut directories = configured.into_iter().chain(homebrew);
    directories.find(|directory| directory.is_dir()).or_else(|| {
        on_path("pkg-config").filter(|it| output(it, &["--exists", "openssl"]).is_some())
    })
}

/// Without pkg-config, librdkafka finds no libcurl either.
fn find_libcurl() -> Option<PathBuf> {
    on_path("pkg-config").filter(|it| output(it, &["--exists", "libcurl"]).is_some())
}

fn find_java() -> Option<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
    [home, on_path("java")].into_iter().flatten().find(|java| {
        let version = output(java, &["-version"]).and_then(|text| java_version(&text));
        version.is_some_and(|major| major >= OLDEST_JAVA)
    })
}

/// Debian installs `python3` without `ensurepip`, which `python3 -m venv` needs.
fn find_python() -> Option<PathBuf> {
    on_path("python3").filter(|python| output(python, &["-c", "import venv, ensurepip"]).is_some())
}

/// Returns the feature version in the output of `java -version`: `17` of `"17.0.15"`, `8` of
/// `"1.8.0_392"` (the scheme before JEP 223), `26` of `"26-ea"`.
fn java_version(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("version \"")?;
    let (version, _) = rest.split_once('"')?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match numbers.next()?.ok()? {
        1 => numbers.next()?.ok(),
        major => Some(major),
    }
}

/// Returns the path of a program in one of the directories of `PATH`.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}

/// Returns what a program writes to standard output and error, if it succeeds.
pub(crate) fn output(program: &Path, arguments: &[&str]) -> Option<String> {
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
    fn a_missing_tool_is_reported_with_the_command_that_installs_it() {
        let error = Tool::MAVEN.missing();
        assert_eq!(error.code(), "missing_tool");
        if on_path("apt-get").is_some() {
            assert!(error.to_string().ends_with("sudo apt-get install -y maven)"), "{error}");
        }
    }
}
