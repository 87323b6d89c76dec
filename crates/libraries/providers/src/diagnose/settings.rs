use secrecy::{ExposeSecret, SecretString};

use crate::{Options, ReceivedRequest, SourceSettings, generic, mandrill};

/// Returns settings that differ from the given ones in something that is often mistaken, each with
/// the fix to report if the request passes with it.
pub(super) fn variants(
    settings: &SourceSettings,
    request: &ReceivedRequest<'_>,
) -> Vec<(String, SourceSettings)> {
    let mut variants = trimmed_secrets(settings);
    let options = match &settings.options {
        Options::Mandrill(options) => mandrill::variants(options, request)
            .into_iter()
            .map(|(fix, options)| (fix, Options::Mandrill(options)))
            .collect(),
        Options::Generic(options) => generic::variants(options)
            .into_iter()
            .map(|(fix, options)| (fix, Options::Generic(options)))
            .collect(),
        _ => Vec::new(),
    };
    let with = |options| SourceSettings { options, ..settings.clone() };
    variants.extend(options.into_iter().map(|(fix, options)| (fix, with(options))));
    variants
}

/// The newline at the end of a file is often taken for a part of the secret.
fn trimmed_secrets(settings: &SourceSettings) -> Vec<(String, SourceSettings)> {
    let trimmed = |secret: &SecretString| secret.expose_secret().trim().into();
    let secrets: Vec<SecretString> = settings.secrets.iter().map(trimmed).collect();
    let differs =
        |(one, other): (&SecretString, &SecretString)| one.expose_secret() != other.expose_secret();
    if !secrets.iter().zip(&settings.secrets).any(differs) {
        return Vec::new();
    }
    let fix = "verifies without the white space around the secret: remove it".to_owned();
    vec![(fix, SourceSettings { secrets, ..settings.clone() })]
}
