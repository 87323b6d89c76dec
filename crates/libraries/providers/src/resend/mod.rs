//! Resend's webhooks: one JSON object, signed by Svix.

mod event;
mod parse;
mod split;

use crate::{Profile, standardwebhooks};

pub use crate::standardwebhooks::Options;
pub(crate) use crate::standardwebhooks::Verifier;
pub(crate) use parse::parse;
pub(crate) use split::split;

/// Svix posts Resend's webhooks.
pub(crate) const PROFILE: Profile = standardwebhooks::PROFILE;
