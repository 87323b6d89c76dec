//! Amazon SES events, delivered by Amazon SNS: a JSON text inside a signed JSON envelope.

mod address;
pub(crate) mod bounces;
mod parse;
mod record;
mod split;
mod verify;

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;
