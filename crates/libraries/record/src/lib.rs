//! What travels between the binaries: topic names, keys, headers, dead letters.
//!
//! Every record carries its headers as UTF-8 text except `event-id` and `engagement-id`, which are
//! 16 raw bytes. Nothing here touches Kafka; the `stream` crate moves what this crate describes.

mod dead;
mod headers;
mod topics;

pub use dead::{DEAD_LETTER_REASONS, DeadLetter, Origin, Reason, Stage};
pub use headers::{
    EnrichedHeaders, EventHeaders, FirstSight, HeaderError, RawHeaders, names, text_header,
};
pub use topics::{Layout, TopicSpec, Topics};
