//! Verifies the requests of providers that do not sign: by HTTP credentials, or by a header whose
//! value is secret.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use http::header::AUTHORIZATION;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use crate::settings::text_secret;
use crate::trace::Trace;
use crate::{
    FindCertificate, Networks, ReceivedRequest, Rejection, SettingsError, SourceSettings, Verified,
};

/// The options of a source whose provider does not sign.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    pub allow_ips: Networks,
    /// Accept requests although there are neither secrets nor `allow_ips`.
    pub unverified: bool,
    /// The header whose whole value is the secret, instead of `Authorization`.
    pub header: Option<String>,
    /// The form of the secret in `Authorization`.
    pub scheme: Option<Scheme>,
}

/// The authentication scheme of the header `Authorization`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HTTP basic authentication (RFC 7617). The secret is `user:password`.
    #[default]
    Basic,
    /// A bearer token (RFC 6750). The secret is the token.
    Bearer,
}

/// Compares credentials. Without secrets, the list of addresses is the only check. Without both, the
/// settings must contain `unverified = true`.
#[derive(Debug)]
pub(crate) struct Verifier {
    header: HeaderName,
    /// What precedes the secret in the header. Its case is ignored (RFC 9110 §11.1).
    scheme: &'static str,
    /// One of these must match. If there are none, nothing is compared.
    values: Vec<Value>,
}

struct Value(Vec<u8>);

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}

impl Verifier {
    pub(crate) fn new(settings: &SourceSettings, options: &Options) -> Result<Self, SettingsError> {
        let (header, scheme) = match (&options.header, options.scheme) {
            (Some(_), Some(_)) => {
                let fix = "cannot be given with `header`, whose whole value is the secret";
                return Err(settings.bad_option("scheme", fix));
            }
            (Some(name), None) => {
                let unusable =
                    |_| settings.bad_option("header", "must be the name of an HTTP header");
                (name.parse().map_err(unusable)?, "")
            }
            (None, None | Some(Scheme::Basic)) => (AUTHORIZATION, "Basic "),
            (None, Some(Scheme::Bearer)) => (AUTHORIZATION, "Bearer "),
        };
        let may_lack_secrets = !options.allow_ips.0.is_empty() || options.unverified;
        if settings.secrets.is_empty() && may_lack_secrets {
            return Ok(Self { header, scheme, values: Vec::new() });
        }
        let whole = |secret: &str| text_secret(secret).map(Value);
        let values = match scheme {
            "Basic " => settings.read_secrets(
                "give the webhook's HTTP credentials as `user:password`, or set `allow_ips`",
                basic,
            ),
            "Bearer " => settings.read_secrets("give the webhook's bearer token", whole),
            _ => settings.read_secrets("give the value of the webhook's custom header", whole),
        }?;
        Ok(Self { header, scheme, values })
    }

    /// Checks everything: the body is not signed.
    pub(crate) fn check_head(&self, request: &ReceivedRequest<'_>) -> Result<(), Rejection> {
        self.verify(request, &|_| None, &mut Trace::off()).map(drop)
    }

    pub(crate) fn verify(
        &self,
        request: &ReceivedRequest<'_>,
        _: &FindCertificate<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Rejection> {
        const NAME: &str = "credentials";
        if self.values.is_empty() {
            trace.skipped(NAME, || "the source has none".to_owned());
            return Ok(Verified::default());
        }
        let Some(header) = request.headers.get(&self.header) else {
            trace.failed(NAME, || format!("there is no header `{}`", self.header));
            return Err(Rejection::MissingCredentials);
        };
        let key = self.find(header.as_bytes());
        match key {
            Some(key) => trace.passed(NAME, || format!("`{}` matches secrets[{key}]", self.header)),
            None => trace.failed(NAME, || format!("`{}` matches none of the secrets", self.header)),
        }
        key.map(Verified::by).ok_or(Rejection::WrongCredentials)
    }

    /// Returns the index of the secret that the header contains. All secrets are compared, each in
    /// constant time.
    fn find(&self, header: &[u8]) -> Option<usize> {
        let (scheme, given) = header.split_at_checked(self.scheme.len())?;
        let matches = |value: &Value| bool::from(value.0.ct_eq(given));
        let key = self.values.iter().enumerate().fold(None, |found, (key, value)| {
            let this = matches(value).then_some(key);
            found.or(this)
        });
        key.filter(|_| scheme.eq_ignore_ascii_case(self.scheme.as_bytes()))
    }
}

/// Returns what follows `Basic ` (RFC 7617).
fn basic(credentials: &str) -> Option<Value> {
    let (user, password) = credentials.split_once(':')?;
    let usable = !user.is_empty() && !password.is_empty();
    usable.then(|| Value(STANDARD.encode(credentials).into_bytes()))
}
