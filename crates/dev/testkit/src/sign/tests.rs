use std::collections::HashMap;

use aws_lc_rs::hmac as other_hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
};
use event::Kind;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::signers::Hash;

const NOW: i64 = 1_795_255_200;

fn credentials() -> Credentials {
    Credentials::new("https://hooks.example.com/")
}

fn json_of(request: &SignedRequest) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

#[test]
fn sendgrid_signs_timestamp_and_body_as_der() {
    let credentials = credentials();
    let events = [json!({"event": "processed", "smtp-id": "<1@x>"}), json!({"event": "bounce"})];
    let request = sendgrid(&credentials, "acme", &events, NOW);
    assert_eq!(request.path, "/webhooks/sendgrid/acme");
    assert_eq!(
        std::str::from_utf8(&request.body).unwrap(),
        "[{\"event\":\"processed\",\"smtp-id\":\"\\u003c1@x\\u003e\"},\r\n{\"event\":\"bounce\"}]\r\n"
    );
    let timestamp = request.header("x-twilio-email-event-webhook-timestamp").unwrap();
    let signature = request.header("x-twilio-email-event-webhook-signature").unwrap();
    let signature = STANDARD.decode(signature).unwrap();
    assert_eq!(signature[0], 0x30, "a DER sequence");
    let spki = STANDARD.decode(credentials.sendgrid_public_key()).unwrap();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, spki);
    let message = [timestamp.as_bytes(), &request.body].concat();
    key.verify(&message, &signature).unwrap();
    key.verify(&request.body, &signature).unwrap_err();
}

#[test]
fn mailgun_signs_timestamp_and_token_and_a_retry_is_equal() {
    let event = json!({"event": "opened", "id": "1"});
    let request = mailgun(&credentials(), "blue-shop", &event, NOW);
    let body = json_of(&request);
    let text = |name: &str| body["signature"][name].as_str().unwrap();
    assert_eq!(text("token").len(), 50);
    let key =
        other_hmac::Key::new(other_hmac::HMAC_SHA256, credentials().mailgun_signing_key.as_bytes());
    let message = format!("{}{}", text("timestamp"), text("token"));
    other_hmac::verify(&key, message.as_bytes(), &hex::decode(text("signature")).unwrap()).unwrap();
    assert_eq!(body["event-data"], event);
    assert_eq!(request, mailgun(&credentials(), "blue-shop", &event, NOW));
}

#[test]
fn postmark_has_basic_authentication() {
    let request = postmark(&credentials(), "receipts", &json!({"RecordType": "Open"}));
    let (scheme, login) = request.header("authorization").unwrap().split_once(' ').unwrap();
    assert_eq!(scheme, "Basic");
    assert_eq!(STANDARD.decode(login).unwrap(), credentials().postmark_login.as_bytes());
}

#[test]
fn sns_signs_the_unescaped_fields() {
    let credentials = credentials();
    let record = json!({"eventType": "Send", "subject": "a \"quoted\" line"});
    let request = ses(&credentials, "news", &record, NOW);
    let fields: HashMap<String, String> = serde_json::from_slice(&request.body).unwrap();
    assert!(fields["Message"].ends_with("}\n"));
    assert_eq!(fields["SignatureVersion"], "2");
    let canonical = format!(
        "Message\n{}\nMessageId\n{}\nTimestamp\n{}\nTopicArn\n{}\nType\nNotification\n",
        fields["Message"], fields["MessageId"], fields["Timestamp"], fields["TopicArn"],
    );
    let verify = |text: &str| {
        let key = credentials.sns.public_key().as_ref();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
            .verify(text.as_bytes(), &STANDARD.decode(&fields["Signature"]).unwrap())
    };
    verify(&canonical).unwrap();
    verify(canonical.trim_end()).unwrap_err();
    assert_eq!(request, ses(&credentials, "news", &record, NOW), "a retry is the same bytes");
}

#[test]
fn sns_confirmations_sign_url_and_token() {
    let credentials = credentials();
    let request = ses_subscription_confirmation(&credentials, "news", NOW);
    let fields: HashMap<String, String> = serde_json::from_slice(&request.body).unwrap();
    let names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];
    let canonical: String = names.map(|name| format!("{name}\n{}\n", fields[name])).concat();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, credentials.sns.public_key().as_ref())
        .verify(canonical.as_bytes(), &STANDARD.decode(&fields["Signature"]).unwrap())
        .unwrap();
    assert_eq!(request.header("x-amz-sns-message-type"), Some("SubscriptionConfirmation"));
}

