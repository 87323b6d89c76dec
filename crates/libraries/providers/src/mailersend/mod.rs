//! MailerSend's webhooks: one JSON object, signed with an HMAC of the body.

mod parse;
mod split;
mod verify;

use serde::Deserialize;

use crate::{Networks, Profile};

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;

pub(crate) const PROFILE: Profile = Profile::DEFAULT;

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    pub allow_ips: Networks,
}
