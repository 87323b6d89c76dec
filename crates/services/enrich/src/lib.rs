//! `enrich`: the provider's bytes in, canonical events out.
//!
//! In: `mail.raw.*`, each record one event at one recipient in its provider's own form. Out:
//! `mail.enriched`, the canonical event as JSON with what `dedupe` needs in its headers, same key
//! and partition. What cannot be read goes to `mail.dead-letters` as it came, with the reason.
//!
//! Stateless and deterministic: the same bytes give the same `event_id`, and with the same tables,
//! databases and mail exchangers the same event.
//!
//! This library is the only way from a [`RawRecord`] to its event, [`Enrichment::read`]. The binary
//! puts Kafka around it; `mailpulse parse` shows an operator what comes out.

mod agents;
mod data_centres;
mod enrichment;
mod error;
mod extract;
mod geography;
mod lookup;
mod mailbox;
mod mx;
mod mx_hosts;
mod pointer;
mod raw;
mod settings;
mod watched;

pub use enrichment::Enrichment;
pub use error::{FileError, OpenError};
pub use raw::{RawRecord, Unreadable};
pub use settings::EnrichSettings;
