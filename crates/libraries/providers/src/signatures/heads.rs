//! What is checked before the body of a request, and before anything is allocated for it.

use super::*;

/// Checks only the headers of a request.
fn check_head(sent: &Sent, source: &Authenticator) -> Result<(), Rejection> {
    let header = |(name, value): &(&'static str, Vec<u8>)| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
    };
    source.check_head(&sent.headers.iter().map(header).collect(), None)
}

#[test]
fn a_head_is_rejected_as_the_whole_request_would_be() {
    let cases = [
        (
            authenticator(Provider::SendGrid, &[&ECDSA[0].public], json!({})),
            sendgrid(&ECDSA[0], NOW),
        ),
        (authenticator(Provider::Generic, &["key"], json!({})), generic("key", NOW)),
        (authenticator(Provider::Resend, &[WHSEC], json!({})), standard_webhooks(SVIX, NOW)),
        (authenticator(Provider::MailerSend, &["key"], json!({})), mailersend("key")),
        (authenticator(Provider::Postal, &[POSTAL_KEY], json!({})), postal(&[POSTAL_SHA256])),
    ];
    for (source, sent) in cases {
        assert_eq!(check_head(&sent, &source), Ok(()));
        for index in 0..sent.headers.len() {
            let mut missing = sent.clone();
            missing.headers.remove(index);
            let mut odd = sent.clone();
            odd.headers[index].1 = b"?".to_vec();
            for sent in [missing, odd] {
                // A head alone does not tell whether a signature is wrong.
                if let Err(rejection) = check_head(&sent, &source) {
                    assert_eq!(sent.verify(&source, NOW), Err(rejection));
                }
            }
        }
        let signature = sent.headers.len() - 1;
        let mut odd = sent.clone();
        odd.headers[signature].1 = b"?".to_vec();
        assert_eq!(check_head(&odd, &source).unwrap_err().code(), "malformed_signature");
        odd.headers.remove(signature);
        assert_eq!(check_head(&odd, &source), Err(Rejection::MissingSignature));
    }
    // The signature of these is in the body.
    let in_body = authenticator(Provider::Mailgun, &["key"], json!({}));
    assert_eq!(check_head(&Sent::default(), &in_body), Ok(()));
    let listed = json!({ "allow_ips": ["192.0.2.0/24"] });
    let listed = authenticator(Provider::Mailgun, &["key"], listed);
    assert_eq!(check_head(&Sent::default(), &listed), Err(Rejection::AddressNotAllowed));
}

#[test]
fn forms_with_too_many_fields_are_malformed() {
    let mandrill = authenticator(Provider::Mandrill, &["key"], json!({ "public_url": URL }));
    let signature = || STANDARD.encode([0; 20]).into_bytes();
    let form = |fields| Sent {
        headers: vec![("x-mandrill-signature", signature())],
        body: b"a=1&".repeat(fields),
    };
    assert_eq!(form(16).verify(&mandrill, NOW), Err(Rejection::WrongSignature));
    let error = form(17).verify(&mandrill, NOW).unwrap_err();
    assert!(error.to_string().contains("more than 16 fields"), "{error}");

    let mailgun = authenticator(Provider::Mailgun, &["key"], json!({}));
    let form = |fields| Sent { body: b"a=1&".repeat(fields), ..Sent::default() };
    assert_eq!(form(256).verify(&mailgun, NOW), Err(Rejection::MissingSignature));
    let error = form(257).verify(&mailgun, NOW).unwrap_err();
    assert!(error.to_string().contains("more than 256 fields"), "{error}");
    assert!(crate::split(Provider::Mailgun, &form(257).body).is_err());
}

#[test]
fn a_postal_source_can_reject_sha1() {
    let strict = json!({ "reject_sha1": true });
    let strict = authenticator(Provider::Postal, &[POSTAL_KEY], strict);
    assert_eq!(postal(&[POSTAL_SHA256]).verify(&strict, NOW), Ok(()));
    let weak = postal(&[POSTAL_SHA1]);
    assert_eq!(weak.verify(&strict, NOW), Err(Rejection::SignatureVersionNotAllowed));
    assert_eq!(check_head(&weak, &strict), Err(Rejection::SignatureVersionNotAllowed));
}

#[test]
fn a_certificate_is_not_asked_for_before_topic_and_region_are_known() {
    let elsewhere = CERTIFICATE.replace("0123", "9999").replace("eu-west-1", "eu-west-2");
    let foreign = sns(|envelope| envelope["SigningCertURL"] = elsewhere.clone().into());
    assert_eq!(foreign.verify(&ses(json!({})), NOW), Err(Rejection::UntrustedCertificateUrl));
    let unknown = CERTIFICATE.replace("0123", "9999");
    let unknown = sns(|envelope| envelope["SigningCertURL"] = unknown.clone().into());
    let other = authenticator(Provider::Ses, &[], json!({ "topics": [format!("{TOPIC}x")] }));
    assert_eq!(unknown.verify(&other, NOW), Err(Rejection::TopicNotAllowed));
}
