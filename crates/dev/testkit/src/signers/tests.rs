use aws_lc_rs::signature::{
    ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256,
};
use serde_json::Value;

use super::*;
use crate::Credentials;

const NOW: i64 = 1_795_255_200;

fn header<'s>(signed_body: &'s SignedBody, name: &str) -> &'s str {
    let found = signed_body.headers.iter().find(|(n, _)| n == name);
    found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("{name} in {signed_body:?}"))
}

#[test]
fn postal_signs_the_body_with_both_hashes() {
    let key = Credentials::new("").postal;
    let signed_body = postal(&key, "k1", "{\"event\":1}\n".into()).unwrap();
    for (name, algorithm) in [
        ("x-postal-signature", &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY),
        ("x-postal-signature-256", &RSA_PKCS1_2048_8192_SHA256),
    ] {
        let signature = STANDARD.decode(header(&signed_body, name)).unwrap();
        let public = ParsedPublicKey::new(algorithm, key.public_key().as_ref()).unwrap();
        public.verify_sig(&signed_body.body, &signature).unwrap();
        public.verify_sig(&signed_body.body[1..], &signature).unwrap_err();
    }
    assert_eq!(header(&signed_body, "x-postal-signature-kid"), "k1");
}

#[test]
fn sns_signs_version_1_with_sha_1_and_a_subject_if_present() {
    let key = Credentials::new("").sns;
    let signer = SnsSigner { key: &key, certificate_url: "https://x.test/", version: 1 };
    let field = |name, value: &str| (name, value.to_owned());
    let fields = [
        field("Type", "Notification"),
        field("TopicArn", "arn:aws:sns:r:1:t"),
        field("Subject", "s"),
        field("Message", "m\n"),
    ];
    let signed_body = sns(signer, &fields).unwrap();
    let body: Value = serde_json::from_slice(&signed_body.body).unwrap();
    assert_eq!(body["SignatureVersion"], "1");
    let signature = STANDARD.decode(body["Signature"].as_str().unwrap()).unwrap();
    let algorithm = &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY;
    let public = ParsedPublicKey::new(algorithm, key.public_key().as_ref()).unwrap();
    let text = "Message\nm\n\nSubject\ns\nTopicArn\narn:aws:sns:r:1:t\nType\nNotification\n";
    public.verify_sig(text.as_bytes(), &signature).unwrap();
}

#[test]
fn credentials_are_in_the_chosen_header() {
    let name_and_value = |how| login(how, "test", "{}".into()).headers.pop().unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(name_and_value(Login::Basic("a:b")), pair("authorization", "Basic YTpi"));
    assert_eq!(name_and_value(Login::Bearer("t")), pair("authorization", "Bearer t"));
    assert_eq!(name_and_value(Login::Header("X-Key", "v")), pair("x-key", "v"));
}

/// Uses every placeholder of the template, both encodings and milliseconds.
#[test]
fn generic_signatures_follow_the_template() {
    let generic = GenericScheme {
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
    let signed_body = generic.sign("{\"{body}\":1}".into(), NOW);
    let (id, timestamp) = (header(&signed_body, "x-id"), header(&signed_body, "x-time"));
    assert_eq!(timestamp, "1795255200000");
    let message = format!("v0:{id}:{timestamp}:{{\"{{body}}\":1}}");
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA512, b"k");
    let tag = STANDARD.decode(header(&signed_body, "x-sig").strip_prefix("v0=").unwrap()).unwrap();
    aws_lc_rs::hmac::verify(&key, message.as_bytes(), &tag).unwrap();

    let plain = GenericScheme { signed: "{body}", is_base64: false, ..generic };
    let signed_body = plain.sign("b".into(), NOW);
    assert_eq!(signed_body.headers.len(), 2, "neither id nor timestamp: {signed_body:?}");
    let tag = hex::decode(header(&signed_body, "x-sig").strip_prefix("v0=").unwrap()).unwrap();
    aws_lc_rs::hmac::verify(&key, b"b", &tag).unwrap();
}

#[test]
fn standard_webhooks_have_a_signature_of_every_key() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let keys = [WebhookKey::Hmac(b"one"), WebhookKey::Ed25519(&pair)];
    let signed_body = standard_webhooks(&keys, "svix", "{}".into(), NOW);
    let message = format!("{}.{NOW}.{{}}", header(&signed_body, "svix-id"));
    let (one, other) = header(&signed_body, "svix-signature").split_once(' ').unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"one");
    let tag = STANDARD.decode(one.strip_prefix("v1,").unwrap()).unwrap();
    aws_lc_rs::hmac::verify(&key, message.as_bytes(), &tag).unwrap();
    let signature = STANDARD.decode(other.strip_prefix("v1a,").unwrap()).unwrap();
    let public = ParsedPublicKey::new(&ED25519, pair.public_key().as_ref()).unwrap();
    public.verify_sig(message.as_bytes(), &signature).unwrap();
}

#[test]
fn mailgun_signs_the_format_from_before_2018() {
    let fields = [("event", "opened"), ("recipient", "ada@example.com")];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let signed_body = mailgun_form(b"key", &fields, NOW);
    let form: Vec<(String, String)> =
        form_urlencoded::parse(&signed_body.body).into_owned().collect();
    assert_eq!(form[..2], fields);
    let value = |name: &str| &form.iter().find(|(n, _)| n == name).unwrap().1;
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"key");
    let message = format!("{NOW}{}", value("token"));
    let tag = hex::decode(value("signature")).unwrap();
    aws_lc_rs::hmac::verify(&key, message.as_bytes(), &tag).unwrap();
}

/// Compares with public vectors.
#[test]
#[ignore = "needs ../shared"]
fn shared_mailersend_vectors() {
    let path = format!("{}/../../../../shared/vectors/mailersend.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    for vector in file["vectors"].as_array().unwrap() {
        let text = |name: &str| vector[name].as_str().unwrap();
        let body = STANDARD.decode(text("body_base64")).unwrap();
        let signed_body = mailersend(text("signing_secret").as_bytes(), body.into());
        assert_eq!(
            header(&signed_body, "signature") == text("signature"),
            vector["expect"] == true
        );
    }
}
