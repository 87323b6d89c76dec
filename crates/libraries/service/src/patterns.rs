use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::Deserialize;

/// Globs in settings, such as `acme-*`. An empty list matches everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Patterns(Option<GlobSet>);

impl TryFrom<Vec<String>> for Patterns {
    type Error = globset::Error;

    fn try_from(globs: Vec<String>) -> Result<Self, globset::Error> {
        if globs.is_empty() {
            return Ok(Self(None));
        }
        let mut builder = GlobSetBuilder::new();
        for glob in globs {
            builder.add(Glob::new(&glob)?);
        }
        builder.build().map(|set| Self(Some(set)))
    }
}

impl Patterns {
    /// Returns whether one of the names matches. Without patterns, no name is needed.
    pub fn match_any<N: AsRef<str>>(&self, names: impl IntoIterator<Item = N>) -> bool {
        self.0.as_ref().is_none_or(|set| names.into_iter().any(|name| set.is_match(name.as_ref())))
    }

    /// Returns whether a source matches, written as `acme` or as `sendgrid/acme`.
    pub fn match_source(&self, provider: &str, source: &str) -> bool {
        // Without patterns, and if the short name matches, the long one is not made.
        self.0
            .as_ref()
            .is_none_or(|set| set.is_match(source) || set.is_match(format!("{provider}/{source}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_matches_with_and_without_its_provider() {
        let patterns = |globs: &[&str]| {
            Patterns::try_from(globs.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()).unwrap()
        };
        for (globs, expected) in [
            (&[][..], true),
            (&["ac*"], true),
            (&["ses/acme"], true),
            (&["sendgrid/*"], false),
            (&["other", "ses/*"], true),
        ] {
            assert_eq!(patterns(globs).match_source("ses", "acme"), expected, "{globs:?}");
        }
        assert!(patterns(&[]).match_any::<&str>([]) && !patterns(&["*"]).match_any::<&str>([]));
        assert!(Patterns::try_from(vec!["[".to_owned()]).is_err());
    }
}
