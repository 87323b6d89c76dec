//! Requests that nobody signed, to every source of [`testkit::SOURCES`].
//!
//! The first byte chooses the source; then lines `name: value`, an empty line, the body.

use std::sync::{Arc, LazyLock};

use http::{HeaderMap, HeaderName, HeaderValue};
use providers::{Authenticator, Certificate, Received, Refusal, SourceSettings, Verified};
use testkit::Credentials;

use crate::{NOW, head_and_body};

/// Checks that nothing is taken for genuine: the keys are not in the seeds, so whoever gets in has
/// found a hole.
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
    assert!(verdict.is_err(), "a request that nobody signed was taken");
    // An SNS certificate comes from elsewhere, too.
    let _ = Certificate::parse(body);
}

fn verdict(source: usize, headers: &HeaderMap, body: &[u8]) -> Result<Verified, Refusal> {
    let certificate = |_: &str| Some(Arc::clone(&CERTIFICATE));
    let received = Received { headers, body, remote_ip: None, now: NOW };
    SOURCES[source % SOURCES.len()].verify(&received, &certificate)
}

/// The certificate of the key that the real SNS messages of a test are signed with.
static CERTIFICATE: LazyLock<Arc<Certificate>> = LazyLock::new(|| {
    let pem = credentials().sns_certificate_pem();
    Arc::new(Certificate::parse(pem.as_bytes()).expect("the testkit's certificate"))
});

static SOURCES: LazyLock<Vec<Authenticator>> = LazyLock::new(|| {
    let credentials = credentials();
    let source = |(provider, name)| authenticator(&credentials.source_toml(provider, name));
    testkit::SOURCES.into_iter().map(source).collect()
});

/// The keys of all sources.
pub fn credentials() -> Credentials {
    Credentials::new("https://hooks.example.com")
}

/// The one source of a settings file.
fn authenticator(toml: &str) -> Authenticator {
    let mut file: toml::Table = toml.parse().expect("the testkit writes TOML");
    let mut entry: Entry = file
        .remove("source")
        .and_then(|sources| sources.as_array()?.first().cloned())
        .and_then(|source| source.try_into().ok())
        .expect("the testkit writes sources");
    let options = std::mem::take(&mut entry.options).try_into().expect("known options");
    let secrets = entry.secrets.into_iter().map(Into::into).collect();
    let settings = SourceSettings { provider: entry.provider, name: entry.name, secrets, options };
    Authenticator::new(&settings).expect("the testkit's keys are good")
}

/// A `[[source]]`, as the ingress reads it.
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
    fn what_is_signed_is_taken() {
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
