use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::aliases::OldNames;
use crate::{SettingsError, SourceTable, merge, networks_file, read};

/// The commented reference file: every key with its default.
pub const REFERENCE: &str = include_str!("../../../../deploy/mailpulse.toml");

/// The file that is read if no other is named. It may be absent.
pub const DEFAULT_PATH: &str = "mailpulse.toml";

/// The prefix of environment variables that override a key, as in `MAILPULSE__KAFKA__BOOTSTRAP`.
pub const ENVIRONMENT_PREFIX: &str = "MAILPULSE__";

/// Lists that the reference file does not have because no default makes sense.
const LISTS_WITHOUT_DEFAULT: [&str; 2] = ["source", "forward"];

/// The settings of all services: the [`REFERENCE`], overridden by the file, overridden by the
/// environment.
///
/// Tables are merged key by key. Any other value, lists included, replaces the one it overrides.
#[derive(Clone)]
pub struct Settings {
    values: Table,
    origins: merge::Origins,
    old_names: OldNames,
}

impl Settings {
    /// Merges the defaults, the file at `path` (if any) and the variables of `env` whose names
    /// start with [`ENVIRONMENT_PREFIX`] in any case. Renamed settings also work under their old
    /// names; see [`Settings::renamed`].
    ///
    /// # Errors
    /// Fails if the file cannot be read, if a key of the file or of the environment is unknown or
    /// has another type than its default, or if one of them has a setting under its old and its
    /// new name.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let mut settings = Self::defaults()?;
        if let Some(path) = path {
            settings.overlay_file(path)?;
        }
        settings.overlay_environment(env)?;
        Ok(settings)
    }

    /// Calls [`Settings::load`] with this process's environment and the file at `config`, or else
    /// the one at [`DEFAULT_PATH`] if it exists.
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

    /// Reads one section, such as `kafka`. `T` should reject unknown fields.
    ///
    /// # Errors
    /// Fails if a value does not fit `T`. The error names `section.key`, its origin and the fix.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, SettingsError> {
        let missing = || SettingsError::Missing { key: name.to_owned() };
        let value = self.values.get(name).cloned().ok_or_else(missing)?;
        read::read(value, name, &self.origins)
    }

    /// Reads one list, such as `source`. Returns an empty one if it is not configured.
    ///
    /// # Errors
    /// As [`Settings::section`], with keys such as `source[1].provider`.
    pub fn list<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, SettingsError> {
        self.section(name)
    }

    /// Reads all `[[source]]` tables, in the order of the file.
    ///
    /// # Errors
    /// As [`Settings::list`], and if a name is invalid or used twice for a provider, if a table
    /// has `burst` without `rate`, or if a file of `allow_ips` cannot be used.
    pub fn sources(&self) -> Result<Vec<SourceTable>, SettingsError> {
        let mut sources: Vec<SourceTable> = self.list("source")?;
        for (index, source) in sources.iter_mut().enumerate() {
            networks_file::read_into(&mut source.options).map_err(|(entry, problem)| {
                let key = networks_file::KEY;
                self.invalid(&format!("source[{index}].{key}[{entry}]"), problem)
            })?;
        }
        let mut names = HashSet::new();
        for (index, source) in sources.iter().enumerate() {
            let SourceTable { provider, name, .. } = source;
            if let Some((key, problem)) = source.problem() {
                return Err(self.invalid(&format!("source[{index}].{key}"), problem));
            }
            if !names.insert((provider, name)) {
                let problem = format!(
                    "source {name} ({provider}) is configured twice; give each source of a \
                     provider its own name"
                );
                return Err(self.invalid(&format!("source[{index}].name"), problem));
            }
        }
        Ok(sources)
    }

    /// Returns the files to which a section or list refers as `file:PATH`, whether they exist or not.
    pub fn files_of(&self, name: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        self.values.get(name).into_iter().for_each(|value| collect_files(value, &mut files));
        files
    }

    /// Returns the dotted keys of these sections whose values differ in `other`.
    pub fn differences(&self, other: &Self, sections: &[&str]) -> Vec<String> {
        let mut keys = Vec::new();
        for &name in sections {
            compare(name, self.values.get(name), other.values.get(name), &mut keys);
        }
        keys
    }

    /// Returns the error for a value that has the right type but cannot be used. `key` is dotted;
    /// `problem` states what to write instead.
    pub fn invalid(&self, key: &str, problem: impl Into<String>) -> SettingsError {
        let origin = self.origins.of(key).to_owned();
        SettingsError::Invalid { key: key.to_owned(), origin, problem: problem.into() }
    }

    /// Returns the old and new names of the settings that are used by their old names.
    pub fn renamed(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.old_names.renamed()
    }

    /// Returns the settings that are set and no longer exist, and what has replaced them.
    pub fn removed(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.old_names.removed()
    }

    /// Writes a warning to the log for every setting that is used by its old name or that no longer
    /// exists.
    pub fn warn_about_old_names(&self) {
        for (old, replacement) in self.removed() {
            tracing::warn!("setting `{old}` is no longer used: {replacement}; remove it");
        }
        for (old, new) in self.renamed() {
            tracing::warn!("setting `{old}` is now called `{new}`; the old name still works");
        }
    }

    fn defaults() -> Result<Self, SettingsError> {
        let mut values = parse(REFERENCE, "the built-in defaults")?;
        for name in LISTS_WITHOUT_DEFAULT {
            values.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        }
        let (origins, old_names) = Default::default();
        Ok(Self { values, origins, old_names })
    }

    fn overlay_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
        let origin = path.display().to_string();
        let mut file = parse(&text, &origin)?;
        let renamed = self.old_names.take_from_file(&mut file, &origin)?;
        merge::overlay(&mut self.values, file, &origin, &mut self.origins)?;
        for (table, origin) in renamed {
            merge::overlay(&mut self.values, table, &origin, &mut self.origins)?;
        }
        Ok(())
    }

    fn overlay_environment(
        &mut self,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<(), SettingsError> {
        // Sorted, so that the first error does not depend on the order of the environment.
        let variables: BTreeMap<_, _> = env.collect();
        let keys: Vec<_> =
            variables.keys().filter_map(|name| merge::environment_key(name)).collect();
        for (name, text) in &variables {
            let Some(key) = merge::environment_key(name) else { continue };
            if self.old_names.ignores(&key) {
                continue;
            }
            let is_set = |key: &[String]| keys.iter().any(|set| set == key);
            let key = self.old_names.resolve(key, is_set)?;
            let over = merge::environment_value(&self.values, &key, text, name)?;
            merge::overlay(&mut self.values, over, name, &mut self.origins)?;
        }
        Ok(())
    }
}

/// Shows the names of overridden keys and no values, because some values are secrets.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("overridden", &self.origins).finish_non_exhaustive()
    }
}

fn parse(text: &str, origin: &str) -> Result<Table, SettingsError> {
    text.parse().map_err(|error| SettingsError::not_toml(origin, text, &error))
}

fn collect_files(value: &Value, files: &mut Vec<PathBuf>) {
    match value {
        Value::String(text) => files.extend(text.strip_prefix("file:").map(PathBuf::from)),
        Value::Array(items) => items.iter().for_each(|item| collect_files(item, files)),
        Value::Table(table) => table.values().for_each(|value| collect_files(value, files)),
        _ => {}
    }
}

/// Collects the keys below `key` whose values differ.
fn compare(key: &str, before: Option<&Value>, after: Option<&Value>, keys: &mut Vec<String>) {
    match (before, after) {
        (Some(Value::Table(before)), Some(Value::Table(after))) => {
            let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names {
                compare(&format!("{key}.{name}"), before.get(name), after.get(name), keys);
            }
        }
        _ if before == after => {}
        _ => keys.push(key.to_owned()),
    }
}
