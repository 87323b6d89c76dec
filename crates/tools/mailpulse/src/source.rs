//! The source with which requests are verified: from the configuration or from the command line.

use std::path::Path;

use event::Provider;
use providers::{Options, SourceSettings};
use service::{Settings, SourceTable};
use toml::Table;

use crate::args::Scheme;
use crate::{InputError, input};

pub(crate) struct Source {
    pub(crate) settings: SourceSettings,
    /// File names, or settings such as `secrets[0]`.
    pub(crate) secret_names: Vec<String>,
    /// Remarks for the report, such as options that have no effect for this provider.
    pub(crate) notes: Vec<String>,
}

impl Source {
    /// Returns the configured source with this name. The options of `scheme` override its own.
    pub(crate) fn from_config(
        config: Option<&Path>,
        provider: Provider,
        name: &str,
        scheme: &Scheme,
    ) -> anyhow::Result<Self> {
        let entries = Settings::discover(config)?.sources()?;
        let matches = |entry: &SourceTable| entry.provider == provider && entry.name == name;
        let Some(entry) = entries.into_iter().find(matches) else {
            let text =
                format!("no [[source]] with provider {provider} and name {name} is configured");
            return Err(InputError(text).into());
        };
        let secret_names = (0..entry.secrets.len()).map(|n| format!("secrets[{n}]")).collect();
        let secrets = entry.secrets.iter().map(|secret| secret.expose().to_owned()).collect();
        let mut source = Self::new(provider, name, secrets, secret_names, entry.options, scheme)?;
        if entry.shadow {
            let note = "the source is in shadow mode: the ingress also accepts requests that are not authentic";
            source.notes.push(note.to_owned());
        }
        Ok(source)
    }

    pub(crate) fn from_arguments(provider: Provider, scheme: &Scheme) -> Result<Self, InputError> {
        let secrets: Result<_, _> =
            scheme.secret_files.iter().map(|path| input::read_secret(path)).collect();
        let names = scheme.secret_files.iter().map(|path| path.display().to_string()).collect();
        Self::new(provider, "command-line", secrets?, names, Table::new(), scheme)
    }

    fn new(
        provider: Provider,
        name: &str,
        secrets: Vec<String>,
        secret_names: Vec<String>,
        mut options: Table,
        scheme: &Scheme,
    ) -> Result<Self, InputError> {
        let mut notes = Vec::new();
        for (key, value) in scheme.options() {
            match note_if_ignored(provider, &key) {
                Some(note) => notes.push(note.to_owned()),
                None => drop(options.insert(key, value)),
            }
        }
        let unusable = |error: toml::de::Error| {
            InputError(format!("source {name} ({provider}): {}", error.message()))
        };
        let options = Options::read(provider, options).map_err(unusable)?;
        let secrets = secrets.into_iter().map(Into::into).collect();
        let settings = SourceSettings { name: name.to_owned(), secrets, options };
        Ok(Self { settings, secret_names, notes })
    }
}

/// Returns a note if this provider ignores an option that scripts may give for every provider.
/// Other unknown options are errors.
fn note_if_ignored(provider: Provider, key: &str) -> Option<&'static str> {
    if Options::keys(provider).contains(&key) {
        return None;
    }
    match key {
        "public_url" => Some("--url has no effect: this provider does not sign it"),
        "topics" => Some("--topic has no effect for this provider"),
        "tolerance_seconds" => {
            Some("--tolerance has no effect: this provider does not sign a time")
        }
        _ => None,
    }
}
