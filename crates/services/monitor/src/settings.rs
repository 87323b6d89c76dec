//! The `[monitor]` section.

use std::net::SocketAddr;
use std::time::Duration;

use alerting::rule::Rule;
use alerting::{Override, RuleSet, Zone};
use event::Provider;
use kafka::BatchSettings;
use serde::Deserialize;
use service::{Settings, SettingsError};
use window::ScopeKind;

use crate::history::Zones;
use crate::incidents_settings::IncidentsSection;

/// An event partition that has been idle for this many times `idle_after` is gone. With the default
/// that is a minute: if the service that writes to the partition crashes, it takes about that long
/// until the group notices, the transaction is ended and another member has taken over.
const GONE_AFTER_IDLE: u32 = 12;

/// The shortest time by which event time may run ahead of an idle partition. Windows of an hour are
/// corrected for twice that time.
const LEAST_SLACK: Duration = Duration::from_secs(5 * 60);

/// Which windows of which scopes are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Publish {
    /// Those of sources that add up to any time, all windows of a scope while one of its alerts is
    /// open, and the windows that caused a transition.
    Changes,
    /// Also every other window that changes.
    All,
}

/// The time zone of a `[[source]]`. Its other keys are ignored, so that `monitor` needs none of its secrets.
#[derive(Debug, Deserialize)]
struct SourceZone {
    provider: Provider,
    name: String,
    time_zone: Option<String>,
}

/// Returns the time zones of the sources that have one.
pub(crate) fn zones(settings: &Settings) -> Result<Zones, SettingsError> {
    let sources: Vec<SourceZone> = settings.list("source")?;
    let mut zones = Zones::default();
    for (index, SourceZone { provider, name, time_zone }) in sources.into_iter().enumerate() {
        let Some(time_zone) = time_zone else { continue };
        let zone = Zone::named(&time_zone).map_err(|error| {
            settings.invalid(&format!("source[{index}].time_zone"), error.to_string())
        })?;
        zones.insert(provider, name, zone);
    }
    Ok(zones)
}

/// The keys are explained in `deploy/mailpulse.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MonitorSettings {
    pub(crate) admin: SocketAddr,
    batch_records: usize,
    batch_bytes: usize,
    #[serde(with = "service::units::duration")]
    batch_wait: Duration,
    refusal_limit: u32,
    #[serde(with = "service::units::duration")]
    out_of_orderness: Duration,
    #[serde(with = "service::units::duration")]
    pub(crate) idle_after: Duration,
    scopes: Vec<ScopeKind>,
    max_scopes_per_source: usize,
    pub(crate) max_scope_bytes: usize,
    pub(crate) publish: Publish,
    #[serde(default)]
    rule: Vec<Rule>,
    #[serde(rename = "override", default)]
    overrides: Vec<Override>,
    pub(crate) incidents: IncidentsSection,
}

impl MonitorSettings {
    /// Returns the rules and their overrides. Without a rule in the settings, these are the default rules. `settings` are
    /// those of which this is a section.
    pub(crate) fn rules(&self, settings: &Settings) -> Result<RuleSet, SettingsError> {
        let defaults =
            || RuleSet::defaults().rules().iter().map(|rule| Rule::clone(rule)).collect();
        let rules = if self.rule.is_empty() { defaults() } else { self.rule.clone() };
        RuleSet::new(rules, self.overrides.clone())
            .map_err(|error| settings.invalid("monitor.rule", error.to_string()))
    }

    /// The size of a transaction, and the refusal limit.
    pub(crate) const fn batch(&self) -> BatchSettings {
        BatchSettings {
            records: self.batch_records,
            bytes: self.batch_bytes,
            wait: self.batch_wait,
            refusal_limit: self.refusal_limit,
        }
    }

    /// Returns by how much an event may be older than the newest event of its partition without being
    /// late, in microseconds of event time.
    pub(crate) fn out_of_orderness(&self) -> i64 {
        micros(self.out_of_orderness)
    }

    /// Returns the kinds of scopes that have rates. Sources always have.
    pub(crate) fn scopes(&self) -> Vec<ScopeKind> {
        let mut scopes = self.scopes.clone();
        scopes.push(ScopeKind::Source);
        scopes.sort_unstable();
        scopes.dedup();
        scopes
    }

    /// Returns how many scopes of one source, besides the source itself, a shard keeps. Scopes are
    /// spread evenly over the shards.
    pub(crate) fn scopes_per_shard(&self, shards: usize) -> usize {
        self.max_scopes_per_source.div_ceil(shards.max(1))
    }

    /// Returns after how long without records an event partition is gone.
    pub(crate) fn gone_after(&self) -> Duration {
        self.idle_after.saturating_mul(GONE_AFTER_IDLE)
    }

    /// Returns how far the event time of a shard may run ahead of an idle partition, in microseconds.
    /// With live traffic, the partition is behind by at most the time for which it has been idle.
    pub(crate) fn slack(&self) -> i64 {
        micros(LEAST_SLACK.max(self.gone_after()))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use window::Scope;

    use super::*;

    fn zones_of(sources: &str) -> Result<Zones, SettingsError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mailpulse.toml");
        std::fs::write(&path, sources).unwrap();
        zones(&Settings::load(Some(&path), std::iter::empty()).unwrap())
    }

    #[test]
    fn a_source_has_the_time_zone_of_its_settings() {
        let sources = "[[source]]\nprovider = \"ses\"\nname = \"acme\"\nsecrets = [\"env:NOT_SET_HERE\"]\n\
                       time_zone = \"Europe/Berlin\"\n[[source]]\nprovider = \"ses\"\nname = \"bolt\"\n";
        let zones = zones_of(sources).unwrap();
        let of = |key| zones.of(&Scope::parse(key).unwrap());
        let berlin = Zone::named("Europe/Berlin").unwrap();
        assert_eq!(of("source/ses/acme"), berlin);
        assert_eq!(of("mailbox/ses/acme/gmail"), berlin);
        for other in ["source/ses/bolt", "source/sendgrid/acme", "tenant/acme"] {
            assert_eq!(of(other), Zone::UTC, "{other}");
        }
        let error = zones_of(&sources.replace("Europe/Berlin", "Berlin")).unwrap_err().to_string();
        assert!(
            error.contains("source[0].time_zone") && error.contains("Europe/Berlin"),
            "{error}"
        );
        assert!(zones_of("").is_ok());
    }
}
