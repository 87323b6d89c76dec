use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// A secret in the settings, written literally, as `env:NAME` or as `file:PATH`. It is resolved when
/// the settings are read. `Debug` does not show it, and its memory is wiped on drop.
#[derive(Clone)]
pub struct Secret(SecretString);

/// An error in the resolution of `env:NAME` or `file:PATH`.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The environment variable is absent or not UTF-8.
    #[error("the environment variable {0} is not set; set it, or write file:PATH")]
    NoVariable(String),
    /// The file cannot be read.
    #[error("the secret file {0} cannot be read: {1}")]
    NoFile(String, std::io::Error),
}

impl Secret {
    /// Returns a literal secret, for tests and tools.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// Returns the text of the secret.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Returns the text behind `env:NAME` or `file:PATH`, or the literal itself. The trailing line end
/// of a file is not part of the secret.
///
/// # Errors
/// Fails if the variable or the file does not exist. The error names it.
pub fn resolve(text: &str) -> Result<String, SecretError> {
    if let Some(name) = text.strip_prefix("env:") {
        return std::env::var(name).map_err(|_| SecretError::NoVariable(name.to_owned()));
    }
    if let Some(path) = text.strip_prefix("file:") {
        return std::fs::read_to_string(path)
            .map(|secret| secret.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|error| SecretError::NoFile(path.to_owned(), error));
    }
    Ok(text.to_owned())
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        resolve(&text).map(Self::new).map_err(serde::de::Error::custom)
    }
}
