//! Amazon SES events, delivered by Amazon SNS: a JSON text inside a signed JSON envelope.

pub(crate) mod bounces;
mod event;
mod parse;
mod sns;
mod sns_url;
mod split;
mod verify;

use std::time::Duration;

use serde::Deserialize;

use crate::{Networks, Profile};

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;

pub(crate) const PROFILE: Profile = Profile {
    // The default body limit fits: an SNS message has at most 256 KiB, escaped in its envelope.
    // The unescaped texts of the envelope, and the message that is signed.
    verification_copies: 2,
    request_timeout: Duration::from_secs(15),
    drops_after_4xx: true,
    missing_signature_fix: "the body is not a message of Amazon SNS, which contains its signature",
    ..Profile::DEFAULT
};

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    pub allow_ips: Networks,
    /// The TopicArns whose messages are accepted.
    pub topics: Vec<String>,
    /// The lowest accepted signature version. 2 rejects messages that are signed with SHA-1.
    pub signature_version: Option<u8>,
    /// The greatest accepted distance in seconds between the signed time and now. Without it, any
    /// age is accepted.
    pub tolerance_seconds: Option<u64>,
}
