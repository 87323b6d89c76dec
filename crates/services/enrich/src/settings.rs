//! The section `[enrich]`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kafka::BatchSettings;
use providers::Mappings;
use serde::Deserialize;
use service::{ClickHouseSettings, Settings, SettingsError};

use crate::extract::Rule;
use crate::lookup_query::LookupQuery;
use crate::sources::SourceSettings;
use crate::url_rules::{ConversionRule, InterestRule};
use crate::{extract, lookup_query, url_rules};

/// The section `[enrich]`. `deploy/mailpulse.toml` explains the keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrichSettings {
    /// The address of the admin server.
    pub admin: SocketAddr,
    /// The maximum number of records per transaction.
    batch_records: usize,
    /// The size of a transaction in bytes.
    batch_bytes: usize,
    /// The maximum time to wait until a batch is full.
    #[serde(with = "service::units::duration")]
    batch_wait: Duration,
    /// After this many dead letters in a row a partition is held; 0 means never.
    refusal_limit: u32,
    pub(crate) mx_lookups: bool,
    mx_resolver: String,
    /// The maximum time that [`Enrichment::prepare`](crate::Enrichment::prepare) waits for DNS.
    #[serde(with = "service::units::duration")]
    pub mx_timeout: Duration,
    pub(crate) mx_cache_domains: NonZeroUsize,
    geo_city: PathBuf,
    geo_asn: PathBuf,
    lookup: Vec<PathBuf>,
    pub(crate) lookup_query: Vec<LookupQuery>,
    pub(crate) count_unauthentic: bool,
    pub(crate) extract: Vec<Rule>,
    pub(crate) conversion: Vec<ConversionRule>,
    pub(crate) interest: Vec<InterestRule>,
    /// Only if there are look-up queries.
    #[serde(skip)]
    pub(crate) clickhouse: Option<ClickHouseSettings>,
    /// The mappings of the `[[source]]` tables, with which the ingress splits.
    #[serde(skip)]
    pub(crate) mappings: Mappings,
    #[serde(skip)]
    pub(crate) sources: Vec<SourceSettings>,
}

impl EnrichSettings {
    /// Reads the section.
    ///
    /// # Errors
    /// Fails if a value is invalid; the error names the key.
    pub fn read(settings: &Settings) -> Result<Self, SettingsError> {
        let mut enrich: Self = settings.section("enrich")?;
        enrich.mappings = Mappings::new(settings.list("source")?)
            .map_err(|error| settings.invalid("source", error.to_string()))?;
        enrich.sources = SourceSettings::read_all(settings)?;
        extract::check(settings, &enrich.extract)?;
        url_rules::check(settings, &enrich.conversion, &enrich.interest)?;
        lookup_query::check(settings, &enrich.lookup_query)?;
        if !enrich.lookup_query.is_empty() {
            enrich.clickhouse = Some(settings.section("clickhouse")?);
        }
        if !enrich.mx_resolver.is_empty() && enrich.resolver().is_none() {
            let problem = "set it to the address and port of a name server, such as 127.0.0.1:53";
            return Err(settings.invalid("enrich.mx_resolver", problem));
        }
        Ok(enrich)
    }

    /// Returns the size of a transaction and the refusal limit.
    pub const fn batch(&self) -> BatchSettings {
        BatchSettings {
            records: self.batch_records,
            bytes: self.batch_bytes,
            wait: self.batch_wait,
            refusal_limit: self.refusal_limit,
        }
    }

    /// Returns the configured name server; `None` means those of the system.
    pub(crate) fn resolver(&self) -> Option<SocketAddr> {
        self.mx_resolver.parse().ok()
    }

    pub(crate) fn geo_city(&self) -> Option<&Path> {
        non_empty(&self.geo_city)
    }

    pub(crate) fn geo_asn(&self) -> Option<&Path> {
        non_empty(&self.geo_asn)
    }

    pub(crate) fn lookups(&self) -> impl Iterator<Item = &Path> {
        self.lookup.iter().map(PathBuf::as_path)
    }
}

/// Returns `None` for an empty path, which means that the file is not configured.
fn non_empty(path: &Path) -> Option<&Path> {
    (!path.as_os_str().is_empty()).then_some(path)
}
