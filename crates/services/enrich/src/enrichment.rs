//! Adds data to an event that its provider did not send.

use std::rc::Rc;
use std::time::{Duration, Instant};

use event::{CounterSet, Event, Geo, Text, domain_of};
use providers::Mappings;

use crate::agents::{Agent, Agents};
use crate::data_centres::DataCentres;
use crate::extract::Extraction;
use crate::geography::Geography;
use crate::lookup::Lookups;
use crate::mailbox::{MailboxProviders, OTHER};
use crate::mx::MailExchanges;
use crate::mx_hosts::MxHosts;
use crate::settings::EnrichSettings;
use crate::signals::Signals;
use crate::sources::Sources;
use crate::url_rules::UrlRules;
use crate::{Loading, OpenError, RawRecord, Unreadable};

/// All sources of additional data. Each thread needs its own, because it caches user agents.
pub struct Enrichment {
    mailbox_providers: MailboxProviders,
    exchanges: Option<MailExchanges>,
    agents: Agents,
    data_centres: DataCentres,
    geography: Geography,
    extraction: Extraction,
    url_rules: UrlRules,
    lookups: Lookups,
    mappings: Mappings,
    sources: Sources,
    signals: Signals,
    count_unauthentic: bool,
}

impl Enrichment {
    /// Reads all tables and files, and starts the threads for `enrich.mx_lookups` and
    /// `enrich.lookup_query` if they are set.
    ///
    /// # Errors
    /// Fails if a file cannot be read or the resolver cannot start; the error names the setting.
    pub fn open(settings: &EnrichSettings) -> Result<Self, OpenError> {
        let exchanges = settings.mx_lookups.then(|| {
            MailExchanges::start(
                settings.resolver(),
                settings.mx_timeout,
                settings.mx_cache_domains,
            )
        });
        let mailbox_providers = MailboxProviders::load()?;
        let hosts = MxHosts::load()?;
        Ok(Self {
            sources: Sources::open(settings.sources.clone(), &mailbox_providers, &hosts)?,
            mailbox_providers,
            exchanges: exchanges.transpose()?,
            agents: Agents::load()?,
            data_centres: DataCentres::load()?,
            geography: Geography::open(settings.geo_city(), settings.geo_asn())?,
            extraction: Extraction::new(settings.extract.clone()),
            url_rules: UrlRules::new(settings.conversion.clone(), settings.interest.clone()),
            lookups: Lookups::open(
                settings.lookups(),
                &settings.lookup_query,
                settings.clickhouse.as_ref(),
            )?,
            mappings: settings.mappings.clone(),
            signals: Signals::load()?,
            count_unauthentic: settings.count_unauthentic,
        })
    }

    /// Waits at most `within` until every query of `enrich.lookup_query` has been answered once. Call it
    /// before the first batch, until it is done.
    pub fn load(&mut self, within: Duration) -> Loading {
        self.lookups.load(within)
    }

