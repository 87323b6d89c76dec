//! Mandrill (Mailchimp Transactional): a form with one field, which holds a JSON array.

mod form;
mod parse;
mod split;
mod verify;

pub(crate) use parse::parse;
pub(crate) use split::split;
pub(crate) use verify::Verifier;

/// Whether two forms decode to the same.
#[cfg(test)]
pub(crate) fn same_fields(one: &[u8], other: &[u8]) -> bool {
    form::fields(one).eq(form::fields(other))
}
