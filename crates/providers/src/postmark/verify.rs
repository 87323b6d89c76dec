use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;

use crate::authenticator::Request;
use crate::{Refusal, SettingsError, SourceSettings};

/// Postmark signs nothing: the webhook's HTTP credentials, or a header of our choice, are all
/// there is.
#[derive(Debug)]
pub(crate) struct Verifier {
    header: HeaderName,
    /// What stands before the secret in its header, in any case (RFC 9110 §11.1).
    scheme: &'static str,
    /// Any of these is right.
    values: Vec<Value>,
}

struct Value(Vec<u8>);

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings) -> Result<Self, SettingsError> {
        let Some(name) = &settings.options.header else {
            let mend = "give the webhook's HTTP credentials as `user:password`";
            let values = settings.prepared(mend, basic)?;
            return Ok(Self { header: AUTHORIZATION, scheme: "Basic ", values });
        };
        let unusable = |_| settings.bad_option("header", "must be the name of an HTTP header");
        let mend = "give the value of the webhook's custom header";
        let value = |secret: &str| (!secret.is_empty()).then(|| Value(secret.into()));
        let values = settings.prepared(mend, value)?;
        Ok(Self { header: name.parse().map_err(unusable)?, scheme: "", values })
    }

    pub(crate) fn verify(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let header = request.headers.get(&self.header).ok_or(Refusal::MissingCredentials)?;
        let (scheme, given) = header
            .as_bytes()
            .split_at_checked(self.scheme.len())
            .ok_or(Refusal::WrongCredentials)?;
        let known = self.values.iter().any(|value| value.0.ct_eq(given).into());
        if known && scheme.eq_ignore_ascii_case(self.scheme.as_bytes()) {
            return Ok(());
        }
        Err(Refusal::WrongCredentials)
    }
}

/// What follows `Basic ` (RFC 7617).
fn basic(credentials: &str) -> Option<Value> {
    let (user, password) = credentials.split_once(':')?;
    let usable = !user.is_empty() && !password.is_empty();
    usable.then(|| Value(STANDARD.encode(credentials).into_bytes()))
}
