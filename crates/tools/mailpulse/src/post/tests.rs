//! Every provider's test events pass the verifier and the parser of the pipeline.

use std::path::{Path, PathBuf};

use event::{Kind, ReceivedAt};
use http::HeaderMap;
use providers::{
    Authenticator, Certificate, Envelope, Mappings, Options, ReceivedRequest, SourceSettings,
};
use service::Settings;
use testkit::Credentials;

use super::test_event::{MAILJET_MESSAGE_ID, MESSAGE_ID};
use super::*;

/// Unix seconds.
const NOW: i64 = 1_795_255_200;

const OWN_FORM: &str = r#"
[[source]]
provider = "generic"
name = "own"
secrets = ["testkit-generic-8d2f6f5e3c"]
timestamp = "/meta/sent"
events = "/data/items"
fields = { event = "/type", recipient = "/to/0/email", timestamp = "/at", message_id = "/message~1id" }
kinds = { "mail.ok" = "delivered", "mail.bounce" = "bounced hard" }
"#;

fn settings(text: &str) -> (tempfile::TempDir, Settings) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("mailpulse.toml");
    std::fs::write(&path, text).unwrap();
    let settings = Settings::load(Some(&path), std::iter::empty()).unwrap();
    (home, settings)
}

fn testkit_key(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/testkit/keys").join(name)
}

fn with(provider: Provider) -> SignWith {
    let file = match provider {
        Provider::SendGrid => Some("sendgrid-key.pem"),
        Provider::Postal => Some("postal-key.pem"),
        Provider::Ses => Some("sns-key.pem"),
        _ => None,
    };
    let secret_files = file.map(testkit_key).into_iter().collect();
    SignWith { secret_files, key_id: "test".to_owned() }
}

/// Posts a test event of a source to the code of the ingress and of enrich, and returns kind, recipient and message
/// id.
fn passed(settings: &Settings, label: &str, kind: Kind, number: u128) -> (Kind, String, String) {
    let source = ConfiguredSource::find(settings, label).unwrap();
    let provider = source.provider;
    let poster = Poster::new(source, &with(provider)).unwrap();
    let at = NOW * 1_000_000 + 123_456;
    let test = TestEvent { source: poster.source(), kind, recipient: RECIPIENT, at, number };
    let signed = poster.request(&test.mail_event(), NOW).unwrap();

    let tables = settings.sources().unwrap();
    let table = tables.iter().find(|it| format!("{}/{}", it.provider, it.name) == label).unwrap();
    let options = Options::read(provider, table.options.clone()).unwrap();
    let secrets = table.secrets.iter().map(|it| it.expose().to_owned().into()).collect();
    let source = SourceSettings { name: table.name.clone(), secrets, options };
    let authenticator = Authenticator::new(&source).unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in &signed.headers {
        let name: http::HeaderName = name.parse().unwrap();
        headers.insert(name, value.parse().unwrap());
    }
    let body = &signed.body;
    let request = ReceivedRequest { headers: &headers, body, remote_ip: None, now: NOW };
    let pem = Credentials::new("http://x.test").sns_certificate_pem();
    let certificate = std::sync::Arc::new(Certificate::parse(pem.as_bytes()).unwrap());
    authenticator.verify(&request, &|_| Some(std::sync::Arc::clone(&certificate))).unwrap();

    let mappings = Mappings::new(settings.list("source").unwrap()).unwrap();
    let split = mappings.split(provider, &table.name, body).unwrap();
    let raw = split.events().next().unwrap();
    assert_eq!((split.events().len(), raw.kind), (1, kind), "{label}");
    let envelope = Envelope {
        source: &table.name,
        recipient: raw.recipient,
        received_at: ReceivedAt(at),
        request_id: "r",
    };
    let is_mapped = mappings.has(provider, &table.name);
    let event = mappings.parse(provider, is_mapped, raw.raw, &envelope).unwrap();
    assert!(event.time_fault.is_none(), "{label}");
    let resolution = MailEvent::resolution_micros(provider);
    assert_eq!(event.occurred_at.micros(), at - at.rem_euclid(resolution), "{label}");
    let has_campaign = event.campaign.as_deref() == Some("mailpulse-test")
        || event.tags.iter().any(|tag| &**tag == "mailpulse-test");
    assert!(has_campaign, "{label}: {event:?}");
    let message = event.message_id.as_deref().unwrap().to_owned();
    (event.kind, event.recipient.as_deref().unwrap().to_owned(), message)
}

#[test]
fn test_events_of_every_provider_are_authentic_and_recognisable() {
    let (_home, settings) = settings(&Credentials::new("http://x.test").sources_toml());
    for (provider, name) in testkit::SOURCES {
        for kind in [Kind::Delivered, Kind::Bounced] {
            let label = format!("{provider}/{name}");
            let (found, recipient, message) = passed(&settings, &label, kind, 42);
            assert_eq!((found, &*recipient), (kind, RECIPIENT), "{label}");
            let begins =
                if provider == Provider::Mailjet { MAILJET_MESSAGE_ID } else { MESSAGE_ID };
            assert!(message.starts_with(begins), "{label}: {message}");
            let (_, _, other) = passed(&settings, &label, kind, 43);
            assert_ne!(message, other, "{label}");
        }
    }
}

#[test]
fn a_form_of_the_senders_own_is_written_as_its_mapping_reads_it() {
    let (_home, settings) = settings(OWN_FORM);
    for kind in [Kind::Delivered, Kind::Bounced, Kind::Opened] {
        let (found, recipient, message) = passed(&settings, "generic/own", kind, 1);
        assert_eq!((found, &*recipient), (kind, RECIPIENT));
        assert!(message.starts_with(MESSAGE_ID), "{message}");
    }
}

#[test]
fn a_key_that_only_verifies_cannot_sign() {
    let text = Credentials::new("http://x.test").sources_toml()
        + "[[source]]\nprovider = \"svix\"\nname = \"public\"\nsecrets = [\"whpk_AAAA\"]\n\
           [[source]]\nprovider = \"postmark\"\nname = \"open\"\nunverified = true\n\
           [[source]]\nprovider = \"mailgun\"\nname = \"unset\"\nsecrets = [\"env:NO_SUCH_SECRET\"]\n";
    let (_home, settings) = settings(&text);
    let poster = |label: &str| {
        Poster::new(ConfiguredSource::find(&settings, label).unwrap(), &SignWith::default())
    };
    for label in ["sendgrid/acme", "postal/campus", "ses/news", "svix/public"] {
        let error = poster(label).err().unwrap().to_string();
        assert!(error.contains("--secret-file"), "{label}: {error}");
    }
    let error = poster("mailgun/unset").err().unwrap().to_string();
    assert!(error.contains("NO_SUCH_SECRET"), "{error}");

    let open = poster("postmark/open").unwrap();
    let test = TestEvent {
        source: open.source(),
        kind: Kind::Delivered,
        recipient: RECIPIENT,
        at: 0,
        number: 1,
    };
    let request = open.request(&test.mail_event(), NOW).unwrap();
    assert!(!request.headers.iter().any(|(name, _)| name == "authorization"), "{request:?}");
    let accepted = TestEvent { kind: Kind::Accepted, ..test };
    let error = open.request(&accepted.mail_event(), NOW).err().unwrap().to_string();
    assert!(error.contains("no event of kind accepted"), "{error}");
}
