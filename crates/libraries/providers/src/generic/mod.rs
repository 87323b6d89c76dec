//! Mailpulse's own JSON form, signed with an HMAC of the body. It is for senders that have no
//! format of their own.

mod diagnose;
mod options;
mod parse;
mod split;
mod template;
mod verify;

use crate::Profile;
use crate::profile::MIB;

pub(crate) use diagnose::variants;
pub use options::Options;
pub(crate) use parse::{GenericEvent, parse};
pub(crate) use split::{kind, split};
pub(crate) use verify::Verifier;

pub(crate) const PROFILE: Profile = Profile {
    body_limit: 4 * MIB,
    missing_signature_fix: "name the sender's headers in `header` and `timestamp_header`",
    ..Profile::DEFAULT
};
