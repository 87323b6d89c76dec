use serde::Deserialize;
use service::{Secret, Settings, SettingsError};

use crate::{ErasureKey, Pseudonymizer};

/// The section `[privacy]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrivacySettings {
    #[serde(deserialize_with = "service::secret::optional")]
    pseudonym_key: Secret,
    #[serde(deserialize_with = "service::secret::optional")]
    erasure_key: Secret,
}

impl Pseudonymizer {
    /// Reads `[privacy]`. Returns `None` if no key is configured, so addresses are published as
    /// they are.
    ///
    /// # Errors
    /// Returns an error if the section is invalid or the key is too short.
    pub fn from_settings(settings: &Settings) -> Result<Option<Self>, SettingsError> {
        let privacy: PrivacySettings = settings.section("privacy")?;
        let key = privacy.pseudonym_key.expose();
        if key.is_empty() {
            return Ok(None);
        }
        Self::new(key.as_bytes())
            .map(Some)
            .map_err(|error| settings.invalid("privacy.pseudonym_key", error.to_string()))
    }
}

impl ErasureKey {
    /// Reads `[privacy]`. Returns `None` if no key is configured, so nobody can be erased.
    ///
    /// # Errors
    /// Returns an error if the section is invalid or the key is too short.
    pub fn from_settings(settings: &Settings) -> Result<Option<Self>, SettingsError> {
        let privacy: PrivacySettings = settings.section("privacy")?;
        let key = privacy.erasure_key.expose();
        if key.is_empty() {
            return Ok(None);
        }
        Self::new(key.as_bytes())
            .map(Some)
            .map_err(|error| settings.invalid("privacy.erasure_key", error.to_string()))
    }
}
