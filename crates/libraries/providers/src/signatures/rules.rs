use super::*;
use crate::SettingsError;

#[test]
fn any_active_secret_passes_and_no_other() {
    let (old, new) = (&ECDSA[0], &ECDSA[1]);
    let both = authenticator(Provider::SendGrid, &[&old.public, &new.public], json!({}));
    let one = authenticator(Provider::SendGrid, &[&new.public], json!({}));
    assert_eq!(sendgrid(old, NOW).verify(&both, NOW), Ok(()));
    assert_eq!(sendgrid(new, NOW).verify(&both, NOW), Ok(()));
    assert_eq!(sendgrid(old, NOW).verify(&one, NOW), Err(Rejection::WrongSignature));

    let both = authenticator(Provider::Generic, &["old", "new"], json!({}));
    assert_eq!(generic("old", NOW).verify(&both, NOW), Ok(()));
    assert_eq!(generic("new", NOW).verify(&both, NOW), Ok(()));
    assert_eq!(generic("other", NOW).verify(&both, NOW), Err(Rejection::WrongSignature));
}

#[test]
fn a_good_signature_grows_old() {
    let sendgrid_source = authenticator(Provider::SendGrid, &[&ECDSA[0].public], json!({}));
    let day = 24 * 3600;
    assert_eq!(sendgrid(&ECDSA[0], NOW - day).verify(&sendgrid_source, NOW), Ok(()));
    let rejection = sendgrid(&ECDSA[0], NOW - day - 1).verify(&sendgrid_source, NOW);
    assert_eq!(rejection, Err(Rejection::Stale { skew_seconds: day + 1 }));
    // A forged signature is reported as wrong, however old it is.
    let forged = sendgrid(&ECDSA[1], NOW - day - 1).verify(&sendgrid_source, NOW);
    assert_eq!(forged, Err(Rejection::WrongSignature));

    let strict = json!({ "tolerance_seconds": 60 });
    let generic_source = authenticator(Provider::Generic, &["key"], strict.clone());
    assert_eq!(generic("key", NOW + 60).verify(&generic_source, NOW), Ok(()));
    let rejection = generic("key", NOW + 61).verify(&generic_source, NOW);
    assert_eq!(rejection, Err(Rejection::Stale { skew_seconds: -61 }));

    let ses = ses(strict);
    let valid_later = |_: &str| {
        let key = RSA.public_key().as_der().unwrap();
        Certificate::from_key(key.as_ref(), 0, NOW * 2).ok().map(Arc::new)
    };
    let sent = sns(|_| ());
    let headers = HeaderMap::new();
    let request =
        |now| ReceivedRequest { headers: &headers, body: &sent.body, remote_ip: None, now };
    let verify = |now| ses.verify(&request(now), &valid_later).map(|_| ());
    assert_eq!(verify(NOW), Ok(()));
    assert_eq!(verify(NOW + 60), Err(Rejection::Stale { skew_seconds: 61 }));
}

#[test]
fn mailgun_signs_for_subaccounts_too() {
    let source = authenticator(Provider::Mailgun, &["parent"], json!({}));
    let own = mailgun_signature("parent", NOW - 8 * 3600);
    assert_eq!(mailgun(&own).verify(&source, NOW), Ok(()));
    let mut child = mailgun_signature("child", NOW);
    assert_eq!(mailgun(&child).verify(&source, NOW), Err(Rejection::WrongSignature));
    child["parent-signature"] = own;
    assert_eq!(mailgun(&child).verify(&source, NOW), Ok(()));
    child["parent-signature"] = mailgun_signature("parent", 0);
    assert_eq!(mailgun(&child).verify(&source, NOW), Err(Rejection::Stale { skew_seconds: NOW }));
    for field in ["timestamp", "token", "signature"] {
        let mut cut = mailgun_signature("parent", NOW);
        cut.as_object_mut().unwrap().remove(field);
        assert_eq!(mailgun(&cut).verify(&source, NOW), Err(Rejection::MissingSignature), "{field}");
    }
    let none = Sent { body: b"{\"event-data\":{}}".to_vec(), ..Sent::default() };
    assert_eq!(none.verify(&source, NOW), Err(Rejection::MissingSignature));
}

