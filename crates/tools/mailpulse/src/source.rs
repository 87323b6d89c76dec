//! Whose webhooks a request is judged by: a configured source, or what the command line says.

use std::path::Path;

use event::Provider;
use providers::{Options, SourceSettings};
use serde::Deserialize;
use service::{Secret, Settings};
use toml::Table;

use crate::args::Scheme;
use crate::{Unusable, input};

/// Keys of a `[[source]]` by which the ingress handles its requests, whoever sent them.
const HANDLING: [&str; 3] = ["shadow", "rate", "burst"];

/// One `[[source]]` table.
#[derive(Deserialize)]
struct Entry {
    provider: Provider,
    name: String,
    #[serde(default)]
    secrets: Vec<Secret>,
    #[serde(flatten)]
    options: Table,
}

/// A source, and what each of its secrets is called.
pub(crate) struct Source {
    pub(crate) settings: SourceSettings,
    /// File names, or places in the configuration.
    pub(crate) secret_names: Vec<String>,
    /// What of the command line has no bearing on this provider, a sentence each.
    pub(crate) notes: Vec<String>,
}

impl Source {
    /// The configured source of this name, with the options of `scheme` over its own.
    pub(crate) fn configured(
        config: Option<&Path>,
        provider: Provider,
        name: &str,
        scheme: &Scheme,
    ) -> anyhow::Result<Self> {
        let entries = Settings::discover(config)?.list::<Entry>("source")?;
        let is_it = |entry: &Entry| entry.provider == provider && entry.name == name;
        let Some(entry) = entries.into_iter().find(is_it) else {
            let text = format!("no [[source]] named {name} of {provider} is configured");
            return Err(Unusable(text).into());
        };
        let secret_names = (0..entry.secrets.len()).map(|n| format!("secrets[{n}]")).collect();
        let secrets = entry.secrets.iter().map(|secret| secret.expose().to_owned()).collect();
        let mut options = entry.options;
        let is_shadow = options.get("shadow").and_then(toml::Value::as_bool) == Some(true);
        options.retain(|key, _| !HANDLING.contains(&key));
        let mut source = Self::new(provider, name, secrets, secret_names, options, scheme)?;
        if is_shadow {
            let note = "the source is in shadow mode: the ingress takes what is not authentic too";
            source.notes.push(note.to_owned());
        }
        Ok(source)
    }

    /// What the command line alone says.
    pub(crate) fn given(provider: Provider, scheme: &Scheme) -> Result<Self, Unusable> {
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
    ) -> Result<Self, Unusable> {
        let mut notes = Vec::new();
        for (key, value) in scheme.options() {
            match without_bearing(provider, &key) {
                Some(why) => notes.push(why.to_owned()),
                None => drop(options.insert(key, value)),
            }
        }
        let unusable = |error: toml::de::Error| Unusable(error.message().to_owned());
        let options: Options = options.try_into().map_err(unusable)?;
        let secrets = secrets.into_iter().map(Into::into).collect();
        let settings = SourceSettings { provider, name: name.to_owned(), secrets, options };
        Ok(Self { settings, secret_names, notes })
    }
}

/// Options that say something true of any request and that only some providers sign: given for
/// another, they are left out with a word instead of being refused.
fn without_bearing(provider: Provider, key: &str) -> Option<&'static str> {
    use Provider::{Generic, Mailgun, Mandrill, Resend, SendGrid, Ses, StandardWebhooks};
    match key {
        "public_url" if provider != Mandrill => Some("--url is not signed by this provider"),
        "topics" if provider != Ses => Some("--topic means nothing to this provider"),
        "tolerance_seconds"
            if !matches!(
                provider,
                SendGrid | Mailgun | Ses | Resend | StandardWebhooks | Generic
            ) =>
        {
            Some("--tolerance: this provider signs no time")
        }
        _ => None,
    }
}
