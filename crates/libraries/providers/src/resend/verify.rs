/// Resend has its webhooks sent by Svix.
pub(crate) use crate::standardwebhooks::Verifier;
