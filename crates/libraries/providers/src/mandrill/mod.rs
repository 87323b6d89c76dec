//! Mandrill (Mailchimp Transactional): a form with one field that contains a JSON array, signed
//! with an HMAC of the URL and the form.

pub(crate) mod bounces;
mod diagnose;
mod parse;
mod split;
mod verify;

use serde::Deserialize;

use crate::profile::MIB;
use crate::{Networks, Profile};

pub(crate) use diagnose::variants;
pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;

pub(crate) const PROFILE: Profile = Profile {
    // Up to 1,000 events, each with the message's history, percent-encoded.
    body_limit: 16 * MIB,
    verification_copies: 1,
    secret_hint: "every webhook URL of Mandrill has its own key",
    ..Profile::DEFAULT
};

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    pub allow_ips: Networks,
    /// The webhook's URL exactly as it is configured at Mandrill. It is signed too.
    pub public_url: Option<String>,
}
