//! The directory of an installation: what its operator wrote, and what its processes store.
//!
//! Paths in the settings are relative to it, so it can be anywhere. Addresses in the settings are
//! literal, as in a real installation; they are replaced when it is started elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use testkit::Credentials;

use super::settings::{self, ENVIRONMENT, FILES};
use crate::pipeline::free_address;

/// Addresses by name. An admin address has the name of its service; the other names are below.
pub(crate) type Addresses = BTreeMap<String, String>;

pub(crate) const KAFKA: &str = "kafka";
pub(crate) const CLICKHOUSE: &str = "clickhouse";
/// The address to which providers post.
pub(crate) const WEBHOOKS: &str = "webhooks";
/// The address to which alerts are delivered.
pub(crate) const RECEIVER: &str = "receiver";

/// Returns the addresses in new settings, which are those of the documentation.
pub(crate) fn written_addresses() -> Addresses {
    [
        (KAFKA, 9092),
        (CLICKHOUSE, 8123),
        (WEBHOOKS, 8080),
        (RECEIVER, 9180),
        ("ingress", 9101),
        ("enrich", 9102),
        ("dedupe", 9103),
        ("monitor", 9104),
        ("archive", 9105),
        ("notify", 9106),
    ]
    .into_iter()
    .map(|(name, port)| (name.to_owned(), format!("127.0.0.1:{port}")))
    .collect()
}

/// Returns the given addresses, and free ones for the other names of `written`.
pub(crate) fn free_addresses(written: &Addresses, given: Addresses) -> anyhow::Result<Addresses> {
    let mut all = given;
    for name in written.keys() {
        if !all.contains_key(name) {
            all.insert(name.clone(), free_address()?);
        }
    }
    Ok(all)
}

/// The directory of an installation.
pub(crate) struct Home(PathBuf);

impl Home {
    /// Creates the directory with everything that an operator writes.
    pub(crate) fn create(directory: &Path, credentials: &Credentials) -> anyhow::Result<Self> {
        ensure!(!directory.exists(), "{} exists; choose a new directory", directory.display());
        for part in ["secrets", "lookups", "state"] {
            std::fs::create_dir_all(directory.join(part))?;
        }
        let home = Self::open(directory)?;
        credentials.write_certificates(&home.path("certificates"))?;
        let (toml, secrets) = settings::generate(credentials);
        std::fs::write(home.settings_file(), toml)?;
        for (name, secret) in secrets {
            std::fs::write(home.path("secrets").join(name), format!("{secret}\n"))?;
        }
        for (name, text) in FILES {
            std::fs::write(home.path(name), text)?;
        }
        Ok(home)
    }

    /// Opens an existing directory.
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        Ok(Self(directory.canonicalize().with_context(|| directory.display().to_string())?))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.0.join(part)
    }

    fn settings_file(&self) -> PathBuf {
        self.path("mailpulse.toml")
    }

    /// Returns the operator's settings.
    pub(crate) fn settings(&self) -> anyhow::Result<String> {
        let file = self.settings_file();
        std::fs::read_to_string(&file).with_context(|| file.display().to_string())
    }

    /// Returns the operator's settings with the addresses `from` replaced by those of `to`.
    pub(crate) fn settings_at(&self, from: &Addresses, to: &Addresses) -> anyhow::Result<String> {
        let mut toml = self.settings()?;
        for (name, address) in from {
            ensure!(toml.contains(address), "{address} of {name} is not in the settings");
            let other = to.get(name).with_context(|| format!("no address for {name}"))?;
            toml = toml.replace(address, other);
        }
        Ok(toml)
    }
}

/// Returns the environment variables that new settings refer to.
pub(crate) fn environment(credentials: &Credentials) -> BTreeMap<String, String> {
    let key = (settings::SENDGRID_KEY.to_owned(), credentials.sendgrid_public_key());
    let more = ENVIRONMENT.map(|(name, value)| (name.to_owned(), value.to_owned()));
    std::iter::once(key).chain(more).collect()
}
