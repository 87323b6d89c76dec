//! Mailgun's webhooks: one JSON object with its signature inside.

mod parse;
mod split;
mod verify;

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;
