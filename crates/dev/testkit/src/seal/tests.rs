use aws_lc_rs::signature::{
    ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256,
};
use serde_json::Value;

use super::*;
use crate::Credentials;

const NOW: i64 = 1_795_255_200;

fn header<'s>(sealed: &'s Sealed, name: &str) -> &'s str {
    let found = sealed.headers.iter().find(|(n, _)| n == name);
    found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("{name} in {sealed:?}"))
}

#[test]
fn postal_signs_the_body_with_both_hashes() {
    let key = Credentials::new("").postal;
    let sealed = postal(&key, "k1", "{\"event\":1}\n".into()).unwrap();
    for (name, algorithm) in [
        ("x-postal-signature", &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY),
        ("x-postal-signature-256", &RSA_PKCS1_2048_8192_SHA256),
    ] {
        let signature = STANDARD.decode(header(&sealed, name)).unwrap();
        let public = ParsedPublicKey::new(algorithm, key.public_key().as_ref()).unwrap();
        public.verify_sig(&sealed.body, &signature).unwrap();
        public.verify_sig(&sealed.body[1..], &signature).unwrap_err();
    }
    assert_eq!(header(&sealed, "x-postal-signature-kid"), "k1");
}

#[test]
fn sns_signs_version_1_with_sha_1_and_a_subject_where_there_is_one() {
    let key = Credentials::new("").sns;
    let signer = SnsSigner { key: &key, certificate_url: "https://x.test/", version: 1 };
    let field = |name, value: &str| (name, value.to_owned());
    let fields = [
        field("Type", "Notification"),
        field("TopicArn", "arn:aws:sns:r:1:t"),
        field("Subject", "s"),
        field("Message", "m\n"),
    ];
    let sealed = sns(signer, &fields).unwrap();
    let body: Value = serde_json::from_slice(&sealed.body).unwrap();
    assert_eq!(body["SignatureVersion"], "1");
    let signature = STANDARD.decode(body["Signature"].as_str().unwrap()).unwrap();
    let algorithm = &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY;
    let public = ParsedPublicKey::new(algorithm, key.public_key().as_ref()).unwrap();
    let text = "Message\nm\n\nSubject\ns\nTopicArn\narn:aws:sns:r:1:t\nType\nNotification\n";
    public.verify_sig(text.as_bytes(), &signature).unwrap();
}

#[test]
fn credentials_stand_where_they_are_asked_for() {
    let name_and_value = |how| login(how, "test", "{}".into()).headers.pop().unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(name_and_value(Login::Basic("a:b")), pair("authorization", "Basic YTpi"));
    assert_eq!(name_and_value(Login::Bearer("t")), pair("authorization", "Bearer t"));
    assert_eq!(name_and_value(Login::Header("X-Key", "v")), pair("x-key", "v"));
}

/// Every placeholder of the template, each of the encodings, and a unit.
#[test]
fn generic_signatures_are_of_the_declared_template() {
    let generic = Generic {
        key: b"k",
        hash: Hash::Sha512,
        is_base64: true,
        prefix: "v0=",
        header: "X-Sig",
        signed: "v0:{id}:{timestamp}:{body}",
        timestamp_header: "X-Time",
        is_millis: true,
        id_header: "X-Id",
    };
    let sealed = generic.seal("{\"{body}\":1}".into(), NOW);
    let (id, timestamp) = (header(&sealed, "x-id"), header(&sealed, "x-time"));
    assert_eq!(timestamp, "1795255200000");
    let message = format!("v0:{id}:{timestamp}:{{\"{{body}}\":1}}");
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA512, b"k");
    let tag = STANDARD.decode(header(&sealed, "x-sig").strip_prefix("v0=").unwrap()).unwrap();
    aws_lc_rs::hmac::verify(&key, message.as_bytes(), &tag).unwrap();

    let plain = Generic { signed: "{body}", is_base64: false, ..generic };
    let sealed = plain.seal("b".into(), NOW);
    assert_eq!(sealed.headers.len(), 2, "neither id nor timestamp: {sealed:?}");
    let tag = hex::decode(header(&sealed, "x-sig").strip_prefix("v0=").unwrap()).unwrap();
    aws_lc_rs::hmac::verify(&key, b"b", &tag).unwrap();
}

#[test]
fn standard_webhooks_carry_a_signature_of_every_key() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let keys = [WebhookKey::Hmac(b"one"), WebhookKey::Ed25519(&pair)];
    let sealed = standard_webhooks(&keys, "svix", "{}".into(), NOW);
    let message = format!("{}.{NOW}.{{}}", header(&sealed, "svix-id"));
    let (one, other) = header(&sealed, "svix-signature").split_once(' ').unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"one");
    let tag = STANDARD.decode(one.strip_prefix("v1,").unwrap()).unwrap();
    aws_lc_rs::hmac::verify(&key, message.as_bytes(), &tag).unwrap();
    let signature = STANDARD.decode(other.strip_prefix("v1a,").unwrap()).unwrap();
    let public = ParsedPublicKey::new(&ED25519, pair.public_key().as_ref()).unwrap();
    public.verify_sig(message.as_bytes(), &signature).unwrap();
}

#[test]
fn mailgun_has_an_old_form_too() {
    let fields = [("event", "opened"), ("recipient", "ada@example.com")];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let sealed = mailgun_form(b"key", &fields, NOW);
    let form: Vec<(String, String)> = form_urlencoded::parse(&sealed.body).into_owned().collect();
    assert_eq!(form[..2], fields);
    let value = |name: &str| &form.iter().find(|(n, _)| n == name).unwrap().1;
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"key");
    let message = format!("{NOW}{}", value("token"));
    let tag = hex::decode(value("signature")).unwrap();
    aws_lc_rs::hmac::verify(&key, message.as_bytes(), &tag).unwrap();
}

/// A public vector, where it is at hand.
#[test]
fn mailersend_signs_as_its_own_library_verifies() {
    let path = format!("{}/../../../../shared/vectors/mailersend.json", env!("CARGO_MANIFEST_DIR"));
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let file: Value = serde_json::from_str(&text).unwrap();
    for vector in file["vectors"].as_array().unwrap() {
        let text = |name: &str| vector[name].as_str().unwrap();
        let body = STANDARD.decode(text("body_base64")).unwrap();
        let sealed = mailersend(text("signing_secret").as_bytes(), body.into());
        assert_eq!(header(&sealed, "signature") == text("signature"), vector["expect"] == true);
    }
}
