//! Tests that captured payloads become the right events. They are in `../shared` beside the
//! workspace, because they are not ours to publish; run the tests with
//! `cargo test -p providers -- --ignored shared`. Payloads of our own are the fixtures in
//! `src/<provider>/fixtures/`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use event::{Kind, Provider, ReceivedAt, TimeFault};
use providers::{Content, Envelope, RawEvent, parse, split};
use serde_json::json;

/// Returns the kinds of a payload's events, after checking each event.
fn kinds(provider: Provider, body: &[u8], file: &Path) -> Vec<Kind> {
    let split = split(provider, body).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    assert_eq!(*split.content(), Content::Events(split.len()));
    split.events().for_each(|raw| check_event(provider, raw, file));
    split.kinds().collect()
}

fn check_event(provider: Provider, raw: RawEvent<'_>, file: &Path) {
    let envelope = Envelope {
        source: "acme",
        recipient: raw.recipient,
        received_at: ReceivedAt(1_762_788_000_000_000),
        request_id: "r-1",
    };
    let event = parse(provider, raw.raw, &envelope)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert_eq!(event.kind, raw.kind, "{}", file.display());
    assert!(!event.provider_event.is_empty(), "{}", file.display());
    // The time could be read. Some samples are years old, which is not plausible.
    let is_read = matches!(event.time_fault, None | Some(TimeFault::Implausible));
    assert!(is_read, "{}: {:?}", file.display(), event.time_fault);
    if event.kind != Kind::Other && event.provider_event.as_str() != "rejected" {
        assert!(event.recipient.is_some(), "{}", file.display());
    }
    let is_refused = matches!(event.kind, Kind::Bounced | Kind::Deferred | Kind::Dropped);
    assert_eq!(event.bounce.is_some(), is_refused, "{}", file.display());
}

