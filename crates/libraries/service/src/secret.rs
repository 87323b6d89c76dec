use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// A secret shorter than this can be guessed: 16 bytes are 128 bits at best.
const SHORT: usize = 16;

/// A secret in the settings, written literally, as `env:NAME` or as `file:PATH`. It is resolved when
/// the settings are read, and it is never empty, except for one that [`optional`] has read. `Debug`
/// does not show it, and its memory is wiped on drop.
#[derive(Clone)]
pub struct Secret {
    text: SecretString,
    is_literal: bool,
}

/// An error in the resolution of a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The environment variable is absent or not UTF-8.
    #[error("the environment variable {0} is not set; set it, or write file:PATH")]
    NoVariable(String),
    /// The file cannot be read.
    #[error("the secret file {0} cannot be read: {1}")]
    NoFile(String, std::io::Error),
    /// The environment variable contains nothing but white space.
    #[error("the environment variable {0} is empty; set it to the secret")]
    EmptyVariable(String),
    /// The file contains nothing but white space.
    #[error("the secret file {0} is empty; write the secret into it")]
    EmptyFile(String),
    /// The literal contains nothing but white space.
    #[error("the secret is empty; write env:NAME, file:PATH or the secret itself")]
    EmptyLiteral,
}

impl Secret {
    /// Returns a literal secret, for tests and tools.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: SecretString::from(text.into()), is_literal: true }
    }

    /// Returns the text of the secret.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// Returns whether the secret is written in the settings themselves, where everybody who may
    /// read them sees it.
    pub const fn is_literal(&self) -> bool {
        self.is_literal
    }

    /// Returns whether the secret has so few bytes that it can be guessed.
    pub fn is_short(&self) -> bool {
        self.expose().len() < SHORT
    }
}

/// Returns the text behind `env:NAME` or `file:PATH`, or the literal itself. The trailing line end
/// of a file is not part of the secret.
///
/// # Errors
/// Fails if the variable or the file does not exist, and if there is nothing but white space in it
/// or in the literal: a secret that is named protects something, which an empty one would not. The
/// error names the variable or the file.
pub fn resolve(text: &str) -> Result<String, SecretError> {
    let (secret, empty) = if let Some(name) = text.strip_prefix("env:") {
        let secret = std::env::var(name).map_err(|_| SecretError::NoVariable(name.to_owned()))?;
        (secret, SecretError::EmptyVariable(name.to_owned()))
    } else if let Some(path) = text.strip_prefix("file:") {
        let secret = std::fs::read_to_string(path)
            .map(|secret| secret.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|error| SecretError::NoFile(path.to_owned(), error))?;
        (secret, SecretError::EmptyFile(path.to_owned()))
    } else {
        (text.to_owned(), SecretError::EmptyLiteral)
    };
    if secret.trim().is_empty() { Err(empty) } else { Ok(secret) }
}

/// Deserializes a secret that may be left out by writing `""`, which gives an empty [`Secret`]. A
/// variable or a file that is named must not be empty here either.
///
/// # Errors
/// As [`resolve`].
pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(Secret::new(""));
    }
    read(&text).map_err(serde::de::Error::custom)
}

fn read(text: &str) -> Result<Secret, SecretError> {
    let is_literal = !text.starts_with("env:") && !text.starts_with("file:");
    resolve(text).map(|secret| Secret { text: SecretString::from(secret), is_literal })
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        read(&text).map_err(serde::de::Error::custom)
    }
}
