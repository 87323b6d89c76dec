//! Who must not be mailed, and why. Pure: no I/O, no clock.
//!
//! - [`policy`] decides, from the events of one recipient, when an entry begins and ends.
//! - [`entry`] is what `mail.suppressions` contains: one record per list, recipient, reason, scope and author.
//! - [`list`] names the list of an event and the purpose of an unsubscription.
//! - [`digest`] names a recipient without the address.
//! - [`table`] holds all entries in memory, in 22 bytes each, and [`standing`] answers questions about them.
//! - [`edit`] makes the records of operators.
//! - [`cursor`] is the place of a client in the delta feed.
//! - [`formats`] reads and writes the suppression lists of providers.

pub mod cursor;
pub mod digest;
pub mod edit;
pub mod entry;
pub mod formats;
pub mod list;
pub mod policy;
pub mod standing;
pub mod table;
pub mod wording;

pub use digest::{RecipientDigest, RecipientKey};
pub use entry::{Author, EntryKey, EntryValue, Purpose, Reason, State};
pub use policy::{Mark, Policy, Signal, Streak};
