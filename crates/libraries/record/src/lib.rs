//! What travels between the services: topic names, record keys and headers, offsets, dead letters.
//!
//! Headers are UTF-8 text, except for `event-id` and `engagement-id` (16 raw bytes), `link`
//! (4 raw bytes) and `for-dedupe`
//! ([`ForDedupe`]). Nothing here talks to Kafka; the crate `kafka` moves what this crate describes.

mod dead_letter;
mod fit;
mod for_dedupe;
mod headers;
mod offset;
pub mod rights;
mod time_record;
mod topics;

pub use dead_letter::{DEAD_LETTER_REASONS, DeadLetter, DeadLetterHeaders, Origin, Reason, Stage};
pub use fit::{FittedDeadLetter, fit, record_bytes};
pub use for_dedupe::ForDedupe;
pub use headers::{
    Correction, Corrections, EnrichedHeaders, EventHeaders, FirstSeen, HeaderError, RawHeaders,
    Tally, content_types, names, text_header,
};
pub use offset::{NextOffset, Offset};
pub use time_record::{TimeRecord, time_record};
pub use topics::{Layout, RequiredSetting, TopicSpec, Topics, Wanted};
