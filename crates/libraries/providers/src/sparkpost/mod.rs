//! SparkPost's (Bird's) webhooks: a JSON array of wrapped events, with HTTP credentials and no
//! signature.

pub(crate) mod bounces;
mod parse;
mod split;
mod wrapper;

use crate::Profile;
use crate::profile::MIB;

pub use crate::credentials::Options;
pub(crate) use crate::credentials::Verifier;
pub(crate) use parse::parse;
pub(crate) use split::split;

pub(crate) const PROFILE: Profile = Profile {
    // A batch has 350 events and more.
    body_limit: 8 * MIB,
    ..Profile::DEFAULT
};
