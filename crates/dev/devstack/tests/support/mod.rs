//! Reads the repository's files for the tests of documents and deployment files.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "every test program uses a part of this module")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

/// Returns the root of the workspace.
pub fn root() -> &'static Path {
    devstack::fetch::workspace()
}

/// Reads a file of the workspace.
pub fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads a YAML file of the workspace.
pub fn yaml<T: DeserializeOwned>(path: &str) -> T {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns every Rust file below `crates/*/*/src`, by path.
pub fn sources() -> Vec<(PathBuf, String)> {
    fn collect(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    for member in members() {
        let src = member.join("src");
        if src.is_dir() {
            collect(&src, &mut found);
        }
    }
    found
}

/// Returns the directories of all crates, `crates/*/*`.
pub fn members() -> Vec<PathBuf> {
    let directories = |path: PathBuf| {
        let entries = std::fs::read_dir(path).unwrap().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir())
    };
    directories(root().join("crates")).flat_map(directories).collect()
}

/// Returns the names of the services: the crates in `crates/services`.
pub fn binaries() -> BTreeSet<String> {
    let is_main = |path: &Path| {
        path.ends_with("src/main.rs") && path.components().any(|it| it.as_os_str() == "services")
    };
    sources()
        .into_iter()
        .filter(|(path, _)| is_main(path))
        .map(|(path, _)| path.iter().rev().nth(2).unwrap().to_str().unwrap().to_owned())
        .collect()
}

/// Returns the anchors of a page's headings, as GitHub makes them.
pub fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| heading.trim_start_matches('#').trim().to_lowercase())
        .map(|heading| {
            heading.replace(|c: char| !c.is_ascii_alphanumeric() && !" -_".contains(c), "")
        })
        .map(|heading| heading.replace(' ', "-"))
        .collect()
}

/// The keys of the Compose Specification that `docker-compose.yml` uses. Any other key is an error: it
/// is misspelt, or these tests do not check it yet.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compose {
    pub name: String,
    #[serde(rename = "x-service")]
    pub _shared: IgnoredAny,
    pub services: BTreeMap<String, Service>,
    #[serde(default)]
    pub volumes: BTreeMap<String, Option<BTreeMap<String, String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub image: Option<String>,
    pub build: Option<Build>,
    pub pull_policy: Option<PullPolicy>,
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub profiles: BTreeSet<String>,
    /// `address:host:container`.
    #[serde(default)]
    pub ports: Vec<String>,
    /// `source:target[:ro]`.
    #[serde(default)]
    pub volumes: Vec<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, Scalar>,
    #[serde(default)]
    pub env_file: Vec<EnvFile>,
    #[serde(default)]
    pub depends_on: BTreeMap<String, Dependency>,
    pub healthcheck: Option<Healthcheck>,
    pub restart: Option<String>,
    pub stop_grace_period: Option<String>,
    #[serde(default)]
    pub ulimits: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    pub context: String,
    pub dockerfile: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    Build,
    Never,
}

/// The value of an environment variable.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    Number(i64),
    Text(String),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvFile {
    pub path: String,
    pub required: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    pub condition: Condition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Condition {
    #[serde(rename = "service_started")]
    Started,
    #[serde(rename = "service_healthy")]
    Healthy,
    #[serde(rename = "service_completed_successfully")]
    Completed,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Healthcheck {
    pub test: Vec<String>,
    pub interval: String,
    pub timeout: String,
    pub retries: u32,
    pub start_period: String,
}

impl Compose {
    /// Reads `docker-compose.yml`.
    pub fn load() -> Self {
        yaml("docker-compose.yml")
    }

    /// Returns the services that run Mailpulse's image.
    pub fn own(&self) -> impl Iterator<Item = (&str, &Service)> {
        let own = self.services.iter().filter(|(_, service)| {
            service.image.as_deref().is_some_and(|image| !image.contains('/'))
        });
        own.map(|(name, service)| (name.as_str(), service))
    }
}

impl Service {
    /// Returns whether it runs a verb of the tool, and no service of the workspace.
    pub fn runs_the_tool(&self) -> bool {
        self.command.first().is_some_and(|program| program == "mailpulse")
    }

    /// Returns the path of the workspace that is mounted at `target`.
    pub fn mounted(&self, target: &str) -> Option<&str> {
        self.volumes.iter().find_map(|volume| {
            let (source, rest) = volume.split_once(':')?;
            (rest.split(':').next() == Some(target)).then(|| source.strip_prefix("./")).flatten()
        })
    }
}
