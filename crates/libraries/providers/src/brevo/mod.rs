//! Brevo's webhooks: one JSON object or an array of them, with HTTP credentials and no signature.

mod bounces;
mod parse;
mod split;

use crate::Profile;
use crate::profile::MIB;

pub use crate::credentials::Options;
pub(crate) use crate::credentials::Verifier;
pub(crate) use parse::parse;
pub(crate) use split::split;

pub(crate) const PROFILE: Profile = Profile {
    // Up to 500 events in a batch.
    body_limit: 2 * MIB,
    // According to one of two contradicting pages, Brevo drops the events after a 5xx.
    unavailable_status: 429,
    drops_after_4xx: true,
    ..Profile::DEFAULT
};
