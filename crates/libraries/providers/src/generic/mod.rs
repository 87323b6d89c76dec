//! Our own JSON form, signed with an HMAC of the body: for senders without a format of their own.

mod parse;
mod split;
mod verify;

pub(crate) use parse::{Record, parse};
pub(crate) use split::{kind, split};
pub(crate) use verify::Verifier;
