//! Mailgun's webhooks: one JSON object, or a form, that contains its own signature.

mod body;
pub(crate) mod bounces;
mod parse;
mod split;
mod verify;

use serde::Deserialize;

use crate::{Networks, Profile};

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;

pub(crate) const PROFILE: Profile = Profile {
    // Mailgun retries for eight hours after any status but 200 and 406. A signature that is wrong,
    // stale or used before stays so, and retries would be useless.
    rejected_status: 406,
    // Decoded forms.
    verification_copies: 1,
    secret_hint: "Mailgun signs with the HTTP webhook signing key, not with an API key",
    missing_signature_fix: "the body is not a Mailgun webhook, which contains its signature",
    ..Profile::DEFAULT
};

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    pub allow_ips: Networks,
    /// The greatest accepted distance in seconds between the signed time and now.
    pub tolerance_seconds: Option<u64>,
}
