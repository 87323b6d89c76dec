use std::path::PathBuf;

/// An error in the settings. Every message names the key, its origin (a file, an environment
/// variable or the defaults) and the fix.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("cannot read {}: {source}; give the right path with --config", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// The text is not TOML. The message does not quote it because it may contain secrets.
    #[error("{origin} is not TOML: line {line}: {problem}")]
    NotToml {
        origin: String,
        /// Counted from 1.
        line: usize,
        problem: String,
    },
    #[error("unknown key `{key}` ({origin}){}", nearest_hint(nearest.as_deref()))]
    UnknownKey {
        /// The dotted path, as in all variants.
        key: String,
        origin: String,
        /// The known key with the most similar spelling.
        nearest: Option<String>,
    },
    /// The value has another type than the default.
    #[error("`{key}` ({origin}) must be {expected}, not {found}")]
    WrongType {
        key: String,
        origin: String,
        /// The type of the default, with an example.
        expected: String,
        /// The type of the value.
        found: &'static str,
    },
    /// A required key is absent.
    #[error("`{key}` is missing; add it to the configuration file")]
    Missing { key: String },
    /// A renamed setting is given under both of its names.
    #[error(
        "`{old}` and `{new}` ({origin}) are the old and the new name of one setting; remove `{old}`"
    )]
    BothNames { old: &'static str, new: &'static str, origin: String },
    /// The value has the right type but cannot be used.
    #[error("`{key}` ({origin}): {problem}")]
    Invalid {
        key: String,
        origin: String,
        /// The fault and the fix.
        problem: String,
    },
}

impl SettingsError {
    pub(crate) fn not_toml(origin: &str, text: &str, error: &toml::de::Error) -> Self {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        Self::NotToml { origin: origin.to_owned(), line, problem: error.message().to_owned() }
    }

    pub(crate) fn both_names(old: &'static str, new: &'static str, origin: &str) -> Self {
        Self::BothNames { old, new, origin: origin.to_owned() }
    }

    /// Returns the stable code, for logs and tests.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "settings_unreadable",
            Self::NotToml { .. } => "settings_not_toml",
            Self::UnknownKey { .. } => "settings_unknown_key",
            Self::WrongType { .. } => "settings_wrong_type",
            Self::Missing { .. } => "settings_missing_key",
            Self::BothNames { .. } => "settings_both_names",
            Self::Invalid { .. } => "settings_invalid_value",
        }
    }
}

fn nearest_hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; the nearest known key is `{key}`"))
}

/// Returns the candidate that begins like `word`, or else the one with the least edit distance
/// (Levenshtein) to it.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates.into_iter().min_by_key(|candidate| {
        let is_prefix = candidate.starts_with(word) || word.starts_with(candidate);
        if is_prefix { 1 } else { distance(word, candidate) }
    })
}

fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_the_one_with_the_fewest_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(nearest("bootsrap", ["prefix", "bootstrap", "compression"]), Some("bootstrap"));
        assert_eq!(nearest("expires", ["name", "expires_after"]), Some("expires_after"));
        assert_eq!(nearest("x", []), None);
    }
}
