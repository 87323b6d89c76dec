//! Mailjet's webhooks: a JSON array of events or one of them, no signature, HTTP credentials.

mod bounces;
mod parse;
mod split;
mod verify;

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;
