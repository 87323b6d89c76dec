//! The settings file and the environment. If the first byte is even the rest is a file, else it is
//! lines `NAME: value` of the environment, the prefix left out.

use std::cell::RefCell;

use event::Provider;
use providers::{Authenticator, Options, SourceSettings};
use serde::Deserialize;
use service::{ENVIRONMENT_PREFIX, Settings, units};

use crate::head_and_body;

thread_local! {
    static FILE: RefCell<tempfile::NamedTempFile> =
        RefCell::new(tempfile::NamedTempFile::new().expect("a file"));
}

/// Checks that any text is read or refused with a message, and that a source that is read can be
/// built or refused likewise.
pub fn check(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else { return };
    let Some(settings) = (if choice % 2 == 0 { of_file(text) } else { of_environment(text) })
    else {
        return;
    };
    match settings.list::<Source>("source") {
        Ok(sources) => sources.into_iter().for_each(build),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let _ = settings.section::<toml::Table>("ingress");
    let _ = settings.section::<toml::Table>("kafka");
}

fn of_file(text: &[u8]) -> Option<Settings> {
    FILE.with_borrow(|file| {
        std::fs::write(file.path(), text).expect("the file");
        let settings = Settings::load(Some(file.path()), std::iter::empty());
        settings.map_err(|error| assert!(!error.to_string().is_empty())).ok()
    })
}

fn of_environment(lines: &[u8]) -> Option<Settings> {
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let variables = head_and_body(lines).0.into_iter().filter_map(|(name, value)| {
        Some((format!("{ENVIRONMENT_PREFIX}{}", text(name)?), text(value)?.to_owned()))
    });
    let settings = Settings::load(None, variables);
    settings.map_err(|error| assert!(!error.to_string().is_empty())).ok()
}

/// A `[[source]]`, as the ingress reads it but for `env:` and `file:`.
#[derive(Deserialize)]
struct Source {
    provider: Provider,
    name: String,
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(flatten)]
    options: toml::Table,
}

fn build(source: Source) {
    let Source { provider, name, secrets, options } = source;
    // Durations are read in the same file.
    let _ = units::parse_duration(&name);
    let Ok(options) = options.try_into::<Options>() else { return };
    let secrets = secrets.into_iter().map(Into::into).collect();
    let settings = SourceSettings { provider, name, secrets, options };
    if let Err(error) = Authenticator::new(&settings) {
        assert!(!error.to_string().is_empty());
    }
}
