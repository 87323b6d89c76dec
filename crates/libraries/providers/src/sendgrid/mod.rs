//! Twilio SendGrid's Event Webhook: a JSON array of flat objects, signed with ECDSA.

mod bounces;
mod parse;
mod split;
mod verify;

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;
