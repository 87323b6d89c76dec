//! `enrich` turns raw events into canonical events.
//!
//! Input: `mail.raw.*`. Each record is one event for one recipient in its provider's format.
//! Output: `mail.enriched`, the canonical event as JSON. Its headers contain what `dedupe` needs;
//! key and partition stay the same. A record that cannot be parsed goes to `mail.dead-letters`,
//! unchanged, with the reason.
//!
//! The stage is stateless and deterministic. The same bytes always give the same `event_id`. With
//! the same lookup tables, databases and mail exchangers they also give the same event.
//!
//! [`Enrichment::read`] is the only function that turns a [`RawRecord`] into an event. The service
//! calls it for each Kafka record, and `mailpulse parse` shows its result to an operator.

mod agents;
mod data_centres;
mod enrichment;
mod error;
mod extract;
mod geography;
mod lookup;
mod lookup_query;
mod mailbox;
mod mx;
mod mx_hosts;
mod raw;
mod settings;
mod signals;
mod sources;
mod url_pattern;
mod url_rules;
mod watched;

pub use enrichment::Enrichment;
pub use error::{FileError, OpenError};
pub use lookup_query::Loading;
pub use raw::{RawRecord, Unreadable};
pub use settings::EnrichSettings;
