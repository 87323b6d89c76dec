//! Mailjet's webhooks: a JSON array of events or one event, with HTTP credentials and no signature.

pub(crate) mod bounces;
mod parse;
mod split;

use crate::Profile;

pub use crate::credentials::Options;
pub(crate) use crate::credentials::Verifier;
pub(crate) use parse::parse;
pub(crate) use split::split;

// A request holds one event, or those of one second.
pub(crate) const PROFILE: Profile = Profile::DEFAULT;
