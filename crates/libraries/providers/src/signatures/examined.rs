//! An examination comes to the verdict of the verification, shows its way there, and finds what
//! would mend a refusal.

use super::*;
use crate::{Examination, Outcome};

fn examine(sent: &Sent, source: &Authenticator, now: i64) -> Examination {
    let headers: HeaderMap = sent
        .headers
        .iter()
        .map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        })
        .collect();
    let remote_ip = Some("192.0.2.7".parse().unwrap());
    let received = Received { headers: &headers, body: &sent.body, remote_ip, now };
    let known = |url: &str| (url == CERTIFICATE).then(|| SNS_CERTIFICATE.clone());
    let examination = source.examine(&received, &known);
    assert_eq!(examination.verdict, source.verify(&received, &known));
    examination
}

fn mandrill_source(url: &str) -> Authenticator {
    let options = Options { public_url: Some(url.into()), ..Options::default() };
    authenticator(Provider::Mandrill, &["key"], options)
}

#[test]
fn the_way_to_a_verdict_is_shown() {
    let source = authenticator(Provider::Generic, &["old", "key"], Options::default());
    let examination = examine(&generic("key", NOW - 7), &source, NOW);
    let steps: Vec<_> =
        examination.steps.iter().map(|step| (step.name, step.outcome.as_str())).collect();
    assert_eq!(
        steps,
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
        |name| examination.steps.iter().find(|step| step.name == name).unwrap().detail.as_str();
    assert!(detail("body").starts_with("69 bytes, SHA-256 "), "{}", detail("body"));
    assert!(detail("signed").contains("1762787993.[{\\\"event\\\":"), "{}", detail("signed"));
    assert_eq!(detail("key"), "secrets[1] of 2 made it");
    assert_eq!(detail("timestamp"), "2025-11-10T15:19:53Z is 7 s before now; tolerance 300 s");
    assert!(examination.mends.is_empty());
}

#[test]
fn no_step_shows_a_secret() {
    let source = authenticator(Provider::Generic, &["s3cr3t-key"], Options::default());
    for sent in [generic("s3cr3t-key", NOW), generic("other", NOW), generic("s3cr3t-key", 0)] {
        let examination = examine(&sent, &source, NOW);
        assert!(!format!("{examination:?}{source:?}").contains("s3cr3t"), "{examination:?}");
    }
}

#[test]
fn every_scheme_shows_what_it_signs_and_by_which_key() {
    let plain = |provider, secret| authenticator(provider, &[secret], Options::default());
    let cases = [
        (plain(Provider::SendGrid, &ECDSA[0].public), sendgrid(&ECDSA[0], NOW)),
        (plain(Provider::Mailgun, "key"), mailgun(&mailgun_signature("key", NOW))),
        (ses(Options::default()), sns(|_| ())),
        (mandrill_source(URL), mandrill("key", "[{}]")),
        (plain(Provider::Generic, "key"), generic("key", NOW)),
        (plain(Provider::Resend, WHSEC), standard_webhooks(SVIX, NOW)),
        (plain(Provider::StandardWebhooks, WHSEC), standard_webhooks(SPECIFIED, NOW)),
        (plain(Provider::MailerSend, "key"), mailersend("key")),
        (plain(Provider::Postal, POSTAL_KEY), postal(&[POSTAL_SHA256])),
    ];
    for (source, sent) in cases {
        let examination = examine(&sent, &source, NOW);
        assert!(examination.verdict.is_ok(), "{source:?}");
        for name in ["signature", "signed", "key", "timestamp"] {
            let step = examination.steps.iter().find(|step| step.name == name);
            assert!(step.is_some_and(|step| step.outcome != Outcome::Failed), "{name}: {source:?}");
        }
    }
}

#[test]
fn what_was_done_to_the_body_is_found() {
    let source = authenticator(Provider::MailerSend, &["key"], Options::default());
    let body = String::from_utf8(BODY.to_vec()).unwrap();
    let mend = |rewritten: String| {
        let sent = Sent { body: rewritten.into_bytes(), ..mailersend("key") };
        examine(&sent, &source, NOW).mends.join("\n")
    };
    assert!(mend(body.trim().to_owned()).contains("newline was added or removed"));
    assert!(mend(format!("{body}\n")).contains("newline was added or removed"));
    assert!(mend(body.replace("\r\n", "\n")).contains("CRLF"));
    let spaced = body.replace(',', ", ").replace("\":", "\": ");
    assert!(mend(spaced).contains("re-serialised as compact JSON"));
    assert!(mend(body.replace("open", "opem")).contains("the secret is another one"));
}

#[test]
fn settings_that_people_mistake_are_found() {
    let mend = |source: &Authenticator, sent: &Sent| examine(sent, source, NOW).mends.join("\n");
    let signed = mandrill("key", "[{}]");
    for (mistaken, hint) in [
        (URL.replace("https", "http"), "https:// instead"),
        (format!("{URL}/"), "without the trailing slash"),
        (URL.replace("example.com/", "example.com:8443/"), "without the port"),
        (URL.replace("https://", "https://ada:pass@"), "without the credentials"),
    ] {
        let mends = mend(&mandrill_source(&mistaken), &signed);
        assert!(mends.contains(hint) && mends.contains(URL), "{mistaken}: {mends}");
    }
    let source = authenticator(Provider::MailerSend, &["key\n"], Options::default());
    assert!(mend(&source, &mailersend("key")).contains("white space around the secret"));
    let template = Options { signed: "v0:{timestamp}:{body}".parse().ok(), ..Options::default() };
    let source = authenticator(Provider::Generic, &["key"], template);
    let mends = mend(&source, &generic("key", NOW));
    assert!(mends.contains("`signed = \"{timestamp}.{body}\"`"), "{mends}");
}

#[test]
fn what_is_old_is_told_in_hours() {
    let source = authenticator(Provider::Generic, &["key"], Options::default());
    let mends = examine(&generic("key", NOW - 7 * 3600), &source, NOW).mends;
    assert!(mends[0].starts_with("the timestamp is 7 h old"), "{mends:?}");
    assert!(mends[0].contains("tolerance 300 s") && mends[0].contains("25200"), "{mends:?}");
    let mends = examine(&generic("key", NOW + 400), &source, NOW).mends;
    assert!(mends[0].contains("6 min ahead"), "{mends:?}");
}

#[test]
fn addresses_are_looked_at_first() {
    let allow = |nets: &[&str]| {
        let allow_ips = nets.iter().map(|net| net.parse().unwrap()).collect();
        authenticator(Provider::MailerSend, &["key"], Options { allow_ips, ..Options::default() })
    };
    let verdict = |source: &Authenticator, ip: Option<&str>| {
        let headers = HeaderMap::new();
        let remote_ip = ip.map(|ip| ip.parse().unwrap());
        let received = Received { headers: &headers, body: BODY, remote_ip, now: NOW };
        source.verify(&received, &|_| None).unwrap_err()
    };
    let source = allow(&["198.51.100.0/24", "192.0.2.7/32", "2001:db8::/32"]);
    for ip in ["192.0.2.7", "::ffff:198.51.100.9", "2001:db8::1"] {
        assert_eq!(verdict(&source, Some(ip)), Refusal::MissingSignature, "{ip}");
    }
    for ip in [Some("192.0.2.8"), Some("::ffff:192.0.2.8"), None] {
        assert_eq!(verdict(&source, ip), Refusal::AddressNotAllowed, "{ip:?}");
    }
    let examination = examine(&mailersend("key"), &allow(&["203.0.113.0/24"]), NOW);
    assert_eq!(examination.steps.len(), 1);
    assert!(examination.mends[0].contains("allow_ips"));
    assert!(examine(&mailersend("key"), &source, NOW).verdict.is_ok());
}
