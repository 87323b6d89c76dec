use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::{SettingsError, merge, read};

/// The commented reference file: every key with its default.
pub const REFERENCE: &str = include_str!("../../../../deploy/mailpulse.toml");

/// The file read when none is named, if it is there.
pub const DEFAULT_PATH: &str = "mailpulse.toml";

/// Before every environment variable that overrides a key: `MAILPULSE__KAFKA__BOOTSTRAP`.
pub const ENVIRONMENT_PREFIX: &str = "MAILPULSE__";

/// Where the reference file has no entry because none is a sensible default.
const LISTS_WITHOUT_DEFAULT: [&str; 1] = ["source"];

/// The settings of all binaries: the [`REFERENCE`] under the file under the environment.
///
/// Tables merge key by key; any other value, lists included, replaces the one below it.
#[derive(Clone)]
pub struct Settings {
    values: Table,
    origins: merge::Origins,
}

impl Settings {
    /// Merges the defaults, the file at `path` (none: defaults only) and the variables of `env`
    /// whose names start with [`ENVIRONMENT_PREFIX`], in any case.
    ///
    /// # Errors
    /// When the file cannot be read, or anything in it or in the environment is no known key or of
    /// another type than its default.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let mut settings = Self::defaults()?;
        if let Some(path) = path {
            let text = std::fs::read_to_string(path)
                .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
            let origin = path.display().to_string();
            let file = parse(&text, &origin)?;
            merge::overlay(&mut settings.values, file, &origin, &mut settings.origins)?;
        }
        // Sorted, so that the first error does not depend on the order of the environment.
        for (name, text) in env.collect::<BTreeMap<_, _>>() {
            let Some(key) = merge::environment_key(&name) else { continue };
            let over = merge::environment_value(&settings.values, &key, &text, &name)?;
            merge::overlay(&mut settings.values, over, &name, &mut settings.origins)?;
        }
        Ok(settings)
    }

    /// [`Settings::load`] with this process's environment, from `config`, or from
    /// [`DEFAULT_PATH`] if that is there.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn discover(config: Option<&Path>) -> Result<Self, SettingsError> {
        let default = Path::new(DEFAULT_PATH);
        let path = config.or_else(|| default.exists().then_some(default));
        let env = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::load(path, env)
    }

    /// One section, such as `kafka`. `T` should refuse unknown fields.
    ///
    /// # Errors
    /// When a value does not fit `T`; names `section.key`, where it came from and the mend.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, SettingsError> {
        let missing = || SettingsError::Missing { key: name.to_owned() };
        let value = self.values.get(name).cloned().ok_or_else(missing)?;
        read::read(value, name, &self.origins)
    }

    /// One list, such as `source`; empty when there is none.
    ///
    /// # Errors
    /// As [`Settings::section`], with keys such as `source[1].provider`.
    pub fn list<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, SettingsError> {
        self.section(name)
    }

    /// The error of a value that reads but cannot be used. `key` is dotted; `problem` says what
    /// would be right.
    pub fn invalid(&self, key: &str, problem: impl Into<String>) -> SettingsError {
        let origin = self.origins.of(key).to_owned();
        SettingsError::Invalid { key: key.to_owned(), origin, problem: problem.into() }
    }

    fn defaults() -> Result<Self, SettingsError> {
        let mut values = parse(REFERENCE, "the built-in defaults")?;
        for name in LISTS_WITHOUT_DEFAULT {
            values.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        }
        Ok(Self { values, origins: merge::Origins::default() })
    }
}

/// Hides the values: secrets are among them.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("overridden", &self.origins).finish_non_exhaustive()
    }
}

fn parse(text: &str, origin: &str) -> Result<Table, SettingsError> {
    text.parse().map_err(|error| SettingsError::not_toml(origin, text, &error))
}
