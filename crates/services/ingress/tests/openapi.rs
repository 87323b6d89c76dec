//! The answers of an ingress are those that `schemas/openapi/ingress.yaml` describes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;

use common::{Ingress, genuine, now_unix};
use event::Provider;
use harness::{Response, http};
use serde_json::{Value, json};
use testkit::{Plan, Traffic};

const WEBHOOKS: &str = "/webhooks/{provider}/{source}";

/// Sources that reject requests.
const SOURCES: &str = r#"
[[source]]
provider = "brevo"
name = "slow"
scheme = "bearer"
secrets = ["the token of this test"]
rate = 1

[[source]]
provider = "brevo"
name = "off"
scheme = "bearer"
secrets = ["the token of this test"]
disabled = true

[[source]]
provider = "postmark"
name = "off"
scheme = "bearer"
secrets = ["the token of this test"]
disabled = true

[[source]]
provider = "postmark"
name = "elsewhere"
allow_ips = ["192.0.2.1/32"]
"#;

/// The description, and which statuses of webhooks were compared with it.
struct Description {
    document: Value,
    seen: BTreeSet<u16>,
}

impl Description {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../schemas/openapi/ingress.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        Self { document: serde_saphyr::from_str(&text).unwrap(), seen: BTreeSet::new() }
    }

    /// Asserts that a response has a status, a content type, headers and a body that are described.
    fn check(&mut self, path: &str, method: &str, response: &Response) {
        let what = format!("{method} {path}: {}", response.text);
        let described = &self.document["paths"][path][method]["responses"];
        let described = &described[response.status.to_string()];
        assert!(described.is_object(), "the status is not described: {what}");
        let described = match described["$ref"].as_str() {
            Some(reference) => self.document.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
            None => described,
        };
        for (name, header) in described["headers"].as_object().into_iter().flatten() {
            let header = match header["$ref"].as_str() {
                Some(reference) => {
                    self.document.pointer(reference.strip_prefix('#').unwrap()).unwrap()
                }
                None => header,
            };
            let is_there = response.header(name).is_some();
            assert!(is_there || header["required"] != true, "{name} is missing: {what}");
        }
        if method != "head" {
            let content_type = response.header("content-type").unwrap_or_default();
            let content = &described["content"][&content_type];
            assert!(content.is_object(), "{content_type} is not described: {what}");
            if content_type.contains("json") {
                let schema = json!({
                    "allOf": [content["schema"]],
                    "components": self.document["components"],
                });
                let validator = jsonschema::validator_for(&schema).unwrap();
                let body = response.json();
                let errors: Vec<_> =
                    validator.iter_errors(&body).map(|it| it.to_string()).collect();
                assert!(errors.is_empty(), "{errors:?}: {what}");
            }
        }
        if path == WEBHOOKS {
            self.seen.insert(response.status);
        }
    }
}

#[test]
fn answers_are_described() {
    let mut description = Description::read();
    let ingress = Ingress::start_with(SOURCES);
    let mut post = |response: Response| description.check(WEBHOOKS, "post", &response);
    let sources = testkit::SOURCES.map(|(provider, name)| (provider, name.to_owned())).to_vec();
    let plan = Plan { sources, ..Plan::small(&ingress.credentials, now_unix()) };
    let impostor = Plan { credentials: ingress.credentials.impostor(), ..plan.clone() };
    for traffic in [Traffic::new(1, plan), Traffic::new(1, impostor)] {
        for (provider, source) in testkit::SOURCES {
            let path = format!("/webhooks/{provider}/{source}");
            post(ingress.post(&traffic.requests().find(|it| it.path == path).unwrap()));
        }
    }
    let genuine = genuine(&ingress, Provider::Postmark);
    let path = genuine.path.as_str();
    let send = |headers: &[(&str, &str)], body: &[u8]| {
        let mut all = genuine.headers.clone();
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        ingress.send("POST", path, &all, body)
    };
    post(send(&[], b"not json"));
    post(send(&[("content-encoding", "br")], &genuine.body));
    post(send(&[("content-encoding", "gzip")], &genuine.body));
    post(send(&[], &vec![b' '; (16 << 20) + 1]));
    post(ingress.post_body(path, &[], &genuine.body));
    post(ingress.post_body("/webhooks/postmark/nobody", &[], b"{}"));
    let token = [("authorization", "Bearer the token of this test")];
    for source in ["brevo/off", "postmark/off", "postmark/elsewhere"] {
        post(ingress.post_body(&format!("/webhooks/{source}"), &token, b"{}"));
    }
    let event = br#"{"event":"delivered","email":"ada@example.com","message-id":"m","ts_epoch":1}"#;
    for _ in 0..5 {
        post(ingress.post_body("/webhooks/brevo/slow", &token, event));
    }
    let get = ingress.send("GET", path, &[], b"");
    description.check(WEBHOOKS, "get", &get);
    for path in ["/webhooks/mandrill/city-press", "/webhooks/nobody/x"] {
        description.check(WEBHOOKS, "head", &ingress.send("HEAD", path, &[], b""));
    }
    for path in ["/livez", "/readyz", "/health", "/metrics"] {
        description.check(path, "get", &ingress.service.get(path).unwrap());
        let posted = http::send(ingress.service.admin(), "POST", path, &[], b"").unwrap();
        description.check(path, "get", &posted);
    }
    // 408 takes the time of `ingress.read_timeout`; `bodies.rs` waits for it.
    let expected = [200, 400, 401, 403, 404, 405, 406, 413, 415, 429, 503];
    assert_eq!(description.seen, BTreeSet::from(expected));
}
