//! What individual schemes accept and reject, beyond the rules that apply to all of them.

use aws_lc_rs::signature::Ed25519KeyPair;

use super::*;

/// Mailgun's form before 2018.
pub(super) fn mailgun_form(key: &str, timestamp: i64) -> Sent {
    let signature = mailgun_signature(key, timestamp);
    let field = |name: &str| signature[name].as_str().unwrap().to_owned();
    let body = form_urlencoded::Serializer::new(String::new())
        // A variable of the sender with the name of one of Mailgun's fields.
        .append_pair("token", "theirs")
        .append_pair("event", "opened")
        .append_pair("recipient", "ada@example.com")
        .append_pair("timestamp", &field("timestamp"))
        .append_pair("token", &field("token"))
        .append_pair("signature", &field("signature"))
        .finish();
    Sent { body: body.into_bytes(), ..Sent::default() }
}

/// True if two Mailgun bodies are split into the same events.
pub(super) fn same_event(one: &[u8], other: &[u8]) -> bool {
    let raw = |body: &[u8]| {
        let split = crate::split(Provider::Mailgun, body)?;
        Ok::<_, crate::SplitError>(
            split.events().map(|event| event.raw.to_vec()).collect::<Vec<_>>(),
        )
    };
    // Two forms may differ in the order of their fields, which their objects do not keep.
    let fields = |body: &[u8]| -> Vec<_> {
        let is_json = body.starts_with(b"{");
        let fields = crate::form::fields(body).filter(|_| !is_json);
        fields.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    };
    raw(one) == raw(other) && fields(one) == fields(other)
}

#[test]
fn mailguns_form_is_verified_by_its_last_fields() {
    let source = authenticator(Provider::Mailgun, &["other", "key"], json!({}));
    let verified = mailgun_form("key", NOW).verified(&source, NOW).unwrap();
    assert_eq!(verified.key, Some(1));
    assert_eq!(mailgun_form("third", NOW).verify(&source, NOW), Err(Rejection::WrongSignature));
    let none = Sent { body: b"event=opened&timestamp=1&token=a".to_vec(), ..Sent::default() };
    assert_eq!(none.verify(&source, NOW), Err(Rejection::MissingSignature));

    let form = mailgun_form("key", NOW);
    let mut multipart = String::new();
    for (name, value) in form_urlencoded::parse(&form.body) {
        let name = format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"");
        multipart.push_str(&format!("{name}\r\n\r\n{value}\r\n"));
    }
    let multipart = Sent { body: format!("{multipart}--b--\r\n").into(), ..Sent::default() };
    let again = multipart.verified(&source, NOW).unwrap();
    assert_eq!(again, verified, "the same fields are the same event");
}

