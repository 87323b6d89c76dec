//! The crates that the programs of a release consist of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::contents::programs;
use super::copy;
use crate::binaries::cargo;

/// The output of `cargo metadata`, as far as it is needed.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

/// A crate.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Package {
    id: String,
    pub(super) name: String,
    pub(super) version: String,
    /// An SPDX expression. Old crates separate licences by `/`.
    pub(super) license: Option<String>,
    /// Absent for a crate of the workspace.
    pub(super) source: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Debug, Clone, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// `None` for a dependency of the program, `build` of its build script, `dev` of its tests.
    kind: Option<String>,
}

/// `Cargo.lock`.
#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// The crates of the programs and everything they are built from, without what only tests need.
pub(super) struct Packages {
    /// By id.
    packages: BTreeMap<String, Package>,
    /// The direct dependencies, by id.
    dependencies: BTreeMap<String, BTreeSet<String>>,
    /// The SHA-256 digests of the crates of a registry, by name and version.
    checksums: BTreeMap<(String, String), String>,
}

impl Packages {
    /// Asks cargo for the crates of the programs on a platform.
    ///
    /// # Errors
    /// If cargo fails, or a program is in no crate.
    pub(super) fn shipped(target: &str) -> anyhow::Result<Self> {
        let output = cargo()
            .args(["metadata", "--format-version=1", "--locked", "--filter-platform", target])
            .output()
            .context("cannot start cargo")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cargo metadata: {error}");
        let Metadata { packages, resolve } = serde_json::from_slice(&output.stdout)?;
        let direct: BTreeMap<String, BTreeSet<String>> = resolve
            .nodes
            .into_iter()
            .map(|node| {
                let is_shipped = |it: &Dependency| {
                    it.dep_kinds.iter().any(|kind| kind.kind.as_deref() != Some("dev"))
                };
                let dependencies = node.deps.into_iter().filter(is_shipped);
                (node.id, dependencies.map(|it| it.pkg).collect())
            })
            .collect();
        let mut waiting = Vec::new();
        for program in programs() {
            let has_program = |it: &&Package| {
                let is_program =
                    |it: &Target| it.name == program && it.kind.contains(&"bin".into());
                it.source.is_none() && it.targets.iter().any(is_program)
            };
            let package = packages.iter().find(has_program);
            waiting.push(package.with_context(|| format!("no crate has {program}"))?.id.clone());
        }
        let mut dependencies = BTreeMap::new();
        while let Some(id) = waiting.pop() {
            let of_it = direct.get(&id).with_context(|| format!("cargo resolves no {id}"))?;
            if dependencies.insert(id, of_it.clone()).is_none() {
                waiting.extend(of_it.iter().cloned());
            }
        }
        let shipped = packages.into_iter().filter(|it| dependencies.contains_key(&it.id));
        let packages = shipped.map(|it| (it.id.clone(), it)).collect();
        Ok(Self { packages, dependencies, checksums: checksums()? })
    }

    /// Returns the version of the release: that of the tool.
    ///
    /// # Errors
    /// If the tool is not among the crates.
    pub(super) fn version(&self) -> anyhow::Result<&str> {
        let tool = self.packages.values().find(|it| it.name == "mailpulse");
        Ok(&tool.context("the tool is missing")?.version)
    }

    /// Returns each crate with its direct dependencies, by name and version.
    pub(super) fn with_dependencies(&self) -> Vec<(&Package, Vec<&Package>)> {
        let by_id = |id: &String| self.packages.get(id);
        let mut all: Vec<(&Package, Vec<&Package>)> = self
            .packages
            .values()
            .map(|package| {
                let direct = self.dependencies.get(&package.id).into_iter().flatten();
                let mut direct: Vec<&Package> = direct.filter_map(by_id).collect();
                direct.sort_by_key(|it| (&it.name, &it.version));
                (package, direct)
            })
            .collect();
        all.sort_by_key(|(it, _)| (&it.name, &it.version));
        all
    }

    /// Returns the SHA-256 digest of a crate of a registry.
    pub(super) fn checksum(&self, package: &Package) -> Option<&str> {
        let key = (package.name.clone(), package.version.clone());
        self.checksums.get(&key).map(String::as_str)
    }

    /// Copies the texts of the licences of all crates of a registry, each into a directory of its own.
    ///
    /// # Errors
    /// If a file cannot be copied.
    pub(super) fn copy_licences(&self, to: &Path) -> anyhow::Result<()> {
        for package in self.packages.values().filter(|it| it.source.is_some()) {
            let folder = package.manifest_path.parent().context("a manifest has no directory")?;
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().to_uppercase();
                let is_licence =
                    ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"]
                        .iter()
                        .any(|word| name.starts_with(word));
                if is_licence && entry.path().is_file() {
                    let own = to.join(format!("{}-{}", package.name, package.version));
                    copy(&entry.path(), &own.join(entry.file_name()))?;
                }
            }
        }
        Ok(())
    }
}

fn checksums() -> anyhow::Result<BTreeMap<(String, String), String>> {
    let path = devstack::fetch::workspace().join("Cargo.lock");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lock: Lock = toml::from_str(&text)?;
    let with_checksum = lock.package.into_iter().filter_map(|it| {
        let Locked { name, version, checksum } = it;
        Some(((name, version), checksum?))
    });
    Ok(with_checksum.collect())
}
