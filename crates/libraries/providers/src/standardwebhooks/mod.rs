//! Webhooks that are signed according to the Standard Webhooks specification, such as Svix's. The
//! specification recommends the form `{type, timestamp, data}` and leaves `data` to the sender. If
//! `data` or the whole object is Mailpulse's generic form, it is read as that.

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
    // The specification asks for less than 20 KB, so the default body limit is ample.
    // The signed message of Ed25519.
    verification_copies: 1,
    request_timeout: Duration::from_secs(15),
    secret_hint: "every endpoint has its own secret",
    ..Profile::DEFAULT
};

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    pub allow_ips: Networks,
    /// The greatest accepted distance in seconds between the signed time and now.
    pub tolerance_seconds: Option<u64>,
}
