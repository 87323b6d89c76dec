//! Public signature vectors as captured requests, where they are at hand beside the repository.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tool;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tool::{Tool, shared};

fn vectors(file: &str) -> Vec<Value> {
    let Some(path) = shared(&format!("vectors/{file}.json")) else { return Vec::new() };
    let document: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let certificates = &document["certs"];
    let mut vectors = document["vectors"].as_array().unwrap().clone();
    for vector in &mut vectors {
        let name = vector["cert"].as_str().unwrap_or_default().to_owned();
        vector["pem"] = certificates[name]["pem"].clone();
    }
    vectors
}

fn text<'v>(vector: &'v Value, key: &str) -> &'v str {
    vector[key].as_str().unwrap_or_else(|| panic!("{key} in {vector}"))
}

/// Verifies a vector as a request, and demands its answer.
fn check(
    provider: &str,
    vector: &Value,
    secret: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    more: &[&str],
) {
    let tool = Tool::new();
    // Editors end a file with a line end; it is not the secret's.
    tool.write("secret.txt", format!("{secret}\n"));
    let mut request = format!("POST /webhooks/{provider} HTTP/1.1\nHost: hooks.example.com\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\n");
    }
    request.push('\n');
    tool.write("request.http", [request.as_bytes(), body].concat());
    let common = ["verify", "--provider", provider, "--secret-file", "secret.txt", "request.http"];
    let said = tool.run(&[&common[..], more].concat());
    let expected = i32::from(vector["expect"] != true);
    assert_eq!(said.code, expected, "{provider} {}: {said:?}", text(vector, "name"));
}

#[test]
fn sendgrid() {
    for vector in vectors("sendgrid") {
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
fn mailgun() {
    for vector in vectors("mailgun") {
        let block = ["timestamp", "token", "signature"].map(|name| (name, vector[name].clone()));
        let block: Value =
            block.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let body = json!({"signature": block, "event-data": {"event": "x"}}).to_string();
        let at = ["--at", text(&vector, "timestamp")];
        check("mailgun", &vector, text(&vector, "signing_key"), &[], body.as_bytes(), &at);
    }
}

#[test]
fn mandrill() {
    for vector in vectors("mandrill") {
        let headers = [("X-Mandrill-Signature", text(&vector, "signature"))];
        let body = text(&vector, "form_body").as_bytes();
        let url = ["--url", text(&vector, "url")];
        check("mandrill", &vector, text(&vector, "webhook_key"), &headers, body, &url);
    }
}

/// The certificates have expired: those that are given are taken all the same.
#[test]
fn sns() {
    for vector in vectors("sns") {
        let body = vector["message"].to_string();
        check("ses", &vector, text(&vector, "pem"), &[], body.as_bytes(), &[]);
    }
}

#[test]
fn standard_webhooks() {
    for vector in vectors("standardwebhooks") {
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
fn mailersend() {
    for vector in vectors("mailersend") {
        let headers = [("Signature", text(&vector, "signature"))];
        let body = STANDARD.decode(text(&vector, "body_base64")).unwrap();
        check("mailersend", &vector, text(&vector, "signing_secret"), &headers, &body, &[]);
    }
}

#[test]
fn generic() {
    for vector in vectors("generic_hmac") {
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
