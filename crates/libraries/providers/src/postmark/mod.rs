//! Postmark's webhooks: one JSON object, no signature, HTTP credentials.

mod bounces;
mod parse;
mod record;
mod split;
mod verify;

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;
