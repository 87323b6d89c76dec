use serde::Deserialize;
use service::{Secret, Settings, SettingsError};

use crate::Pseudonyms;

/// `[privacy]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrivacySettings {
    pseudonym_key: Secret,
}

/// What makes pseudonyms of addresses, if the operator wants that.
///
/// # Errors
/// When the section is not in order, or its key too short.
pub fn configured(settings: &Settings) -> Result<Option<Pseudonyms>, SettingsError> {
    let privacy: PrivacySettings = settings.section("privacy")?;
    let key = privacy.pseudonym_key.expose();
    if key.is_empty() {
        return Ok(None);
    }
    let made = Pseudonyms::new(key.as_bytes());
    made.map(Some).map_err(|error| settings.invalid("privacy.pseudonym_key", error.to_string()))
}
