//! Mailgun's webhooks: one JSON object, or a form, with its signature inside.

mod body;
mod bounces;
mod parse;
mod split;
mod verify;

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;
