//! The services between a webhook and the archive, as far as they decide what an event says.

use std::borrow::Cow;
use std::io::{self, Write};
use std::iter;
use std::path::Path;
use std::time::Duration;

use enrich::{EnrichSettings, Enrichment, RawRecord};
use privacy::Pseudonyms;
use providers::Envelope;
use service::Settings;

use super::Arrival;
use super::cut::Piece;
use super::lines::Lines;

/// How long the name server has to answer at least. `enrich` holds its stream for less and may have
/// the answer from an earlier round; here nobody waits behind, and there is no other round.
const PATIENCE: Duration = Duration::from_secs(5);

/// The services as they are configured.
pub(super) struct Pipeline {
    pseudonyms: Option<Pseudonyms>,
    enrichment: Enrichment,
}

impl Pipeline {
    /// By this configuration. Without one by the built-in defaults alone, whatever is set or lies
    /// about: the same everywhere, and no file and no name server is asked.
    pub(super) fn open(config: Option<&Path>) -> anyhow::Result<Self> {
        let settings = match config {
            Some(_) => Settings::discover(config)?,
            None => Settings::load(None, iter::empty())?,
        };
        let mut enrich = EnrichSettings::read(&settings)?;
        enrich.mx_wait = enrich.mx_wait.max(PATIENCE);
        Ok(Self {
            pseudonyms: privacy::configured(&settings)?,
            enrichment: Enrichment::open(&enrich)?,
        })
    }

    /// The body as the ingress splits it: with pseudonyms, where they are wanted.
    pub(super) fn ingress<'b>(&self, body: &'b [u8]) -> Cow<'b, [u8]> {
        self.pseudonyms.as_ref().map_or(Cow::Borrowed(body), |pseudonyms| pseudonyms.body(body))
    }

    /// Writes what `enrich` makes of raw events, as one round.
    pub(super) fn enrich(
        &mut self,
        pieces: &[Piece],
        lines: &mut Lines<'_, impl Write>,
    ) -> io::Result<()> {
        self.enrichment.prepare(pieces.iter().map(|piece| piece.recipient.as_str()));
        let Arrival { provider, source, received_at, request_id } = lines.arrival;
        for Piece { recipient, bytes } in pieces {
            let envelope = Envelope { source, recipient, received_at, request_id };
            let record = RawRecord { provider, envelope, value: bytes };
            match self.enrichment.read(&record, |event| lines.event(event)) {
                Ok(written) => written?,
                Err(why) => lines.refused_event(&why, recipient, bytes)?,
            }
        }
        Ok(())
    }
}
