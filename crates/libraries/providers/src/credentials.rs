//! What there is to check where a provider signs nothing: HTTP credentials, or a header whose
//! value only it knows.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;

use crate::examine::Trace;
use crate::{Received, Refusal, Scheme, SettingsError, SourceSettings, Verified};

/// The secrets of a source whose provider signs nothing. Without any, the list of addresses is all
/// there is, and without that the settings must say that nothing is checked.
#[derive(Debug)]
pub(crate) struct Credentials {
    header: HeaderName,
    /// What stands before the secret in its header, in any case (RFC 9110 §11.1).
    scheme: &'static str,
    /// Any of these is right. None at all: nothing is checked.
    values: Vec<Value>,
}

struct Value(Vec<u8>);

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}

impl Credentials {
    pub(crate) fn new(settings: &SourceSettings) -> Result<Self, SettingsError> {
        let options = &settings.options;
        let (header, scheme) = match (&options.header, options.scheme.unwrap_or_default()) {
            (Some(_), _) if options.scheme.is_some() => {
                let mend = "cannot be given with `header`, whose whole value is the secret";
                return Err(settings.bad_option("scheme", mend));
            }
            (Some(name), _) => {
                let unusable =
                    |_| settings.bad_option("header", "must be the name of an HTTP header");
                (name.parse().map_err(unusable)?, "")
            }
            (None, Scheme::Basic) => (AUTHORIZATION, "Basic "),
            (None, Scheme::Bearer) => (AUTHORIZATION, "Bearer "),
        };
        let is_guarded = !options.allow_ips.is_empty() || options.unverified;
        if settings.secrets.is_empty() && is_guarded {
            return Ok(Self { header, scheme, values: Vec::new() });
        }
        let as_is = |secret: &str| (!secret.is_empty()).then(|| Value(secret.into()));
        let values = match scheme {
            "Basic " => settings.prepared(
                "give the webhook's HTTP credentials as `user:password`, or set `allow_ips`",
                basic,
            ),
            "Bearer " => settings.prepared("give the webhook's bearer token", as_is),
            _ => settings.prepared("give the value of the webhook's custom header", as_is),
        }?;
        Ok(Self { header, scheme, values })
    }

    pub(crate) fn verify(
        &self,
        received: &Received<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Refusal> {
        const NAME: &str = "credentials";
        if self.values.is_empty() {
            trace.skipped(NAME, || "the source has none".to_owned());
            return Ok(Verified::default());
        }
        let Some(header) = received.headers.get(&self.header) else {
            trace.failed(NAME, || format!("there is no header `{}`", self.header));
            return Err(Refusal::MissingCredentials);
        };
        let key = self.find(header.as_bytes());
        match key {
            Some(key) => {
                trace.passed(NAME, || format!("`{}` is that of secrets[{key}]", self.header));
            }
            None => trace.failed(NAME, || format!("`{}` is that of no secret", self.header)),
        }
        key.map(Verified::by).ok_or(Refusal::WrongCredentials)
    }

    /// The secret that a header's value shows. All are compared, each in a time that does not
    /// depend on where it differs.
    fn find(&self, header: &[u8]) -> Option<usize> {
        let (scheme, given) = header.split_at_checked(self.scheme.len())?;
        let is_right = |value: &Value| bool::from(value.0.ct_eq(given));
        let key = self.values.iter().enumerate().fold(None, |found, (key, value)| {
            let this = is_right(value).then_some(key);
            found.or(this)
        });
        key.filter(|_| scheme.eq_ignore_ascii_case(self.scheme.as_bytes()))
    }
}

/// What follows `Basic ` (RFC 7617).
fn basic(credentials: &str) -> Option<Value> {
    let (user, password) = credentials.split_once(':')?;
    let usable = !user.is_empty() && !password.is_empty();
    usable.then(|| Value(STANDARD.encode(credentials).into_bytes()))
}
