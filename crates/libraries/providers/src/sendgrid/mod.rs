//! Twilio SendGrid's Event Webhook: a JSON array of flat objects, signed with ECDSA.

pub(crate) mod bounces;
mod parse;
mod split;
mod verify;

use serde::Deserialize;

use crate::profile::MIB;
use crate::{Networks, Profile};

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;

pub(crate) const PROFILE: Profile = Profile {
    // SendGrid closes a batch at 768 KB.
    body_limit: 4 * MIB,
    secret_hint: "every webhook of SendGrid has its own key",
    missing_signature_fix: "turn on Signed Event Webhook in SendGrid's settings",
    ..Profile::DEFAULT
};

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    pub allow_ips: Networks,
    /// The greatest accepted distance in seconds between the signed time and now.
    pub tolerance_seconds: Option<u64>,
}
