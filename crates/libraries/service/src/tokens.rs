//! Tokens with which people and programs log in, from the settings.

use std::collections::BTreeSet;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{Secret, Settings, SettingsError};

/// A token: an element of a list such as `console.tokens`. `R` says what its holders may do.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token<R> {
    /// What the token is called in logs.
    pub name: String,
    /// What its holders may do.
    pub role: R,
    /// The token itself.
    pub secret: Secret,
}

/// Checks the tokens of a list, which has this key.
///
/// # Errors
/// If a name cannot be used or is used twice, or a token is so short that it can be guessed.
pub fn check<R>(settings: &Settings, key: &str, tokens: &[Token<R>]) -> Result<(), SettingsError> {
    let mut names = BTreeSet::new();
    for (index, Token { name, secret, .. }) in tokens.iter().enumerate() {
        let invalid = |field: &str, problem: &str| {
            Err(settings.invalid(&format!("{key}[{index}].{field}"), problem))
        };
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_allowed) {
            return invalid("name", "use 1 to 64 ASCII letters, digits, `-` and `_`");
        }
        if !names.insert(name) {
            return invalid("name", "every token needs a name of its own");
        }
        if secret.is_short() {
            return invalid("secret", "can be guessed; use at least 16 bytes of random text");
        }
    }
    Ok(())
}

/// Returns the token that somebody has sent. Compares with every token, so that the time does not tell which one is
/// similar.
pub fn find<'t, R>(tokens: &'t [Token<R>], sent: &str) -> Option<&'t Token<R>> {
    let sent = Sha256::digest(sent);
    let mut found = None;
    for token in tokens {
        if bool::from(Sha256::digest(token.secret.expose()).ct_eq(&sent)) {
            found = Some(token);
        }
    }
    found
}
