use std::path::PathBuf;

/// Why the settings cannot be used. Every message names the key, where its value came from and
/// what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; give the right path with --config", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not TOML. The message does not quote it, since it may hold secrets.
    #[error("{origin} is not TOML: line {line}: {problem}")]
    NotToml {
        /// The file or environment variable.
        origin: String,
        /// From 1.
        line: usize,
        /// What was expected.
        problem: String,
    },
    /// A key that means nothing.
    #[error("unknown key `{key}` ({origin}){}", nearest_hint(nearest.as_deref()))]
    UnknownKey {
        /// Dotted path.
        key: String,
        /// Where it was written.
        origin: String,
        /// The known key that looks most like it, dotted path.
        nearest: Option<String>,
    },
    /// A value of another type than the default.
    #[error("`{key}` ({origin}) must be {expected}, not {found}")]
    WrongType {
        /// Dotted path.
        key: String,
        /// Where it was written.
        origin: String,
        /// What the default is, with an example.
        expected: String,
        /// What was written.
        found: &'static str,
    },
    /// A required key is absent.
    #[error("`{key}` is missing; add it to the configuration file")]
    Missing {
        /// Dotted path.
        key: String,
    },
    /// A value that cannot be used.
    #[error("`{key}` ({origin}): {problem}")]
    Invalid {
        /// Dotted path.
        key: String,
        /// Where it was written.
        origin: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl SettingsError {
    pub(crate) fn not_toml(origin: &str, text: &str, error: &toml::de::Error) -> Self {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        Self::NotToml { origin: origin.to_owned(), line, problem: error.message().to_owned() }
    }

    /// The stable code, for logs and tests.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "settings_unreadable",
            Self::NotToml { .. } => "settings_not_toml",
            Self::UnknownKey { .. } => "settings_unknown_key",
            Self::WrongType { .. } => "settings_wrong_type",
            Self::Missing { .. } => "settings_missing_key",
            Self::Invalid { .. } => "settings_invalid_value",
        }
    }
}

fn nearest_hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; the nearest known key is `{key}`"))
}

/// The candidate that begins like `word` or else has the least edit distance (Levenshtein) to it.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates.into_iter().min_by_key(|candidate| {
        let is_cut_short = candidate.starts_with(word) || word.starts_with(candidate);
        if is_cut_short { 1 } else { distance(word, candidate) }
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