#[test]
fn mandrills_registration_proves_nothing_but_itself() {
    let options = json!({ "public_url": URL });
    let source = authenticator(Provider::Mandrill, &["key"], options);
    let ping = |key, events: &str| {
        let signature =
            tag::<Hmac<sha1::Sha1>>(key, &[URL.as_bytes(), b"mandrill_events", events.as_bytes()]);
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("mandrill_events", events)
            .finish();
        let signature = STANDARD.encode(signature).into_bytes();
        Sent { headers: vec![("x-mandrill-signature", signature)], body: body.into_bytes() }
    };
    assert_eq!(ping("key", "[]").verify(&source, NOW), Ok(()));
    assert_eq!(ping("test-webhook", "[]").verify(&source, NOW), Ok(()));
    let events = "[{\"event\":\"send\"}]";
    assert_eq!(ping("key", events).verify(&source, NOW), Ok(()));
    assert_eq!(ping("test-webhook", events).verify(&source, NOW), Err(Rejection::WrongSignature));
}

#[test]
fn sns_is_trusted_for_its_topics_only() {
    let source = ses(json!({}));
    assert_eq!(sns(|_| ()).verify(&source, NOW), Ok(()));
    let elsewhere = json!({ "topics": [format!("{TOPIC}x")] });
    let elsewhere = authenticator(Provider::Ses, &[], elsewhere);
    assert_eq!(sns(|_| ()).verify(&elsewhere, NOW), Err(Rejection::TopicNotAllowed));
    let none = authenticator(Provider::Ses, &[], json!({}));
    assert_eq!(sns(|_| ()).verify(&none, NOW), Err(Rejection::TopicNotAllowed));
    // The topic is checked first, so a stranger causes no fetch of a certificate.
    let forged = sns(|envelope| envelope["Message"] = "x".into());
    assert_eq!(forged.verify(&elsewhere, NOW), Err(Rejection::TopicNotAllowed));
    assert_eq!(forged.verify(&source, NOW), Err(Rejection::WrongSignature));
    let region = |region: &str| CERTIFICATE.replace("eu-west-1", region);
    for other in ["us-east-1", "s3-eu-west-1"] {
        let url = region(other);
        let elsewhere = sns(move |envelope| envelope["SigningCertURL"] = url.clone().into());
        assert_eq!(
            elsewhere.verify(&source, NOW),
            Err(Rejection::UntrustedCertificateUrl),
            "{other}"
        );
    }
    // A field that is not signed may differ.
    assert_eq!(
        sns(|envelope| envelope["UnsubscribeURL"] = "x".into()).verify(&source, NOW),
        Ok(())
    );
}

#[test]
fn sns_certificates_are_asked_for_and_dated() {
    let source = ses(json!({}));
    let other = CERTIFICATE.replace("0123", "9999");
    let unknown = sns(|envelope| envelope["SigningCertURL"] = other.clone().into());
    assert_eq!(unknown.verify(&source, NOW), Err(Rejection::CertificateNeeded(other.clone())));
    let foreign = sns(|envelope| envelope["SigningCertURL"] = "https://evil.test/a.pem".into());
    assert_eq!(foreign.verify(&source, NOW), Err(Rejection::UntrustedCertificateUrl));
    for now in [NOW - 11, NOW + 11] {
        assert_eq!(sns(|_| ()).verify(&source, now), Err(Rejection::CertificateInvalid));
    }
    assert_eq!(sns(|_| ()).verify(&source, NOW + 10), Ok(()));
}

#[test]
fn sns_versions_and_raw_delivery() {
    let source = ses(json!({ "signature_version": 2 }));
    assert_eq!(sns(|_| ()).verify(&source, NOW), Ok(()));
    let version = |version: &'static str| sns(move |e| e["SignatureVersion"] = version.into());
    let refused = Err(Rejection::SignatureVersionNotAllowed);
    assert_eq!(version("1").verify(&source, NOW), refused);
    assert_eq!(version("3").verify(&ses(json!({})), NOW), refused);
    // A signature with SHA-256 is not one with SHA-1.
    let wrong = version("1").verify(&ses(json!({})), NOW);
    assert_eq!(wrong, Err(Rejection::WrongSignature));
    let mut raw = sns(|_| ());
    raw.headers.push(("x-amz-sns-rawdelivery", b"true".to_vec()));
    assert_eq!(raw.verify(&source, NOW), Err(Rejection::RawDelivery));
}

