//! Resend's webhooks: one JSON object, signed as Svix does.

mod parse;
mod record;
mod split;
mod verify;

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;
