//! Settings that were renamed or removed. Old names still work and removed settings are ignored, with a
//! warning at start.

use std::collections::BTreeSet;

use toml::{Table, Value};

use crate::SettingsError;

/// Old and new dotted key. Both are in the same section.
pub(crate) const ALIASES: &[(&str, &str)] = &[
    ("ingress.body_bytes", "ingress.body_memory_bytes"),
    ("ingress.refusal_burst", "ingress.rejection_burst"),
    ("ingress.refusals_per_minute", "ingress.rejections_per_minute"),
    ("ingress.replay_tokens", "ingress.replay_cache_tokens"),
    ("enrich.refusals_to_hold", "enrich.refusal_limit"),
    ("enrich.mx", "enrich.mx_lookups"),
    ("enrich.mx_wait", "enrich.mx_timeout"),
    ("enrich.mx_domains", "enrich.mx_cache_domains"),
    ("dedupe.refusals_to_hold", "dedupe.refusal_limit"),
    ("dedupe.immediate", "dedupe.immediate_within"),
    ("dedupe.burst_links", "dedupe.link_burst_links"),
    ("dedupe.burst_within", "dedupe.link_burst_within"),
    ("monitor.refusals_to_hold", "monitor.refusal_limit"),
    ("archive.refusals_to_hold", "archive.refusal_limit"),
];

/// The dotted key of a setting that no longer exists, and what has replaced it.
pub(crate) const REMOVED: &[(&str, &str)] = &[(
    "monitor.allowed_lateness",
    "a late event counts as long as monitor holds its pane, which is 70 minutes to 8 days",
)];

/// Renamed settings that are used by their old names, and removed settings that are set.
#[derive(Clone, Default)]
pub(crate) struct OldNames {
    renamed: BTreeSet<(&'static str, &'static str)>,
    removed: BTreeSet<(&'static str, &'static str)>,
}

impl OldNames {
    /// Moves the settings of a file that have old names out of `file`. Returns each one under its
    /// new name, with the origin that error messages name.
    ///
    /// # Errors
    /// Fails if the file has a setting under both names.
    pub(crate) fn take_from_file(
        &mut self,
        file: &mut Table,
        origin: &str,
    ) -> Result<Vec<(Table, String)>, SettingsError> {
        for &(old, replacement) in REMOVED {
            let (section, key) = split(old);
            let table = file.get_mut(section).and_then(Value::as_table_mut);
            if table.and_then(|table| table.remove(key)).is_some() {
                self.removed.insert((old, replacement));
            }
        }
        let mut renamed = Vec::new();
        for &(old, new) in ALIASES {
            let ((section, old_key), (_, new_key)) = (split(old), split(new));
            let Some(table) = file.get_mut(section).and_then(Value::as_table_mut) else { continue };
            let Some(value) = table.remove(old_key) else { continue };
            if table.contains_key(new_key) {
                return Err(SettingsError::both_names(old, new, origin));
            }
            self.renamed.insert((old, new));
            let value = Table::from_iter([(new_key.to_owned(), value)]);
            let value = Table::from_iter([(section.to_owned(), Value::Table(value))]);
            renamed.push((value, format!("{origin}, where it is called `{old}`")));
        }
        Ok(renamed)
    }

    /// Returns the present key of the setting that the environment calls `key`. `is_set` returns
    /// whether the environment has a key.
    ///
    /// # Errors
    /// Fails if the environment has the setting under both names.
    pub(crate) fn resolve(
        &mut self,
        key: Vec<String>,
        is_set: impl Fn(&[String]) -> bool,
    ) -> Result<Vec<String>, SettingsError> {
        let Some(&(old, new)) = ALIASES.iter().find(|(old, _)| key.join(".") == *old) else {
            return Ok(key);
        };
        let present: Vec<_> = new.split('.').map(str::to_owned).collect();
        if is_set(&present) {
            return Err(SettingsError::both_names(old, new, "environment"));
        }
        self.renamed.insert((old, new));
        Ok(present)
    }

    /// Returns whether the environment calls a removed setting `key`, which is then to be ignored.
    pub(crate) fn ignores(&mut self, key: &[String]) -> bool {
        let removed = REMOVED.iter().find(|(old, _)| key.join(".") == *old);
        self.removed.extend(removed);
        removed.is_some()
    }

    /// Returns the old and new names in use.
    pub(crate) fn renamed(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.renamed.iter().copied()
    }

    /// Returns the removed settings that are set, and what has replaced them.
    pub(crate) fn removed(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.removed.iter().copied()
    }
}

