//! The parts of `ingress` and `enrich` that determine the content of an event.

use std::borrow::Cow;
use std::io::{self, Write};
use std::iter;
use std::path::Path;
use std::time::Duration;

use enrich::{EnrichSettings, Enrichment, Loading, RawRecord};
use privacy::Pseudonymizer;
use providers::{Envelope, Mappings, SplitError};
use service::Settings;

use super::RequestContext;
use super::output::EventLines;
use super::raw_events::{BodyEvents, RawEvent, split_body, split_with};

/// The minimum of `mx_timeout`. `enrich` waits for less time, because it blocks a partition and can
/// use a late answer for the next batch. Here nothing else waits, and there is no next batch.
const MIN_MX_TIMEOUT: Duration = Duration::from_secs(5);

/// How long ClickHouse has to answer the queries of `enrich.lookup_query`.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Pipeline {
    pseudonyms: Option<Pseudonymizer>,
    enrichment: Enrichment,
    mappings: Mappings,
}

impl Pipeline {
    /// Without a configuration, uses only the built-in defaults, and no environment variables,
    /// files or name servers, so that the output is the same on every machine.
    pub(super) fn open(config: Option<&Path>) -> anyhow::Result<Self> {
        let settings = match config {
            Some(_) => Settings::discover(config)?,
            None => Settings::load(None, iter::empty())?,
        };
        let mut enrich = EnrichSettings::read(&settings)?;
        enrich.mx_timeout = enrich.mx_timeout.max(MIN_MX_TIMEOUT);
        let mut enrichment = Enrichment::open(&enrich)?;
        if let Loading::Waiting(reason) = enrichment.load(LOOKUP_TIMEOUT) {
            anyhow::bail!("{reason}");
        }
        Ok(Self {
            pseudonyms: Pseudonymizer::from_settings(&settings)?,
            enrichment,
            mappings: Mappings::new(settings.list("source")?)?,
        })
    }

    /// Replaces addresses in a body if pseudonyms are configured.
    pub(super) fn pseudonymize<'b>(&self, body: &'b [u8]) -> Cow<'b, [u8]> {
        self.pseudonyms
            .as_ref()
            .map_or(Cow::Borrowed(body), |pseudonyms| pseudonyms.rewrite_body(body))
    }

    /// Splits a body like the ingress. A source that is not configured has no mapping.
    pub(super) fn split(
        &self,
        context: RequestContext<'_>,
        body: &[u8],
    ) -> Result<BodyEvents, SplitError> {
        let RequestContext { provider, source, .. } = context;
        if !self.mappings.has(provider, source) {
            return split_body(provider, body);
        }
        let whole = split_with(body, |body| self.mappings.split(provider, source, body));
        whole.or_else(|error| {
            let events = self.mappings.split_events(provider, source, body);
            split_with(body, |_| events.unwrap_or(Err(error))).map_err(|_| error)
        })
    }

    /// Writes what `enrich` makes of the raw events, as one batch.
    pub(super) fn enrich(
        &mut self,
        raw_events: &[RawEvent],
        lines: &mut EventLines<'_, impl Write>,
    ) -> io::Result<()> {
        self.enrichment.prepare(raw_events.iter().map(|raw| raw.recipient.as_str()));
        let RequestContext { provider, source, received_at, request_id } = lines.context;
        for RawEvent { recipient, bytes } in raw_events {
            let envelope = Envelope { source, recipient, received_at, request_id };
            let is_mapped = self.mappings.has(provider, source);
            let is_authentic = true;
            let record = RawRecord { provider, envelope, value: bytes, is_mapped, is_authentic };
            match self.enrichment.read(&record, |event, _| lines.event(event)) {
                Ok(written) => written?,
                Err(error) => lines.unreadable_event(&error, recipient, bytes)?,
            }
        }
        Ok(())
    }
}
