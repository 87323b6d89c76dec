//! Postmark's webhooks: one JSON object, with HTTP credentials and no signature.

pub(crate) mod bounces;
mod event;
mod parse;
mod split;

use crate::Profile;
use crate::profile::MIB;

pub use crate::credentials::Options;
pub(crate) use crate::credentials::Verifier;
pub(crate) use parse::parse;
pub(crate) use split::split;

pub(crate) const PROFILE: Profile = Profile {
    // With `IncludeContent` a bounce contains the whole message.
    body_limit: 16 * MIB,
    ..Profile::DEFAULT
};
