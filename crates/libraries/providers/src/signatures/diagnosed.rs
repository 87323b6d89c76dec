//! A diagnosis has the verdict of the verification, shows every check, and finds what would make a
//! rejected request pass.

use super::*;
use crate::{CheckResult, Diagnosis};

fn diagnose(sent: &Sent, source: &Authenticator, now: i64) -> Diagnosis {
    let headers: HeaderMap = sent
        .headers
        .iter()
        .map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        })
        .collect();
    let remote_ip = Some("192.0.2.7".parse().unwrap());
    let request = ReceivedRequest { headers: &headers, body: &sent.body, remote_ip, now };
    let known = |url: &str| (url == CERTIFICATE).then(|| SNS_CERTIFICATE.clone());
    let diagnosis = source.diagnose(&request, &known);
    assert_eq!(diagnosis.verdict, source.verify(&request, &known));
    diagnosis
}

fn mandrill_source(url: &str) -> Authenticator {
    authenticator(Provider::Mandrill, &["key"], json!({ "public_url": url }))
}

#[test]
fn every_check_before_the_verdict_is_shown() {
    let source = authenticator(Provider::Generic, &["old", "key"], json!({}));
    let diagnosis = diagnose(&generic("key", NOW - 7), &source, NOW);
    let results: Vec<_> =
        diagnosis.checks.iter().map(|check| (check.name, check.result.as_str())).collect();
    assert_eq!(
        results,
        [
            ("address", "skipped"),
            ("body", "skipped"),
            ("signature", "passed"),
            ("signature", "passed"),
            ("signed", "skipped"),
            ("key", "passed"),
            ("timestamp", "passed"),
        ]
    );
    let detail =
        |name| diagnosis.checks.iter().find(|check| check.name == name).unwrap().detail.as_str();
    assert!(detail("body").starts_with("69 bytes, SHA-256 "), "{}", detail("body"));
    assert!(detail("signed").contains("1762787993.[{\\\"event\\\":"), "{}", detail("signed"));
    assert_eq!(detail("key"), "secrets[1] of 2 made it");
    assert_eq!(detail("timestamp"), "2025-11-10T15:19:53Z is 7 s before now; tolerance 300 s");
    assert!(diagnosis.fixes.is_empty());
}

#[test]
fn no_check_shows_a_secret() {
    let source = authenticator(Provider::Generic, &["s3cr3t-key"], json!({}));
    for sent in [generic("s3cr3t-key", NOW), generic("other", NOW), generic("s3cr3t-key", 0)] {
        let diagnosis = diagnose(&sent, &source, NOW);
        assert!(!format!("{diagnosis:?}{source:?}").contains("s3cr3t"), "{diagnosis:?}");
    }
}

#[test]
fn every_scheme_shows_what_it_signs_and_by_which_key() {
    let plain = |provider, secret| authenticator(provider, &[secret], json!({}));
    let cases = [
        (plain(Provider::SendGrid, &ECDSA[0].public), sendgrid(&ECDSA[0], NOW)),
        (plain(Provider::Mailgun, "key"), mailgun(&mailgun_signature("key", NOW))),
        (ses(json!({})), sns(|_| ())),
        (mandrill_source(URL), mandrill("key", "[{}]")),
        (plain(Provider::Generic, "key"), generic("key", NOW)),
        (plain(Provider::Resend, WHSEC), standard_webhooks(SVIX, NOW)),
        (plain(Provider::StandardWebhooks, WHSEC), standard_webhooks(SPECIFIED, NOW)),
        (plain(Provider::MailerSend, "key"), mailersend("key")),
        (plain(Provider::Postal, POSTAL_KEY), postal(&[POSTAL_SHA256])),
    ];
    for (source, sent) in cases {
        let diagnosis = diagnose(&sent, &source, NOW);
        assert!(diagnosis.verdict.is_ok(), "{source:?}");
        for name in ["signature", "signed", "key", "timestamp"] {
            let check = diagnosis.checks.iter().find(|check| check.name == name);
            assert!(
                check.is_some_and(|check| check.result != CheckResult::Failed),
                "{name}: {source:?}"
            );
        }
    }
}