#[test]
fn postmark_has_credentials_only() {
    let basic = |credentials: &str| Sent {
        headers: vec![("authorization", format!("basic {}", STANDARD.encode(credentials)).into())],
        ..Sent::default()
    };
    let source = authenticator(Provider::Postmark, &["ada:old", "ada:new"], json!({}));
    assert_eq!(basic("ada:old").verify(&source, NOW), Ok(()));
    assert_eq!(basic("ada:new").verify(&source, NOW), Ok(()));
    assert_eq!(basic("ada:other").verify(&source, NOW), Err(Rejection::WrongCredentials));
    assert_eq!(Sent::default().verify(&source, NOW), Err(Rejection::MissingCredentials));
    let bearer = STANDARD.encode("ada:old");
    let bearer = Sent {
        headers: vec![("authorization", format!("Beaver{bearer}").into())],
        ..Sent::default()
    };
    assert_eq!(bearer.verify(&source, NOW), Err(Rejection::WrongCredentials));

    let options = json!({ "header": "X-Hook-Secret" });
    let source = authenticator(Provider::Postmark, &["s3cret"], options);
    let custom =
        |value: &str| Sent { headers: vec![("x-hook-secret", value.into())], ..Sent::default() };
    assert_eq!(custom("s3cret").verify(&source, NOW), Ok(()));
    assert_eq!(custom("s3cre").verify(&source, NOW), Err(Rejection::WrongCredentials));
    assert_eq!(basic("s3cret").verify(&source, NOW), Err(Rejection::MissingCredentials));
}

#[test]
fn a_missing_or_malformed_signature_is_reported() {
    let sendgrid_source = authenticator(Provider::SendGrid, &[&ECDSA[0].public], json!({}));
    let generic_source = authenticator(Provider::Generic, &["key"], json!({}));
    for (source, sent) in
        [(&sendgrid_source, sendgrid(&ECDSA[0], NOW)), (&generic_source, generic("key", NOW))]
    {
        for missing in 0..sent.headers.len() {
            let mut less = sent.clone();
            less.headers.remove(missing);
            assert_eq!(less.verify(source, NOW), Err(Rejection::MissingSignature));
        }
        let mut odd = sent.clone();
        odd.headers[1].1 = b"sha256=?".to_vec();
        let rejection = odd.verify(source, NOW).unwrap_err();
        assert_eq!(rejection.code(), "malformed_signature");
    }
}

#[test]
fn settings_that_cannot_work_are_named() {
    let error = |provider, secrets: &[&str], options| {
        let error = Authenticator::new(&settings(provider, secrets, options)).unwrap_err();
        (matches!(error, SettingsError::BadOption { .. }), error.to_string())
    };
    let (_, text) = error(Provider::SendGrid, &[&ECDSA[0].public, "not a key"], json!({}));
    assert!(text.contains("secrets[1]") && !text.contains("not a key"), "{text}");
    let (_, text) = error(Provider::Mailgun, &[], json!({}));
    assert!(text.contains("`secrets` is empty"), "{text}");
    let (_, text) = error(Provider::Postmark, &["no-colon"], json!({}));
    assert!(text.contains("user:password"), "{text}");
    let bad_options = [
        (Provider::Mandrill, json!({})),
        (Provider::Generic, json!({ "header": "no spaces" })),
        (Provider::Generic, json!({ "signed": "{body}", "timestamp_header": "X-Time" })),
        (Provider::Postmark, json!({ "header": "X-Secret", "scheme": "bearer" })),
        (Provider::Ses, json!({ "signature_version": 3 })),
        (Provider::Ses, json!({ "topics": ["mail"] })),
    ];
    for (provider, options) in bad_options {
        let (is_option, text) = error(provider, &["key"], options);
        assert!(is_option, "{text}");
    }
}

#[test]
fn one_authenticator_serves_all_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Authenticator>();
    shared::<Certificate>();
}
