//! Signature vectors as captured requests: those that the crate `providers` has, made with our own keys,
//! and those that providers have published, in `../shared` beside the repository.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tool;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tool::{Tool, shared};

/// Verifies every committed vector with the settings of its source, and expects its key or its code.
#[test]
fn own_vectors_get_the_expected_verdict() {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../libraries/providers/tests/vectors");
    let mut verified = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let document: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for source in document["sources"].as_array().unwrap() {
            for vector in source["vectors"].as_array().unwrap() {
                verified += usize::from(check_own(text(&document, "provider"), source, vector));
            }
        }
    }
    assert!(verified > 80, "only {verified} vectors were found");
}

/// Returns the settings of a vector's source; `None` if the tool cannot verify the vector. The ingress
/// fetches certificates and checks them; the tool uses the one it is given.
fn settings(provider: &str, source: &Value, vector: &Value) -> Option<Value> {
    let mut secrets = source["secrets"].as_array().unwrap().clone();
    if let Some(certificates) = source.get("certificates") {
        let message: Value = serde_json::from_str(text(vector, "body")).unwrap();
        let certificate = certificates.get(text(&message, "SigningCertURL"))?;
        if vector["expect"]["code"].as_str().is_some_and(|code| code.contains("certificate")) {
            return None;
        }
        secrets.push(certificate.clone());
    }
    let mut table = source["options"].as_object().unwrap().clone();
    table.insert("provider".into(), provider.into());
    table.insert("name".into(), "vectors".into());
    table.insert("secrets".into(), secrets.into());
    Some(json!({ "source": [table] }))
}

/// Verifies a vector, and returns whether the tool can do that.
fn check_own(provider: &str, source: &Value, vector: &Value) -> bool {
    let Some(settings) = settings(provider, source, vector) else { return false };
    let tool = Tool::new();
    tool.write("sources.toml", toml::to_string(&settings).unwrap());
    let headers = vector["headers"].as_object().unwrap();
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
    tool.write("request.http", request(provider, headers, text(vector, "body").as_bytes()));
    let output = tool.run(&[
        "verify",
        "--provider",
        provider,
        "--source",
        "vectors",
        "--config",
        "sources.toml",
        "--at",
        &vector["now"].to_string(),
        "--json",
        "request.http",
    ]);
    let report: Value = serde_json::from_str(&output.text)
        .unwrap_or_else(|error| panic!("{error}: {provider} {}: {output:?}", vector["name"]));
    let expected = &vector["expect"];
    let context = format!("{provider}, {}: {output:?}", vector["name"]);
    if let Some(code) = expected["code"].as_str() {
        assert_eq!((output.code, &report["code"]), (1, &code.into()), "{context}");
    } else {
        assert_eq!((output.code, &report["verdict"]), (0, &"authentic".into()), "{context}");
        if source.get("certificates").is_none() {
            assert_eq!(report["key"], expected["key"], "{context}");
        }
    }
    true
}

fn request<'h>(
    provider: &str,
    headers: impl Iterator<Item = (&'h str, &'h str)>,
    body: &[u8],
) -> Vec<u8> {
    let mut head = format!("POST /webhooks/{provider} HTTP/1.1\nHost: hooks.example.com\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\n");
    }
    head.push('\n');
    [head.as_bytes(), body].concat()
}

fn shared_vectors(file: &str) -> Vec<Value> {
    let path = shared(&format!("vectors/{file}.json"));
    let document: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let certificates = &document["certs"];
    let mut vectors = document["vectors"].as_array().unwrap().clone();
    assert!(!vectors.is_empty());
    for vector in &mut vectors {
        let name = vector["cert"].as_str().unwrap_or_default().to_owned();
        vector["pem"] = certificates[name]["pem"].clone();
    }
    vectors
}

fn text<'v>(vector: &'v Value, key: &str) -> &'v str {
    vector[key].as_str().unwrap_or_else(|| panic!("{key} in {vector}"))
}

/// Verifies a vector as a request, and expects its result.
fn check(
    provider: &str,
    vector: &Value,
    secret: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    more: &[&str],
) {
    let tool = Tool::new();
    // Editors end a file with a line break, which is not part of the secret.
    tool.write("secret.txt", format!("{secret}\n"));
    tool.write("request.http", request(provider, headers.iter().copied(), body));
    let common = ["verify", "--provider", provider, "--secret-file", "secret.txt", "request.http"];
    let output = tool.run(&[&common[..], more].concat());
    let expected = i32::from(vector["expect"] != true);
    assert_eq!(output.code, expected, "{provider} {}: {output:?}", text(vector, "name"));
}

