//! The canonical event: the form of every email event, independent of its provider.
//!
//! This crate does no I/O and reads no clock. The JSON form of [`Event`] is the value of the Kafka
//! topics `mail.enriched` and `mail.events`; its JSON Schema is `schemas/event.schema.json`.

mod address;
mod automation;
mod bounce;
mod canonical;
mod client;
mod conversion;
mod counter;
mod delivery;
mod dimension;
mod id;
mod kind;
pub mod limits;
mod provider;
mod text;
mod time;

pub use address::{addresses, domain_of, recipient_key};
pub use automation::{Automation, AutomationReason};
pub use bounce::{Bounce, BounceClass, BounceSide, Permanence};
pub use canonical::Event;
pub use client::{Client, Device, Geo};
pub use conversion::Conversion;
pub use counter::{Counter, CounterSet};
pub use delivery::Delivery;
pub use dimension::{Dimension, DimensionDigests, DimensionSet};
pub use id::{EventId, IdBuilder, ParseIdError};
pub use kind::Kind;
pub use provider::Provider;
pub use text::Text;
pub use time::{OccurredAt, ReceivedAt, TimeFault};
