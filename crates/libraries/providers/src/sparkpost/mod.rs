//! SparkPost's (Bird's) webhooks: a JSON array of wrapped events, no signature, HTTP credentials.

mod bounces;
mod parse;
mod split;
mod verify;
mod wrapper;

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;
