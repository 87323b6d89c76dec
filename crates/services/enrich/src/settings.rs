//! The section `[enrich]`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use service::{Settings, SettingsError};

use crate::extract::Rule;

/// `[enrich]`; each key is explained in `deploy/mailpulse.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrichSettings {
    /// Where liveness, readiness and metrics are told.
    pub admin: SocketAddr,
    /// Of a transaction at most.
    pub batch_records: usize,
    /// How long a batch waits for its records.
    #[serde(with = "service::units::duration")]
    pub batch_wait: Duration,
    /// So many dead letters in a row hold a partition; 0 for never.
    pub refusals_to_hold: u32,
    pub(crate) mx: bool,
    mx_resolver: String,
    /// How long [`Enrichment::prepare`](crate::Enrichment::prepare) waits for mail exchangers.
    #[serde(with = "service::units::duration")]
    pub mx_wait: Duration,
    pub(crate) mx_domains: NonZeroUsize,
    geo_city: PathBuf,
    geo_asn: PathBuf,
    lookup: Vec<PathBuf>,
    pub(crate) extract: Vec<Rule>,
}

impl EnrichSettings {
    /// Reads the section.
    ///
    /// # Errors
    /// Names the key that cannot be used.
    pub fn read(settings: &Settings) -> Result<Self, SettingsError> {
        let enrich: Self = settings.section("enrich")?;
        if !enrich.mx_resolver.is_empty() && enrich.resolver().is_none() {
            let problem = "write the address and port of a name server, such as 127.0.0.1:53";
            return Err(settings.invalid("enrich.mx_resolver", problem));
        }
        Ok(enrich)
    }

    /// The name server to ask; `None` for the system's own.
    pub(crate) fn resolver(&self) -> Option<SocketAddr> {
        self.mx_resolver.parse().ok()
    }

    /// The database of places, if there is one.
    pub(crate) fn geo_city(&self) -> Option<&Path> {
        given(&self.geo_city)
    }

    /// The database of networks, if there is one.
    pub(crate) fn geo_asn(&self) -> Option<&Path> {
        given(&self.geo_asn)
    }

    /// The look-up tables.
    pub(crate) fn lookups(&self) -> impl Iterator<Item = &Path> {
        self.lookup.iter().map(PathBuf::as_path)
    }
}

/// The empty path is none.
fn given(path: &Path) -> Option<&Path> {
    (!path.as_os_str().is_empty()).then_some(path)
}