/// Splits `section.key`.
fn split(dotted: &str) -> (&str, &str) {
    dotted.split_once('.').unwrap_or((dotted, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    fn load(file: &str, env: &[(String, String)]) -> Result<Settings, SettingsError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mine.toml");
        std::fs::write(&path, file).unwrap();
        Settings::load(Some(&path), env.iter().cloned())
    }

    fn value(settings: &Settings, dotted: &str) -> Value {
        let (section, key) = split(dotted);
        settings.section::<Table>(section).unwrap()[key].clone()
    }

    /// Returns a value of the right type that differs from the default.
    fn another(default: &Value) -> Value {
        match default {
            Value::Integer(number) => Value::Integer(number + 1),
            Value::Boolean(flag) => Value::Boolean(!flag),
            Value::String(_) => Value::String("7s".to_owned()),
            other => panic!("give the test another value than {other}"),
        }
    }

    fn variable(dotted: &str) -> String {
        format!("MAILPULSE__{}", dotted.replace('.', "__").to_uppercase())
    }

    /// The value as the environment writes it.
    fn bare(value: &Value) -> String {
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }

    #[test]
    fn every_old_name_works_in_the_file_and_in_the_environment() {
        let defaults = Settings::load(None, std::iter::empty()).unwrap();
        for &(old, new) in ALIASES {
            let ((section, old_key), (new_section, _)) = (split(old), split(new));
            assert_eq!(section, new_section, "{old}");
            let default = value(&defaults, new);
            let changed = another(&default);

            let file = format!("[{section}]\n{old_key} = {changed}\n");
            let settings = load(&file, &[]).unwrap();
            assert_eq!(value(&settings, new), changed, "{old}");
            assert_eq!(settings.renamed().collect::<Vec<_>>(), [(old, new)]);

            let settings = load("", &[(variable(old), bare(&changed))]).unwrap();
            assert_eq!(value(&settings, new), changed, "{old}");
            assert_eq!(settings.renamed().collect::<Vec<_>>(), [(old, new)]);
        }
    }

    #[test]
    fn both_names_at_once_are_an_error_that_names_both() {
        let defaults = Settings::load(None, std::iter::empty()).unwrap();
        for &(old, new) in ALIASES {
            let ((section, old_key), (_, new_key)) = (split(old), split(new));
            let default = value(&defaults, new);
            let file = format!("[{section}]\n{old_key} = {default}\n{new_key} = {default}\n");
            let env = [(variable(old), bare(&default)), (variable(new), bare(&default))];
            for error in [load(&file, &[]).unwrap_err(), load("", &env).unwrap_err()] {
                assert_eq!(error.code(), "settings_both_names");
                let text = error.to_string();
                assert!(text.contains(&format!("`{old}`")), "{text}");
                assert!(text.contains(&format!("`{new}`")), "{text}");
            }
        }
    }

    #[test]
    fn the_environment_overrides_the_file_under_either_name() {
        let number = |text: &str, name: &str| {
            let env = [(variable(name), "9".to_owned())];
            let settings = load(text, &env).unwrap();
            value(&settings, "dedupe.refusal_limit").as_integer()
        };
        let old = "[dedupe]\nrefusals_to_hold = 5\n";
        let new = "[dedupe]\nrefusal_limit = 5\n";
        assert_eq!(number(old, "dedupe.refusal_limit"), Some(9));
        assert_eq!(number(new, "dedupe.refusals_to_hold"), Some(9));
    }

    #[test]
    fn a_removed_setting_is_ignored_in_the_file_and_in_the_environment() {
        for &(old, replacement) in REMOVED {
            let (section, key) = split(old);
            let settings = load(&format!("[{section}]\n{key} = \"10m\"\n"), &[]).unwrap();
            assert_eq!(settings.removed().collect::<Vec<_>>(), [(old, replacement)]);
            let settings = load("", &[(variable(old), "10m".to_owned())]).unwrap();
            assert_eq!(settings.removed().collect::<Vec<_>>(), [(old, replacement)]);
            assert_eq!(load("", &[]).unwrap().removed().count(), 0);
        }
    }

    #[test]
    fn an_error_names_the_setting_as_it_was_written() {
        let error = load("[dedupe]\nrefusals_to_hold = \"many\"\n", &[]).unwrap_err().to_string();
        assert!(error.contains("`dedupe.refusal_limit`"), "{error}");
        assert!(
            error.contains("mine.toml, where it is called `dedupe.refusals_to_hold`"),
            "{error}"
        );
    }

    #[test]
    fn settings_with_present_names_are_not_warned_about() {
        let settings = load("[dedupe]\nrefusal_limit = 5\n", &[]).unwrap();
        assert_eq!(settings.renamed().count(), 0);
    }
}
