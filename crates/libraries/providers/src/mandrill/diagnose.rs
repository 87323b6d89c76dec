use super::Options;
use crate::ReceivedRequest;

/// Returns other spellings of the webhook's URL, among them the one that the request was sent to.
pub(crate) fn variants(options: &Options, request: &ReceivedRequest<'_>) -> Vec<(String, Options)> {
    let Some(url) = options.public_url.as_deref() else { return Vec::new() };
    let mut variants = Vec::new();
    let mut push = |change: &str, other: String| {
        let options = Options { public_url: Some(other.clone()), ..options.clone() };
        variants.push((format!("verifies {change}: set `public_url` to {other}"), options));
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
    if let Some(host) = request.header("host") {
        for scheme in ["https", "http"] {
            push("with the host of the request", format!("{scheme}://{host}/{path}"));
        }
    }
    variants
}
