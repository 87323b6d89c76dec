//! What is known of an event beyond its provider's bytes.

use std::rc::Rc;
use std::time::Instant;

use event::{Event, Text, domain_of};

use crate::agents::{Agent, Agents};
use crate::data_centres::DataCentres;
use crate::extract::Extraction;
use crate::geography::Geography;
use crate::lookup::Lookups;
use crate::mailbox::{MailboxProviders, OTHER};
use crate::mx::MailExchanges;
use crate::settings::EnrichSettings;
use crate::{OpenError, RawRecord, Unreadable};

/// All tables and files. One of them serves one thread: it remembers the user agents it has met.
pub struct Enrichment {
    mailbox_providers: MailboxProviders,
    exchanges: Option<MailExchanges>,
    agents: Agents,
    data_centres: DataCentres,
    geography: Geography,
    extraction: Extraction,
    lookups: Lookups,
}

impl Enrichment {
    /// Reads everything, and starts to ask for mail exchangers where that is wanted.
    ///
    /// # Errors
    /// When a file cannot be read, or no name server asked; the setting is named.
    pub fn open(settings: &EnrichSettings) -> Result<Self, OpenError> {
        let exchanges = settings.mx.then(|| {
            MailExchanges::start(settings.resolver(), settings.mx_wait, settings.mx_domains)
        });
        Ok(Self {
            mailbox_providers: MailboxProviders::load()?,
            exchanges: exchanges.transpose()?,
            agents: Agents::load()?,
            data_centres: DataCentres::load()?,
            geography: Geography::open(settings.geo_city(), settings.geo_asn())?,
            extraction: Extraction::new(settings.extract.clone()),
            lookups: Lookups::open(settings.lookups())?,
        })
    }

    /// Before a round: takes files that have changed, and asks for the mail exchangers of the
    /// recipients' domains. Within a round nothing changes.
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

    /// Reads a raw record, and hands on its event with all that is known of it.
    ///
    /// # Errors
    /// When its bytes are no event.
    pub fn read<T>(
        &mut self,
        record: &RawRecord<'_>,
        take: impl FnOnce(&Event<'_>) -> T,
    ) -> Result<T, Unreadable> {
        let mut event = providers::parse(record.provider, record.value, &record.envelope)?;
        let agent = self.agent(&event);
        self.add(&mut event, agent.as_deref());
        Ok(take(&event))
    }

    /// What is known of the client of an open or click.
    fn agent(&mut self, event: &Event<'_>) -> Option<Rc<Agent>> {
        let user_agent = event.user_agent.as_deref().filter(|_| event.kind.is_engagement())?;
        Some(self.agents.of(user_agent))
    }

    /// Fills in what is known, with the event's own [`Enrichment::agent`].
    fn add<'e>(&'e self, event: &mut Event<'e>, agent: Option<&'e Agent>) {
        if let Some(recipient) = event.recipient.as_deref() {
            event.mailbox_provider = Some(Text::from(self.mailbox_provider(domain_of(recipient))));
        }
        self.extraction.add(event);
        self.lookups.add(event);
        if event.kind.is_engagement() {
            self.add_client(event, agent);
        }
    }

    fn mailbox_provider(&self, domain: &str) -> &str {
        let asked = || self.exchanges.as_ref().and_then(|exchanges| exchanges.of_domain(domain));
        self.mailbox_providers.of_domain(domain).or_else(asked).unwrap_or(OTHER)
    }

    /// Of several signs of a machine the most certain sort holds: the provider's own word, then the
    /// client's, then where it stands.
    fn add_client<'e>(&self, event: &mut Event<'e>, agent: Option<&'e Agent>) {
        let is_the_readers = agent.is_none_or(Agent::is_the_readers);
        let geo = event.ip.as_deref().and_then(|ip| self.geography.of(ip, is_the_readers));
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
