//! Our own JSON form, signed with an HMAC of the body: for senders without a format of their own.

mod parse;
mod split;
mod verify;

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;
