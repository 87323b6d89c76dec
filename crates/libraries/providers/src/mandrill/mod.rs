//! Mandrill (Mailchimp Transactional): a form with one field, which holds a JSON array.

mod bounces;
mod parse;
mod split;
mod verify;

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;

/// Whether two forms decode to the same.
#[cfg(test)]
pub(crate) fn same_fields(one: &[u8], other: &[u8]) -> bool {
    crate::form::fields(one).eq(crate::form::fields(other))
}
