use event::Provider;
use secrecy::ExposeSecret;

use crate::{Algorithm, Encoding, Options, Received, SecretEncoding, SourceSettings};

/// Settings that differ from the given ones in what people mistake, and what that would mean.
pub(super) fn variants(
    settings: &SourceSettings,
    received: &Received<'_>,
) -> Vec<(String, SourceSettings)> {
    let mut variants = trimmed_secrets(settings);
    let options = match settings.provider {
        Provider::Mandrill => urls(&settings.options, received),
        Provider::Generic => schemes(&settings.options),
        _ => Vec::new(),
    };
    let with = |options| SourceSettings { options, ..settings.clone() };
    variants.extend(options.into_iter().map(|(what, options)| (what, with(options))));
    variants
}

/// A file's last line has an end, which is no part of the secret.
fn trimmed_secrets(settings: &SourceSettings) -> Vec<(String, SourceSettings)> {
    let trimmed = |secret: &secrecy::SecretString| secret.expose_secret().trim().into();
    let secrets: Vec<secrecy::SecretString> = settings.secrets.iter().map(trimmed).collect();
    let differs = |(one, other): (&secrecy::SecretString, &secrecy::SecretString)| {
        one.expose_secret() != other.expose_secret()
    };
    if !secrets.iter().zip(&settings.secrets).any(differs) {
        return Vec::new();
    }
    let what = "verifies when the white space around the secret is removed".to_owned();
    vec![(what, SourceSettings { secrets, ..settings.clone() })]
}

/// Other ways to write a webhook's URL, among them the one by which the request came here.
fn urls(options: &Options, received: &Received<'_>) -> Vec<(String, Options)> {
    let Some(url) = options.public_url.as_deref() else { return Vec::new() };
    let mut variants = Vec::new();
    let mut push = |what: &str, other: String| {
        let options = Options { public_url: Some(other.clone()), ..options.clone() };
        variants.push((format!("verifies {what}: set `public_url` to {other}"), options));
    };
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    for scheme in ["http", "https"].into_iter().filter(|other| *other != scheme) {
        push(&format!("with {scheme}:// instead"), format!("{scheme}://{rest}"));
    }
    match url.strip_suffix('/') {
        Some(bare) => push("without the trailing slash", bare.to_owned()),
        None => push("with a trailing slash", format!("{url}/")),
    }
    if let Some((bare, _)) = url.split_once('?') {
        push("without the query", bare.to_owned());
    }
    if let Some((_, bare)) = host.rsplit_once('@') {
        push("without the credentials", format!("{scheme}://{bare}/{path}"));
    }
    match host.rsplit_once(':') {
        Some((bare, _)) => push("without the port", format!("{scheme}://{bare}/{path}")),
        None => {
            let port = if scheme == "http" { 80 } else { 443 };
            push("with the port", format!("{scheme}://{host}:{port}/{path}"));
        }
    }
    if let Some(host) = received.header("host") {
        for scheme in ["https", "http"] {
            push("with the host of the request", format!("{scheme}://{host}/{path}"));
        }
    }
    variants
}

/// Other schemes of the generic source, each different in one thing.
fn schemes(options: &Options) -> Vec<(String, Options)> {
    let mut variants = Vec::new();
    let mut push = |key: &str, value: &str, options| {
        variants.push((format!("verifies with `{key} = \"{value}\"`"), options));
    };
    for algorithm in [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512] {
        let options = Options { algorithm: Some(algorithm), ..options.clone() };
        push("algorithm", algorithm.as_str(), options);
    }
    for (encoding, name) in [(Encoding::Hex, "hex"), (Encoding::Base64, "base64")] {
        push("encoding", name, Options { encoding: Some(encoding), ..options.clone() });
    }
    for prefix in ["", "sha1=", "sha256=", "sha512=", "v0=", "v1=", "v1,"] {
        push("prefix", prefix, Options { prefix: Some(prefix.into()), ..options.clone() });
    }
    for template in [
        "{body}",
        "{timestamp}.{body}",
        "{timestamp}{body}",
        "{timestamp}:{body}",
        "v0:{timestamp}:{body}",
        "{id}.{timestamp}.{body}",
    ] {
        push("signed", template, Options { signed: template.parse().ok(), ..options.clone() });
    }
    for (encoding, name) in [
        (SecretEncoding::Raw, "raw"),
        (SecretEncoding::Hex, "hex"),
        (SecretEncoding::Base64, "base64"),
    ] {
        push(
            "secret_encoding",
            name,
            Options { secret_encoding: Some(encoding), ..options.clone() },
        );
    }
    variants
}