#[test]
#[ignore = "needs ../shared"]
fn shared_sendgrid_vectors() {
    for vector in shared_vectors("sendgrid") {
        let (timestamp, signature) = (text(&vector, "timestamp"), text(&vector, "signature"));
        let headers = [
            ("X-Twilio-Email-Event-Webhook-Signature", signature),
            ("X-Twilio-Email-Event-Webhook-Timestamp", timestamp),
        ];
        let body = STANDARD.decode(text(&vector, "body_base64")).unwrap();
        let at = if timestamp.parse::<i64>().is_ok() { timestamp } else { "0" };
        check("sendgrid", &vector, text(&vector, "public_key"), &headers, &body, &["--at", at]);
    }
}

#[test]
#[ignore = "needs ../shared"]
fn shared_mailgun_vectors() {
    for vector in shared_vectors("mailgun") {
        let block = ["timestamp", "token", "signature"].map(|name| (name, vector[name].clone()));
        let block: Value =
            block.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let body = json!({"signature": block, "event-data": {"event": "x"}}).to_string();
        let at = ["--at", text(&vector, "timestamp")];
        check("mailgun", &vector, text(&vector, "signing_key"), &[], body.as_bytes(), &at);
    }
}

#[test]
#[ignore = "needs ../shared"]
fn shared_mandrill_vectors() {
    for vector in shared_vectors("mandrill") {
        let headers = [("X-Mandrill-Signature", text(&vector, "signature"))];
        let body = text(&vector, "form_body").as_bytes();
        let url = ["--url", text(&vector, "url")];
        check("mandrill", &vector, text(&vector, "webhook_key"), &headers, body, &url);
    }
}

/// The certificates have expired; the tool accepts those it is given.
#[test]
#[ignore = "needs ../shared"]
fn shared_sns_vectors() {
    for vector in shared_vectors("sns") {
        let body = vector["message"].to_string();
        check("ses", &vector, text(&vector, "pem"), &[], body.as_bytes(), &[]);
    }
}

#[test]
#[ignore = "needs ../shared"]
fn shared_standard_webhooks_vectors() {
    for vector in shared_vectors("standardwebhooks") {
        let body = STANDARD.decode(text(&vector, "body_base64")).unwrap();
        let at = ["--at", text(&vector, "timestamp")];
        for (provider, prefix) in [("standardwebhooks", "webhook"), ("resend", "svix")] {
            if provider == "resend" && text(&vector, "secret").starts_with("whpk_") {
                continue;
            }
            let names = ["id", "timestamp", "signature"].map(|name| format!("{prefix}-{name}"));
            let values = ["id", "timestamp", "signature"].map(|name| text(&vector, name));
            let headers: Vec<_> = names.iter().map(String::as_str).zip(values).collect();
            check(provider, &vector, text(&vector, "secret"), &headers, &body, &at);
        }
    }
}

#[test]
#[ignore = "needs ../shared"]
fn shared_mailersend_vectors() {
    for vector in shared_vectors("mailersend") {
        let headers = [("Signature", text(&vector, "signature"))];
        let body = STANDARD.decode(text(&vector, "body_base64")).unwrap();
        check("mailersend", &vector, text(&vector, "signing_secret"), &headers, &body, &[]);
    }
}

#[test]
#[ignore = "needs ../shared"]
fn shared_generic_vectors() {
    for vector in shared_vectors("generic_hmac") {
        let signature = text(&vector, "signature");
        let prefix = signature.split_once('=').map_or("", |(name, _)| name);
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}=") };
        let body = hex::decode(text(&vector, "signed_hex")).unwrap();
        let more = [
            "--algorithm",
            text(&vector, "alg"),
            "--secret-encoding",
            "hex",
            "--signed",
            "{body}",
            "--header",
            "X-Signature",
            "--prefix",
            &prefix,
        ];
        let headers = [("X-Signature", signature)];
        check("generic", &vector, text(&vector, "key_hex"), &headers, &body, &more);
    }
}
