//! MailerSend's webhooks: one JSON object, signed with an HMAC of the body.

mod parse;
mod split;
mod verify;

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;
