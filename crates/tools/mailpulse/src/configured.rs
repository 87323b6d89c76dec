//! The `[[source]]` tables, read without their secrets: a secret that is missing is reported, and is no reason to
//! end.

use event::Provider;
use serde::Deserialize;
use service::{SecretError, Settings, SettingsError};
use toml::Table;

use crate::InputError;

/// One `[[source]]` table.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ConfiguredSource {
    pub(crate) provider: Provider,
    pub(crate) name: String,
    /// As they are written: literals, `env:NAME` or `file:PATH`.
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(default)]
    pub(crate) disabled: bool,
    #[serde(default)]
    pub(crate) shadow: bool,
    /// All other keys.
    #[serde(flatten)]
    pub(crate) options: Table,
}

impl ConfiguredSource {
    /// Reads all sources, in the order of the file.
    ///
    /// # Errors
    /// If a table has no provider or no name.
    pub(crate) fn all(settings: &Settings) -> Result<Vec<Self>, SettingsError> {
        settings.list("source")
    }

    /// Returns the source that is named as `acme` or `sendgrid/acme`.
    ///
    /// # Errors
    /// If there is none, or if several providers have a source of this name.
    pub(crate) fn find(settings: &Settings, wanted: &str) -> anyhow::Result<Self> {
        let sources = Self::all(settings)?;
        let found: Vec<&Self> = sources.iter().filter(|source| source.is(wanted)).collect();
        match found[..] {
            [source] => Ok(source.clone()),
            [] => {
                let names: Vec<String> = sources.iter().map(Self::label).collect();
                let text = if names.is_empty() {
                    "no [[source]] is configured; name the file of the ingress with --config".into()
                } else {
                    format!(
                        "no [[source]] is called {wanted}; the sources are {}",
                        names.join(", ")
                    )
                };
                Err(InputError(text).into())
            }
            _ => {
                let names: Vec<String> = found.iter().map(|source| source.label()).collect();
                let text = format!(
                    "{} sources are called {wanted}: write one of {}",
                    names.len(),
                    names.join(", ")
                );
                Err(InputError(text).into())
            }
        }
    }

    fn is(&self, wanted: &str) -> bool {
        match wanted.split_once('/') {
            Some((provider, name)) => provider.parse() == Ok(self.provider) && name == self.name,
            None => wanted == self.name,
        }
    }

    /// Returns `provider/name`.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.provider, self.name)
    }

    /// Returns the path that the provider posts to.
    pub(crate) fn path(&self) -> String {
        format!("/webhooks/{}/{}", self.provider, self.name)
    }

    /// Returns each secret, or why it is not there.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = Result<String, SecretError>> {
        self.secrets.iter().map(|text| service::resolve(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> (tempfile::TempDir, Settings) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mailpulse.toml");
        let text = "[[source]]\nprovider = \"sendgrid\"\nname = \"acme\"\nsecrets = [\"env:NO_SUCH_SECRET\"]\n\
                    [[source]]\nprovider = \"mailgun\"\nname = \"acme\"\nsecrets = [\"a literal\"]\n\
                    [[source]]\nprovider = \"brevo\"\nname = \"shop\"\nunverified = true\n";
        std::fs::write(&path, text).unwrap();
        let settings = Settings::load(Some(&path), std::iter::empty()).unwrap();
        (home, settings)
    }

    #[test]
    fn a_source_is_found_by_its_name_or_with_its_provider() {
        let (_home, settings) = settings();
        let find = |wanted| ConfiguredSource::find(&settings, wanted);
        assert_eq!(find("shop").unwrap().path(), "/webhooks/brevo/shop");
        assert_eq!(find("sendinblue/shop").unwrap().label(), "brevo/shop", "an alias");
        assert_eq!(find("mailgun/acme").unwrap().label(), "mailgun/acme");
        let several = find("acme").unwrap_err().to_string();
        assert!(several.contains("sendgrid/acme, mailgun/acme"), "{several}");
        let none = find("mailgun/shop").unwrap_err();
        assert!(none.is::<InputError>() && none.to_string().contains("brevo/shop"), "{none}");
    }

    #[test]
    fn a_missing_secret_is_no_error_of_the_settings() {
        let (_home, settings) = settings();
        let missing = ConfiguredSource::find(&settings, "sendgrid/acme").unwrap();
        let problem = missing.secrets().next().unwrap().unwrap_err();
        assert!(problem.to_string().contains("NO_SUCH_SECRET"));
        let literal = ConfiguredSource::find(&settings, "mailgun/acme").unwrap();
        assert_eq!(literal.secrets().next().unwrap().unwrap(), "a literal");
    }
}
