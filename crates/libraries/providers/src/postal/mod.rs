//! Postal's webhooks: one JSON object, signed with the installation's RSA key.

mod bounces;
mod event;
mod parse;
mod split;
mod verify;

use std::time::Duration;

use serde::Deserialize;

use crate::{Networks, Profile};

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;

pub(crate) const PROFILE: Profile = Profile {
    request_timeout: Duration::from_secs(5),
    secret_hint: "compare the key with the installation's /.well-known/jwks.json",
    ..Profile::DEFAULT
};

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    pub allow_ips: Networks,
    /// Reject requests that have no SHA-256 signature, as releases before 3 send them.
    pub reject_sha1: bool,
}