#[test]
fn the_certificate_has_the_signing_key() {
    let credentials = credentials();
    let base64: String = credentials
        .sns_certificate_pem()
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let der = STANDARD.decode(base64).unwrap();
    let key = credentials.sns.public_key().as_ref();
    assert!(der.windows(key.len()).any(|window| window == key));

    let dir = std::env::temp_dir().join(format!("testkit-certificates-{}", std::process::id()));
    credentials.write_certificates(&dir).unwrap();
    let name = "SimpleNotificationService-7e577e577e577e577e577e577e577e57.pem";
    let written = std::fs::read_to_string(dir.join(name)).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(written, credentials.sns_certificate_pem());
}

#[test]
fn mandrill_signs_the_configured_url_and_the_decoded_value() {
    let request = mandrill(&credentials(), "city-press", &[json!({"url": "https://x.test/a b"})]);
    let fields: Vec<(String, String)> =
        form_urlencoded::parse(&request.body).into_owned().collect();
    let [(name, value)] = fields.as_slice() else { panic!("one field") };
    assert_eq!(value, r#"[{"url":"https:\/\/x.test\/a b"}]"#);
    let message = format!("https://hooks.example.com/webhooks/mandrill/city-press{name}{value}");
    let key = other_hmac::Key::new(
        other_hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        credentials().mandrill_webhook_key.as_bytes(),
    );
    let signature = STANDARD.decode(request.header("x-mandrill-signature").unwrap()).unwrap();
    other_hmac::verify(&key, message.as_bytes(), &signature).unwrap();
    assert!(mandrill(&credentials(), "x", &[]).body.starts_with(b"mandrill_events=%5B%5D"));
}

#[test]
fn generic_signs_body_with_or_without_timestamp() {
    let key =
        other_hmac::Key::new(other_hmac::HMAC_SHA256, credentials().generic_secret().as_bytes());
    for (source, prefix) in [("inhouse", format!("{NOW}.")), (BODY_ONLY_SOURCE, String::new())] {
        let request = generic(&credentials(), source, &[json!({"id": "1"})], NOW);
        let signature = request.header("x-mailpulse-signature").unwrap();
        let signature = hex::decode(signature.strip_prefix("sha256=").unwrap()).unwrap();
        let message = [prefix.as_bytes(), &request.body].concat();
        other_hmac::verify(&key, &message, &signature).unwrap();
    }
}

/// Reproduces the signatures with which the providers' own libraries are tested.
#[test]
#[ignore = "needs ../shared"]
fn shared_vectors_are_reproduced() {
    let vectors = |name: &str| -> Vec<Value> {
        let path = format!("{}/../../../../shared/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        let all = file["vectors"].as_array().unwrap().iter().cloned();
        all.filter(|vector| vector["expect"] == true).collect()
    };
    for vector in vectors("mailgun") {
        let (Some(key), Some(token)) = (vector["signing_key"].as_str(), vector["token"].as_str())
        else {
            continue;
        };
        let timestamp = vector["timestamp"].as_str().unwrap();
        let parts = [timestamp.as_bytes(), token.as_bytes()];
        assert_eq!(hex::encode(Hash::Sha256.hmac(key.as_bytes(), &parts)), vector["signature"]);
    }
    for vector in vectors("mandrill") {
        let text = |name: &str| vector[name].as_str().unwrap();
        let value = vector["form"]["mandrill_events"].as_str().unwrap();
        let signed_body = signers::mandrill(text("webhook_key").as_bytes(), text("url"), value);
        let found = signed_body.headers.iter().find(|(name, _)| name == "x-mandrill-signature");
        assert_eq!(found.unwrap().1, text("signature"));
    }
}

#[test]
fn the_impostors_signatures_differ() {
    let (genuine, impostor) = (credentials(), credentials().impostor());
    for (provider, source) in crate::SOURCES {
        let event = MailEvent::new(provider, source, Kind::Delivered, "ada@example.com", 1);
        let sign = |credentials| events(credentials, std::slice::from_ref(&event), NOW);
        assert_eq!(sign(&genuine).len(), 1, "{provider}");
        assert_ne!(sign(&genuine), sign(&impostor), "{provider}");
        let malformed = malformed(&genuine, provider, source, 1, NOW);
        assert_eq!(malformed.path, sign(&genuine)[0].path);
    }
}

#[test]
fn the_configuration_contains_every_source() {
    let toml = credentials().sources_toml();
    assert_eq!(toml.matches("[[source]]").count(), crate::SOURCES.len());
    assert!(
        toml.contains("public_url = \"https://hooks.example.com/webhooks/mandrill/city-press\"")
    );
    assert!(toml.contains("topics = [\"arn:aws:sns:eu-west-1:123456789012:mail-events\"]"));
    let legacy = credentials().source_toml(Provider::Generic, BODY_ONLY_SOURCE);
    assert!(legacy.ends_with("signed = \"body\"\n"), "no tolerance without a signed time");
    assert!(toml.contains("name = \"legacy\"\nsecrets = [\"testkit-generic-8d2f6f5e3c\"]"));
}
