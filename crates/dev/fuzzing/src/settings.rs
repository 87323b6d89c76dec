//! The settings file and environment variables. If the first byte is even, the rest is a file;
//! otherwise it has lines `NAME: value` with variables without their prefix.

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

/// Checks that settings and the sources in them are either valid or rejected with a message.
pub fn check(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else { return };
    let Some(settings) = (if choice % 2 == 0 { from_file(text) } else { from_environment(text) })
    else {
        return;
    };
    match settings.list::<Source>("source") {
        Ok(sources) => sources.into_iter().for_each(create_authenticator),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let _ = settings.section::<toml::Table>("ingress");
    let _ = settings.section::<toml::Table>("kafka");
}

fn from_file(text: &[u8]) -> Option<Settings> {
    FILE.with_borrow(|file| {
        std::fs::write(file.path(), text).expect("the file");
        let settings = Settings::load(Some(file.path()), std::iter::empty());
        settings.map_err(|error| assert!(!error.to_string().is_empty())).ok()
    })
}

fn from_environment(lines: &[u8]) -> Option<Settings> {
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let variables = head_and_body(lines).0.into_iter().filter_map(|(name, value)| {
        Some((format!("{ENVIRONMENT_PREFIX}{}", text(name)?), text(value)?.to_owned()))
    });
    let settings = Settings::load(None, variables);
    settings.map_err(|error| assert!(!error.to_string().is_empty())).ok()
}

/// A `[[source]]` without `env:` and `file:` secrets.
#[derive(Deserialize)]
struct Source {
    provider: Provider,
    name: String,
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(flatten)]
    options: toml::Table,
}

fn create_authenticator(source: Source) {
    let Source { provider, name, secrets, options } = source;
    // Durations are settings, too.
    let _ = units::parse_duration(&name);
    let Ok(options) = Options::read(provider, options) else { return };
    let secrets = secrets.into_iter().map(Into::into).collect();
    let settings = SourceSettings { name, secrets, options };
    if let Err(error) = Authenticator::new(&settings) {
        assert!(!error.to_string().is_empty());
    }
}
