use super::Options;
use super::options::{Encoding, SecretEncoding};
use crate::mac::Algorithm;

/// Returns common schemes, each different from the given one in one option.
pub(crate) fn variants(options: &Options) -> Vec<(String, Options)> {
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
        let options = Options { secret_encoding: Some(encoding), ..options.clone() };
        push("secret_encoding", name, options);
    }
    variants
}