    /// Prepares a batch: reloads files that have changed, and resolves the mail exchangers of the
    /// recipients' domains. Nothing changes during the batch.
    pub fn prepare<'r>(&mut self, recipients: impl Iterator<Item = &'r str>) {
        let now = Instant::now();
        self.geography.refresh(now);
        self.lookups.refresh(now);
        if let Some(exchanges) = &mut self.exchanges {
            let known = &self.mailbox_providers;
            let domains = recipients.map(domain_of);
            exchanges.prepare(domains.filter(|domain| known.of_domain(domain).is_none()));
        }
    }

    /// Parses a raw record, adds the data, and passes the event to `use_event`, with what it counts
    /// for if it is the first of its kind. That is `None` for an event that does not count because it
    /// is not authentic. The event is not returned because it borrows from the record and from the
    /// tables.
    ///
    /// # Errors
    /// Fails if the record cannot be parsed.
    pub fn read<T>(
        &mut self,
        record: &RawRecord<'_>,
        use_event: impl FnOnce(&Event<'_>, Option<CounterSet>) -> T,
    ) -> Result<T, Unreadable> {
        let RawRecord { provider, is_mapped, is_authentic, value, envelope } = record;
        let mut event = self.mappings.parse(*provider, *is_mapped, value, envelope)?;
        event.authentic = *is_authentic;
        let agent = self.agent(&event);
        self.add(&mut event, agent.as_deref());
        let is_counted = event.authentic || self.count_unauthentic;
        let would_count =
            is_counted.then(|| event.would_count(self.sources.reports_complaints(&event)));
        Ok(use_event(&event, would_count))
    }

    /// Returns the client of an open or click.
    fn agent(&mut self, event: &Event<'_>) -> Option<Rc<Agent>> {
        let user_agent = event.user_agent.as_deref().filter(|_| event.kind.is_engagement())?;
        Some(self.agents.classify(user_agent))
    }

    /// Adds all data. `agent` is the result of [`Enrichment::agent`] for this event.
    fn add<'e>(&'e self, event: &mut Event<'e>, agent: Option<&'e Agent>) {
        if let Some(recipient) = event.recipient.as_deref() {
            event.mailbox_provider = Some(Text::from(self.mailbox_provider(domain_of(recipient))));
        }
        self.extraction.add(event);
        self.url_rules.add(event);
        self.sources.add_sender(event);
        self.signals.add(event);
        self.lookups.add(event);
        if event.kind.is_engagement() {
            self.add_client(event, agent);
        }
    }

    fn mailbox_provider(&self, domain: &str) -> &str {
        let by_exchange =
            || self.exchanges.as_ref().and_then(|exchanges| exchanges.of_domain(domain));
        self.mailbox_providers.of_domain(domain).or_else(by_exchange).unwrap_or(OTHER)
    }

    /// Adds the client and its location. If several signs indicate a machine, the most reliable one
    /// counts: first the provider's classification, then the user agent, then the network.
    fn add_client<'e>(&self, event: &mut Event<'e>, agent: Option<&'e Agent>) {
        let is_the_readers = agent.is_none_or(Agent::is_the_readers);
        let reported = event.geo.take().filter(|_| is_the_readers);
        let found = event.ip.as_deref().and_then(|ip| self.geography.look_up(ip, is_the_readers));
        let geo = location(found, reported);
        let by_network = || {
            let asn = geo.as_ref()?.asn.filter(|_| is_the_readers)?;
            self.data_centres.automation(asn)
        };
        event.automation = event
            .automation
            .or_else(|| agent.and_then(|agent| agent.automation))
            .or_else(by_network);
        event.client = agent.and_then(Agent::client);
        event.geo = geo;
    }
}

/// Returns what the databases know. If they do not know the place, it is the one that the provider
/// reports.
fn location<'e>(found: Option<Geo<'e>>, reported: Option<Geo<'e>>) -> Option<Geo<'e>> {
    match (found, reported) {
        (Some(Geo { country: None, asn, network, .. }), Some(reported)) => {
            Some(Geo { asn, network, ..reported })
        }
        (found, reported) => found.or(reported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_databases_come_before_the_provider() {
        let geo = |country: Option<&'static str>, city: &'static str, asn| {
            Some(Geo {
                country: country.map(Text::from),
                city: Text::from(city).non_empty(),
                asn,
                ..Geo::default()
            })
        };
        let reported = geo(Some("US"), "Austin", None);
        assert_eq!(location(None, reported.clone()), reported);
        assert_eq!(location(geo(Some("NL"), "", None), None), geo(Some("NL"), "", None));
        let found = geo(Some("NL"), "", Some(1));
        assert_eq!(location(found.clone(), reported.clone()), found, "not half of each");
        let network = geo(None, "", Some(1));
        assert_eq!(location(network, reported), geo(Some("US"), "Austin", Some(1)));
    }
}
