//! Webhooks signed as the Standard Webhooks specification says, Svix's among them. It recommends
//! `{type, timestamp, data}` and leaves to the sender what `data` is: where that is our generic
//! form, or the whole object is, it is read as that.

mod parse;
mod split;
mod verify;

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;
