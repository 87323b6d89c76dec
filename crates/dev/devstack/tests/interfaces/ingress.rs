//! The HTTP interface of the ingress: paths, providers, statuses and problem codes.

use std::collections::{BTreeMap, BTreeSet};

use event::Provider;
use providers::{Rejection, profile};
use serde_json::{Value, json};

use crate::document::{file, keys, literals, texts};
use crate::support::{read, root};

const WEBHOOKS: &str = "/webhooks/{provider}/{source}";

fn document() -> Value {
    file("openapi/ingress.yaml")
}

/// Follows a reference within the document.
fn resolve<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
        None => value,
    }
}

/// Returns the problem codes that the responses of an operation name, by status.
fn codes(document: &Value, path: &str, method: &str) -> BTreeMap<u16, BTreeSet<String>> {
    let responses = document["paths"][path][method]["responses"].as_object().unwrap();
    let mut codes = BTreeMap::new();
    for (status, response) in responses {
        let content = &resolve(document, response)["content"]["application/problem+json"];
        let Some(parts) = content["schema"]["allOf"].as_array() else { continue };
        assert_eq!(parts[0]["$ref"], "#/components/schemas/Problem");
        let status: u16 = status.parse().unwrap();
        let properties = &parts[1]["properties"];
        assert_eq!(properties["status"]["const"], status, "{path} {method}");
        let mut of_status = texts(&properties["code"]["enum"]);
        of_status.extend(properties["code"]["const"].as_str().map(str::to_owned));
        codes.insert(status, of_status);
    }
    codes
}

#[test]
fn every_route_of_the_code_is_described_and_no_other() {
    let described = keys(&document()["paths"]);
    let mut routes = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("crates/services/ingress/src")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".rs") && !name.ends_with("_tests.rs") {
            let source = std::fs::read_to_string(entry.path()).unwrap();
            routes.extend(literals(&source, "/"));
        }
    }
    let admin = literals(&read("crates/libraries/service/src/admin.rs"), "/");
    // The answer to an unknown path lists the paths.
    routes.extend(admin.iter().flat_map(|literal| literal.split(", ")).map(str::to_owned));
    assert!(routes.contains("/webhooks/") && routes.contains("/livez"), "{routes:?}");
    for route in &routes {
        let is_described =
            |path: &String| path == route || (route.ends_with('/') && path.starts_with(route));
        assert!(described.iter().any(is_described), "{route} is not described");
    }
    for path in described {
        let is_route =
            |route: &String| *route == path || (route.ends_with('/') && path.starts_with(route));
        assert!(routes.iter().any(is_route), "the code has no {path}");
    }
}

#[test]
fn every_name_of_every_provider_is_described() {
    let document = document();
    let names = Provider::ALL.into_iter().flat_map(|provider| {
        std::iter::once(provider.as_str()).chain(provider.aliases().iter().copied())
    });
    let described = texts(&document["components"]["parameters"]["Provider"]["schema"]["enum"]);
    assert_eq!(described, names.map(str::to_owned).collect());
}

#[test]
fn the_statuses_and_limits_of_every_provider_are_those_of_its_profile() {
    let document = document();
    let expected: BTreeMap<&str, Value> = Provider::ALL
        .into_iter()
        .map(|provider| {
            let profile = profile(provider);
            let statuses = json!({
                "rejected": profile.rejected_status,
                "read_timeout": profile.temporary_status(408),
                "too_many": profile.temporary_status(429),
                "unavailable": profile.unavailable_status,
                "body_limit": profile.body_limit,
                "waits": profile.request_timeout.as_secs(),
            });
            (provider.as_str(), statuses)
        })
        .collect();
    assert_eq!(document["x-providers"], json!(expected));
}

/// `documents.rs` compares the page with the code.
#[test]
fn every_problem_code_has_the_statuses_of_its_page() {
    let document = document();
    let mut expected: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for row in
        read("docs/reason-codes/problem-codes.md").lines().filter(|line| line.starts_with("| `"))
    {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let code = cells[1].trim_matches('`').to_owned();
        let numbers =
            cells[2].split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty());
        for status in numbers {
            expected.entry(status.parse().unwrap()).or_default().insert(code.clone());
        }
    }
    // A method other than POST and HEAD has an operation of its own.
    let not_allowed = expected.remove(&405).unwrap();
    let described = codes(&document, WEBHOOKS, "post");
    assert_eq!(described, expected);
    assert_eq!(codes(&document, WEBHOOKS, "get")[&405], not_allowed);
    for method in ["post", "head", "get"] {
        let responses = |path: &str| document["paths"][path][method]["responses"].clone();
        assert_eq!(responses("/webhooks/{provider}"), responses(WEBHOOKS), "{method}");
    }
}

#[test]
fn every_rejection_has_a_described_status_at_every_provider() {
    let described = codes(&document(), WEBHOOKS, "post");
    let mut cases = vec![(Provider::Mailgun, Rejection::Replayed)];
    for provider in Provider::ALL {
        cases.extend([
            (provider, Rejection::AddressNotAllowed),
            (provider, Rejection::MissingSignature),
            (provider, Rejection::MalformedSignature("")),
            (provider, Rejection::WrongSignature),
            (provider, Rejection::Stale { skew_seconds: 1 }),
        ]);
    }
    for provider in [Provider::Postmark, Provider::SparkPost, Provider::Brevo, Provider::Mailjet] {
        cases.push((provider, Rejection::MissingCredentials));
        cases.push((provider, Rejection::WrongCredentials));
    }
    cases.extend([
        (Provider::Ses, Rejection::RawDelivery),
        (Provider::Ses, Rejection::UntrustedCertificateUrl),
        (Provider::Ses, Rejection::CertificateNeeded(String::new())),
        (Provider::Ses, Rejection::CertificateInvalid),
        (Provider::Ses, Rejection::SignatureVersionNotAllowed),
        (Provider::Ses, Rejection::TopicNotAllowed),
    ]);
    for (provider, rejection) in cases {
        let status = profile(provider).rejection_status(&rejection);
        let of_status = described.get(&status);
        let is_described = of_status.is_some_and(|codes| codes.contains(rejection.code()));
        assert!(is_described, "{provider}: {status} {}", rejection.code());
    }
}