#[test]
fn mailguns_token_is_good_for_one_event() {
    let source = authenticator(Provider::Mailgun, &["key"], json!({}));
    let signature = mailgun_signature("key", NOW - 60);
    let token = |event: &str| {
        let body = format!(r#"{{"signature":{signature},"event-data":{event}}}"#);
        let sent = Sent { body: body.into_bytes(), ..Sent::default() };
        sent.verified(&source, NOW).unwrap().single_use.unwrap()
    };
    let (first, retry, replay) = (
        token(r#"{"event":"opened"}"#),
        token(r#"{"event":"opened"}"#),
        token(r#"{"event":"clicked"}"#),
    );
    assert_eq!(first, retry);
    assert_eq!(first.token, replay.token);
    assert_ne!(first.content, replay.content);
    assert_eq!(first.expires_at, NOW - 60 + 9 * 3600);
    assert!(mailgun(&signature).verify(&source, first.expires_at).is_ok());
    assert!(mailgun(&signature).verify(&source, first.expires_at + 1).is_err());
}

#[test]
fn standard_webhooks_take_any_good_signature_of_the_header() {
    let source = authenticator(Provider::StandardWebhooks, &["whsec_b3RoZXI", "a2V5"], json!({}));
    for names in [SPECIFIED, SVIX] {
        assert_eq!(standard_webhooks(names, NOW).verified(&source, NOW), Ok(Verified::by(1)));
        let rejection = standard_webhooks(names, NOW - 301).verify(&source, NOW);
        assert_eq!(rejection, Err(Rejection::Stale { skew_seconds: 301 }));
    }
    let with = |header: &str| {
        let mut sent = standard_webhooks(SPECIFIED, NOW);
        let good = String::from_utf8(sent.headers[2].1.clone()).unwrap();
        sent.headers[2].1 = header.replace("GOOD", &good).into_bytes();
        sent.verify(&source, NOW).map_err(|rejection| rejection.code())
    };
    assert_eq!(with("v1,AAAA v2,BBBB GOOD"), Ok(()));
    assert_eq!(with("v1,AAAA"), Err("wrong_signature"));
    for none in ["", "v2,AAAA", "AAAA", "v1,?"] {
        assert_eq!(with(none), Err("malformed_signature"), "{none}");
    }
}

#[test]
fn standard_webhooks_with_a_public_key() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let public = format!("whpk_{}", STANDARD.encode(pair.public_key().as_ref()));
    let source = authenticator(Provider::StandardWebhooks, &[WHSEC, &public], json!({}));
    let mut sent = standard_webhooks(SPECIFIED, NOW);
    let message = [b"msg_1.", NOW.to_string().as_bytes(), b".", BODY].concat();
    let signature = STANDARD.encode(pair.sign(&message));
    sent.headers[2].1 = format!("v1a,{signature}").into_bytes();
    assert_eq!(sent.verified(&source, NOW), Ok(Verified::by(1)));
    // One scheme's signature is not the other's.
    sent.headers[2].1 = format!("v1,{signature}").into_bytes();
    assert_eq!(sent.verify(&source, NOW), Err(Rejection::WrongSignature));
}

#[test]
fn postals_better_signature_decides() {
    let source = authenticator(Provider::Postal, &[POSTAL_KEY], json!({}));
    let bad = ("x-postal-signature-256", POSTAL_SHA1.1);
    for (signatures, verdict) in [
        (&[POSTAL_SHA256, POSTAL_SHA1][..], Ok(Verified::by(0))),
        (&[POSTAL_SHA1], Ok(Verified::by(0))),
        (&[POSTAL_SHA256], Ok(Verified::by(0))),
        (&[bad, POSTAL_SHA1], Err(Rejection::WrongSignature)),
        (&[], Err(Rejection::MissingSignature)),
    ] {
        assert_eq!(postal(signatures).verified(&source, NOW), verdict);
    }
    let one_line: String = POSTAL_KEY.lines().filter(|line| !line.starts_with('-')).collect();
    let source = authenticator(Provider::Postal, &[&one_line], json!({}));
    assert!(postal(&[POSTAL_SHA256]).verify(&source, NOW).is_ok());
}

#[test]
fn a_generic_sender_says_what_it_signs() {
    let sign =
        |parts: &[&[u8]]| format!("v0={}", hex::encode(tag::<Hmac<sha2::Sha256>>("key", parts)));
    let millis = format!("{}", NOW * 1_000 - 250);
    let cases = [
        ("v0:{timestamp}:{body}", sign(&[b"v0:", millis.as_bytes(), b":", BODY])),
        ("{id}.{timestamp}.{body}", sign(&[b"i-1.", millis.as_bytes(), b".", BODY])),
        ("{timestamp}.{body}", sign(&[millis.as_bytes(), b".", BODY])),
    ];
    for (template, signature) in &cases {
        let mut options = json!({
            "header": "x-signature", "timestamp_header": "x-time",
            "timestamp_unit": "milliseconds", "prefix": "v0=", "signed": template,
        });
        if template.contains("{id}") {
            options["id_header"] = "x-id".into();
        }
        let source = authenticator(Provider::Generic, &["key"], options);
        for (other, signature_of_other) in &cases {
            let headers = vec![
                ("x-id", b"i-1".to_vec()),
                ("x-time", millis.clone().into_bytes()),
                ("x-signature", signature_of_other.clone().into_bytes()),
            ];
            let sent = Sent { headers, body: BODY.to_vec() };
            assert_eq!(sent.verify(&source, NOW).is_ok(), template == other, "{template}");
        }
        let headers = vec![("x-signature", signature.clone().into_bytes())];
        let sent = Sent { headers, body: BODY.to_vec() };
        assert_eq!(sent.verify(&source, NOW), Err(Rejection::MissingSignature));
    }
}

/// The message is signed with SHA-1 by the key of `pinned.pem`. The dates of a pinned certificate
/// are ignored.
#[test]
fn a_pinned_certificate_is_the_only_one() {
    let pinned = include_str!("../ses/certificates/pinned.pem");
    let other = include_str!("../ses/certificates/rsa.pem");
    let body = include_bytes!("../ses/certificates/signed_v1.json").to_vec();
    let sent = Sent { body, ..Sent::default() };
    let topics = || json!({ "topics": [TOPIC] });
    let source = authenticator(Provider::Ses, &[other, pinned], topics());
    assert_eq!(sent.verified(&source, 0), Ok(Verified::by(1)));
    let source = authenticator(Provider::Ses, &[other], topics());
    assert_eq!(sent.verify(&source, 0), Err(Rejection::WrongSignature));
    let modern = json!({ "topics": [TOPIC], "signature_version": 2 });
    let source = authenticator(Provider::Ses, &[pinned], modern);
    assert_eq!(sent.verify(&source, 0), Err(Rejection::SignatureVersionNotAllowed));
    let claims_sha256 = String::from_utf8(sent.body).unwrap().replace(": \"1\"", ": \"2\"");
    let claims_sha256 = Sent { body: claims_sha256.into_bytes(), ..Sent::default() };
    let source = authenticator(Provider::Ses, &[pinned], topics());
    assert_eq!(claims_sha256.verify(&source, 0), Err(Rejection::WrongSignature));
    // The message that the other tests accept is not signed by the pinned key.
    assert_eq!(sns(|_| ()).verify(&source, NOW), Err(Rejection::WrongSignature));
}

#[test]
fn raw_delivery_is_recognised_by_its_body_too() {
    let source = ses(json!({}));
    let bare = Sent { body: b"{\"eventType\":\"Send\",\"mail\":{}}".to_vec(), ..Sent::default() };
    assert_eq!(bare.verify(&source, NOW), Err(Rejection::RawDelivery));
    let text = Sent { body: b"Successfully validated".to_vec(), ..Sent::default() };
    assert_eq!(text.verify(&source, NOW).unwrap_err().code(), "malformed_signature");
}
