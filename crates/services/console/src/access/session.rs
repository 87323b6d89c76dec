//! The value of the cookie: the name of the token, when the session ends, and a MAC under the token. It does not
//! contain the token, and it ends when the token is removed from the settings.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Token;

/// Separates this use of a token from others.
const CONTEXT: &[u8] = b"mailpulse console session\0";

/// Returns the value for a session that ends at `expires`, seconds since the Unix epoch.
pub(super) fn value(token: &Token, expires: i64) -> String {
    let tag = mac(token, expires).map(|mac| mac.finalize().into_bytes()).unwrap_or_default();
    format!("{}.{expires}.{}", token.name, hex::encode(tag))
}

/// Returns the token of a session that has not ended.
pub(super) fn token<'a>(tokens: &'a [Token], value: &str, now: i64) -> Option<&'a Token> {
    let mut parts = value.split('.');
    let (name, expires, tag) = (parts.next()?, parts.next()?, parts.next()?);
    let expires: i64 = expires.parse().ok()?;
    let tag = hex::decode(tag).ok()?;
    let token = tokens.iter().find(|token| token.name == name)?;
    let is_genuine = mac(token, expires)?.verify_slice(&tag).is_ok();
    (is_genuine && expires > now && parts.next().is_none()).then_some(token)
}

fn mac(token: &Token, expires: i64) -> Option<Hmac<Sha256>> {
    let mac = Hmac::<Sha256>::new_from_slice(token.secret.expose().as_bytes()).ok()?;
    Some(
        mac.chain_update(CONTEXT)
            .chain_update(token.name.as_bytes())
            .chain_update(expires.to_be_bytes()),
    )
}