#[test]
fn changes_of_the_body_are_found() {
    let source = authenticator(Provider::MailerSend, &["key"], json!({}));
    let body = String::from_utf8(BODY.to_vec()).unwrap();
    let fixes = |rewritten: String| {
        let sent = Sent { body: rewritten.into_bytes(), ..mailersend("key") };
        diagnose(&sent, &source, NOW).fixes.join("\n")
    };
    assert!(fixes(body.trim().to_owned()).contains("newline was added or removed"));
    assert!(fixes(format!("{body}\n")).contains("newline was added or removed"));
    assert!(fixes(body.replace("\r\n", "\n")).contains("CRLF"));
    let spaced = body.replace(',', ", ").replace("\":", "\": ");
    assert!(fixes(spaced).contains("re-serialised as compact JSON"));
    assert!(fixes(body.replace("open", "opem")).contains("the secret is a different one"));
}

#[test]
fn mistaken_settings_are_found() {
    let fixes = |source: &Authenticator, sent: &Sent| diagnose(sent, source, NOW).fixes.join("\n");
    let signed = mandrill("key", "[{}]");
    for (mistaken, hint) in [
        (URL.replace("https", "http"), "https:// instead"),
        (format!("{URL}/"), "without the trailing slash"),
        (URL.replace("example.com/", "example.com:8443/"), "without the port"),
        (URL.replace("https://", "https://ada:pass@"), "without the credentials"),
    ] {
        let found = fixes(&mandrill_source(&mistaken), &signed);
        assert!(found.contains(hint) && found.contains(URL), "{mistaken}: {found}");
    }
    let source = authenticator(Provider::MailerSend, &["key\n"], json!({}));
    assert!(fixes(&source, &mailersend("key")).contains("white space around the secret"));
    let template = json!({ "signed": "v0:{timestamp}:{body}" });
    let source = authenticator(Provider::Generic, &["key"], template);
    let found = fixes(&source, &generic("key", NOW));
    assert!(found.contains("`signed = \"{timestamp}.{body}\"`"), "{found}");
}

#[test]
fn a_stale_timestamp_is_reported_in_hours() {
    let source = authenticator(Provider::Generic, &["key"], json!({}));
    let fixes = diagnose(&generic("key", NOW - 7 * 3600), &source, NOW).fixes;
    assert!(fixes[0].starts_with("the timestamp is 7 h old"), "{fixes:?}");
    assert!(fixes[0].contains("tolerance 300 s") && fixes[0].contains("25200"), "{fixes:?}");
    let fixes = diagnose(&generic("key", NOW + 400), &source, NOW).fixes;
    assert!(fixes[0].contains("6 min ahead"), "{fixes:?}");
}

#[test]
fn addresses_are_checked_first() {
    let allow =
        |nets: &[&str]| authenticator(Provider::MailerSend, &["key"], json!({ "allow_ips": nets }));
    let verdict = |source: &Authenticator, ip: Option<&str>| {
        let headers = HeaderMap::new();
        let remote_ip = ip.map(|ip| ip.parse().unwrap());
        let request = ReceivedRequest { headers: &headers, body: BODY, remote_ip, now: NOW };
        source.verify(&request, &|_| None).unwrap_err()
    };
    let source = allow(&["198.51.100.0/24", "192.0.2.7/32", "2001:db8::/32"]);
    for ip in ["192.0.2.7", "::ffff:198.51.100.9", "2001:db8::1"] {
        assert_eq!(verdict(&source, Some(ip)), Rejection::MissingSignature, "{ip}");
    }
    for ip in [Some("192.0.2.8"), Some("::ffff:192.0.2.8"), None] {
        assert_eq!(verdict(&source, ip), Rejection::AddressNotAllowed, "{ip:?}");
    }
    let diagnosis = diagnose(&mailersend("key"), &allow(&["203.0.113.0/24"]), NOW);
    assert_eq!(diagnosis.checks.len(), 1);
    assert!(diagnosis.fixes[0].contains("allow_ips"));
    assert!(diagnose(&mailersend("key"), &source, NOW).verdict.is_ok());
}
