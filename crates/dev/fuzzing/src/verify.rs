//! Requests without a valid signature, for every source of [`testkit::SOURCES`].
//!
//! The first byte chooses the source. Then follow lines `name: value`, an empty line and the body.

use std::sync::{Arc, LazyLock};

use http::{HeaderMap, HeaderName, HeaderValue};
use providers::{
    Authenticator, Certificate, Options, ReceivedRequest, Rejection, SourceSettings, Verified,
};
use testkit::Credentials;

use crate::{NOW, head_and_body};

/// Checks that no request is authentic. The seeds do not contain the keys, so an authentic request
/// is a security hole.
pub fn check(data: &[u8]) {
    let Some((&choice, request)) = data.split_first() else { return };
    let (head, body) = head_and_body(request);
    let mut headers = HeaderMap::new();
    for (name, value) in head {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    let verdict = verdict(usize::from(choice), &headers, body);
    assert!(verdict.is_err(), "a request without a valid signature is authentic");
    // SNS certificates are untrusted bytes, too.
    let _ = Certificate::parse(body);
}

fn verdict(source: usize, headers: &HeaderMap, body: &[u8]) -> Result<Verified, Rejection> {
    let certificate = |_: &str| Some(Arc::clone(&CERTIFICATE));
    let request = ReceivedRequest { headers, body, remote_ip: None, now: NOW };
    SOURCES[source % SOURCES.len()].verify(&request, &certificate)
}

/// The certificate of the key that signs SNS messages in tests.
static CERTIFICATE: LazyLock<Arc<Certificate>> = LazyLock::new(|| {
    let pem = credentials().sns_certificate_pem();
    Arc::new(Certificate::parse(pem.as_bytes()).expect("a valid certificate"))
});

static SOURCES: LazyLock<Vec<Authenticator>> = LazyLock::new(|| {
    let credentials = credentials();
    let source = |(provider, name)| authenticator(&credentials.source_toml(provider, name));
    testkit::SOURCES.into_iter().map(source).collect()
});

pub fn credentials() -> Credentials {
    Credentials::new("https://hooks.example.com")
}

/// Creates the authenticator of the only source in a settings file.
fn authenticator(toml: &str) -> Authenticator {
    let mut file: toml::Table = toml.parse().expect("valid TOML");
    let mut entry: Entry = file
        .remove("source")
        .and_then(|sources| sources.as_array()?.first().cloned())
        .and_then(|source| source.try_into().ok())
        .expect("a source");
    let options = Options::read(entry.provider, std::mem::take(&mut entry.options));
    let secrets = entry.secrets.into_iter().map(Into::into).collect();
    let options = options.expect("known options");
    let settings = SourceSettings { name: entry.name, secrets, options };
    Authenticator::new(&settings).expect("valid keys")
}

/// A `[[source]]`.
#[derive(serde::Deserialize)]
struct Entry {
    provider: event::Provider,
    name: String,
    secrets: Vec<String>,
    #[serde(flatten)]
    options: toml::Table,
}

#[cfg(test)]
mod tests {
    use testkit::{Plan, Traffic};

    use super::*;

    #[test]
    fn signed_requests_are_authentic() {
        let sources = testkit::SOURCES.map(|(provider, name)| (provider, name.to_owned()));
        let plan = Plan { sources: sources.to_vec(), ..Plan::small(&credentials(), NOW) };
        let traffic = Traffic::new(1, plan);
        for (number, (provider, name)) in testkit::SOURCES.into_iter().enumerate() {
            let path = format!("/webhooks/{provider}/{name}");
            let request = traffic.requests().find(|request| request.path == path).unwrap();
            let headers = request.headers.iter().map(|(name, value)| {
                (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap())
            });
            assert!(verdict(number, &headers.collect(), &request.body).is_ok(), "{path}");
        }
    }
}