/// Returns the samples of a provider with their paths.
fn samples(folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/samples").join(folder);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Returns the kind that the name of a file implies.
fn expected(name: &str) -> Option<Kind> {
    const NAMES: [(&str, Kind); 22] = [
        ("account_status", Kind::Other),
        ("group_resubscribe", Kind::Subscribed),
        ("unsubscribe", Kind::Unsubscribed),
        ("subscription", Kind::Unsubscribed),
        ("deliverydelay", Kind::Deferred),
        ("temporary", Kind::Deferred),
        ("failed_permanent_delayed", Kind::Bounced),
        ("failed_permanent", Kind::Dropped),
        ("bounce", Kind::Bounced),
        ("reject", Kind::Dropped),
        ("failure", Kind::Dropped),
        ("deferred", Kind::Deferred),
        ("dropped", Kind::Dropped),
        ("complain", Kind::Complained),
        ("complaint", Kind::Complained),
        ("spamreport", Kind::Complained),
        ("click", Kind::Clicked),
        ("deliver", Kind::Delivered),
        ("open", Kind::Opened),
        ("processed", Kind::Accepted),
        ("accepted", Kind::Accepted),
        ("event_send", Kind::Accepted),
    ];
    NAMES.iter().find(|(part, _)| name.contains(part)).map(|(_, kind)| *kind)
}

fn name(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

#[test]
#[ignore = "needs ../shared"]
fn shared_sendgrid_samples() {
    for (path, body) in samples("sendgrid") {
        let kinds = kinds(Provider::SendGrid, &body, &path);
        match (name(&path), expected(name(&path))) {
            ("docs_all_event_types_batch", _) => assert_eq!(kinds.len(), 11),
            ("raw_signed_processed_bounce_batch", _) => {
                assert_eq!(kinds, [Kind::Accepted, Kind::Bounced]);
            }
            ("docs_unique_args_reserved_keys", _) => assert_eq!(kinds, [Kind::Accepted]),
            (name, Some(kind)) => assert_eq!(kinds, [kind], "{name}"),
            (name, None) => assert!(kinds.iter().all(|kind| *kind == Kind::Opened), "{name}"),
        }
    }
}

/// The samples are values of `event-data`.
#[test]
#[ignore = "needs ../shared"]
fn shared_mailgun_samples() {
    for (path, data) in samples("mailgun") {
        let body = [b"{\"event-data\":".as_slice(), &data, b"}"].concat();
        let kinds = kinds(Provider::Mailgun, &body, &path);
        assert_eq!(kinds, [expected(name(&path)).unwrap_or(Kind::Other)], "{}", name(&path));
    }
}

#[test]
#[ignore = "needs ../shared"]
fn shared_postmark_samples() {
    for (path, body) in samples("postmark") {
        let kinds = kinds(Provider::Postmark, &body, &path);
        assert_eq!(Some(kinds[0]), expected(name(&path)), "{}", name(&path));
    }
}

/// SES events are put into an SNS envelope. Samples that are envelopes are used as they are.
#[test]
#[ignore = "needs ../shared"]
fn shared_ses_samples() {
    for (path, body) in samples("ses") {
        let name = name(&path);
        if name.starts_with("docs_event") || name.starts_with("docs_notification") {
            let envelope = json!({
                "Type": "Notification", "MessageId": "m-1", "TopicArn": "arn:aws:sns:r:1:t",
                "Timestamp": "2025-11-10T15:19:59.000Z", "Message": String::from_utf8(body).unwrap(),
            });
            let kinds = kinds(Provider::Ses, envelope.to_string().as_bytes(), &path);
            assert!(kinds.iter().all(|kind| Some(*kind) == expected(name)), "{name}: {kinds:?}");
            continue;
        }
        // Samples of whole requests have headers and an empty line before the body.
        let text = String::from_utf8(body).unwrap().replace("\r\n", "\n");
        let body =
            text.split_once("\n\n").filter(|_| text.starts_with("POST")).map_or(&*text, |s| s.1);
        let content = split(Provider::Ses, body.as_bytes()).map(|split| split.content().clone());
        match name {
            _ if name.contains("unsubscribe") => {
                assert!(matches!(content, Ok(Content::Unsubscribed { .. })), "{name}");
            }
            _ if name.contains("subscriptionconfirmation") => {
                assert!(matches!(content, Ok(Content::ConfirmSubscription { .. })), "{name}");
            }
            // `Hello world!` is not an event, and Lambda's records are not an envelope.
            "docs_sns_notification" | "docs_sns_http_notification" => {
                assert_eq!(content.unwrap_err().code(), "not_json", "{name}");
            }
            _ => assert_eq!(content.unwrap_err().code(), "wrong_shape", "{name}"),
        }
    }
}

/// Checks the kinds of every sample of a provider, by the name of the file.
fn check_kinds(provider: Provider, expected: &[(&str, &[Kind])]) {
    for (path, body) in samples(provider.as_str()) {
        let name = name(&path);
        let known = expected.iter().find(|(known, _)| *known == name);
        let (_, kinds_expected) =
            known.unwrap_or_else(|| panic!("no kinds are expected of {name}"));
        assert_eq!(kinds(provider, &body, &path), *kinds_expected, "{name}");
    }
}

#[test]
#[ignore = "needs ../shared"]
fn shared_resend_samples() {
    check_kinds(
        Provider::Resend,
        &[
            ("anymail_clicked_event", &[Kind::Clicked]),
            ("anymail_hard_bounced_event", &[Kind::Bounced]),
            ("anymail_sent_event", &[Kind::Accepted, Kind::Accepted]),
            ("symfony_sent", &[Kind::Accepted]),
        ],
    );
}

#[test]
#[ignore = "needs ../shared"]
fn shared_mailersend_samples() {
    check_kinds(
        Provider::MailerSend,
        &[
            ("symfony_clicked", &[Kind::Clicked]),
            ("symfony_clicked_unique", &[Kind::Other]),
            ("symfony_delivered", &[Kind::Delivered]),
            ("symfony_hard_bounced", &[Kind::Bounced]),
            ("symfony_opened", &[Kind::Opened]),
            ("symfony_opened_unique", &[Kind::Other]),
            ("symfony_sent", &[Kind::Accepted]),
            ("symfony_soft_bounced", &[Kind::Bounced]),
            ("symfony_spam_complaint", &[Kind::Complained]),
            ("symfony_unsubscribed", &[Kind::Unsubscribed]),
        ],
    );
}

/// The sample named after a bounce contains a `MessageDelayed`.
#[test]
#[ignore = "needs ../shared"]
fn shared_postal_samples() {
    check_kinds(
        Provider::Postal,
        &[
            ("anymail_bounce_event", &[Kind::Deferred]),
            ("anymail_delivered_event", &[Kind::Delivered]),
        ],
    );
}

#[test]
#[ignore = "needs ../shared"]
fn shared_standard_webhooks_samples() {
    check_kinds(
        Provider::StandardWebhooks,
        &[("spec_example_event", &[Kind::Other]), ("spec_thin_payload", &[Kind::Other])],
    );
}

/// The `.json` samples are decoded form fields.
#[test]
#[ignore = "needs ../shared"]
fn shared_mandrill_samples() {
    for (path, body) in samples("mandrill") {
        let body = if path.extension().is_some_and(|extension| extension == "json") {
            form_urlencoded::Serializer::new(String::new())
                .append_pair("mandrill_events", std::str::from_utf8(&body).unwrap())
                .finish()
                .into_bytes()
        } else {
            body.trim_ascii().to_vec()
        };
        let kinds = kinds(Provider::Mandrill, &body, &path);
        let name = name(&path);
        match name {
            "rails_click" => assert_eq!(kinds, [Kind::Clicked]),
            "rails_open" => assert_eq!(kinds, [Kind::Opened]),
            "rails_send" => assert_eq!(kinds, [Kind::Accepted]),
            "net_metadata_empty_array" => assert_eq!(kinds, [Kind::Accepted, Kind::Deferred]),
            _ if name.contains("sync") => assert!(kinds.iter().all(|kind| *kind == Kind::Other)),
            _ => assert_eq!(kinds[..2], [Kind::Accepted, Kind::Bounced], "{name}"),
        }
    }
}
