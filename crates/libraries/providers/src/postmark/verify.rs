/// Postmark signs nothing: HTTP credentials, or a header of our choice, are all there is.
pub(crate) use crate::credentials::Credentials as Verifier;
