//! Mailpulse's own JSON form, signed with an HMAC of the body. A sender with a form of its own has a
//! mapping in its source's settings: where the events are, where their fields are, and what its
//! names of events mean.

mod diagnose;
mod mapped;
mod mapping;
mod mappings;
mod options;
mod parse;
mod split;
mod template;
mod verify;

use crate::Profile;
use crate::profile::MIB;

pub(crate) use diagnose::variants;
pub use mapping::Mapping;
pub use mappings::{Mappings, SourceMapping};
pub use options::Options;
pub(crate) use parse::{GenericEvent, parse};
pub(crate) use split::{kind, split};
pub(crate) use verify::Verifier;

pub(crate) const PROFILE: Profile = Profile {
    body_limit: 4 * MIB,
    missing_signature_fix: "name the sender's headers in `header` and `timestamp_header`",
    ..Profile::DEFAULT
};
