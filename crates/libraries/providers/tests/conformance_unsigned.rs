//! Tests that captured payloads of the providers that do not sign become the events that their
//! files are named after. Like `conformance.rs`, it needs `../shared`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use event::{Bounce, BounceClass, Kind, Permanence, Provider, ReceivedAt};
use providers::{Content, Envelope, RawEvent, parse, split};

/// Later than every sample.
const RECEIVED_AT: ReceivedAt = ReceivedAt(1_762_788_000_000_000);

/// The kind of an event, and the permanence and class of a refusal.
type Meaning = (Kind, Option<(Permanence, BounceClass)>);

const fn plain(kind: Kind) -> Meaning {
    (kind, None)
}

const fn refused(kind: Kind, permanence: Permanence, class: BounceClass) -> Meaning {
    (kind, Some((permanence, class)))
}

/// Checks every sample of a provider, by the name of the file. A missing or an additional sample is
/// an error.
fn check(provider: Provider, expected: &[(&str, &[Meaning])]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../../shared/samples")
        .join(provider.as_str());
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut names: Vec<String> = Vec::new();
    for path in files.map(|file| file.unwrap().path()) {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (_, events) = expected
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap_or_else(|| panic!("{provider}: no meaning is expected of {name}"));
        assert_eq!(meanings(provider, &std::fs::read(&path).unwrap(), &name), *events, "{name}");
        names.push(name);
    }
    assert_eq!(names.len(), expected.len(), "{provider}: {names:?}");
}

fn meanings(provider: Provider, body: &[u8], name: &str) -> Vec<Meaning> {
    let split = split(provider, body).unwrap_or_else(|error| panic!("{name}: {error}"));
    let meaning = |raw: RawEvent<'_>| {
        let envelope = Envelope {
            source: "acme",
            recipient: raw.recipient,
            received_at: RECEIVED_AT,
            request_id: "r-1",
        };
        let event =
            parse(provider, raw.raw, &envelope).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(event.kind, raw.kind, "{name}");
        assert!(!event.provider_event.is_empty(), "{name}");
        assert!(event.occurred_at.micros() <= RECEIVED_AT.micros(), "{name}");
        assert!(event.kind == Kind::Other || event.recipient.is_some(), "{name}");
        let refusal = |bounce: &Bounce<'_>| (bounce.permanence, bounce.class);
        (event.kind, event.bounce.as_ref().map(refusal))
    };
    let expected = match split.len() {
        0 => Content::Ping,
        count => Content::Events(count),
    };
    assert_eq!(*split.content(), expected, "{name}");
    split.events().map(meaning).collect()
}

#[test]
#[ignore = "needs ../shared"]
fn shared_sparkpost_samples() {
    const UNDETERMINED: Permanence = Permanence::Undetermined;
    let every_type = [
        refused(Kind::Bounced, UNDETERMINED, BounceClass::Reputation),
        plain(Kind::Delivered),
        plain(Kind::Accepted),
        plain(Kind::Other), // sms_status
        plain(Kind::Complained),
        refused(Kind::Bounced, UNDETERMINED, BounceClass::Reputation), // out_of_band
        refused(Kind::Dropped, UNDETERMINED, BounceClass::Reputation), // policy_rejection
        refused(Kind::Deferred, Permanence::Soft, BounceClass::Reputation),
        plain(Kind::Clicked),
        plain(Kind::Opened),
        refused(Kind::Dropped, Permanence::Soft, BounceClass::Reputation), // generation_failure
        refused(Kind::Dropped, UNDETERMINED, BounceClass::Reputation),     // generation_rejection
        plain(Kind::Unsubscribed),
        plain(Kind::Unsubscribed),
        plain(Kind::Other), // relay_…
        plain(Kind::Other),
        plain(Kind::Other),
        plain(Kind::Other),
        plain(Kind::Other),
    ];
    check(
        Provider::SparkPost,
        &[
            (
                "anymail_bounce_event",
                &[refused(Kind::Bounced, Permanence::Hard, BounceClass::InvalidRecipient)],
            ),
            ("anymail_delivery_event", &[plain(Kind::Delivered)]),
            ("anymail_open_event", &[plain(Kind::Opened)]),
            ("official_19_event_types_batch", &every_type),
            ("official_validation_ping", &[]),
        ],
    );
}

#[test]
#[ignore = "needs ../shared"]
fn shared_brevo_samples() {
    let invalid = [refused(Kind::Bounced, Permanence::Hard, BounceClass::InvalidRecipient)];
    check(
        Provider::Brevo,
        &[
            ("anymail_proxy_open_event", &[plain(Kind::Opened)]),
            (
                "symfony_blocked",
                &[refused(Kind::Dropped, Permanence::Undetermined, BounceClass::Suppressed)],
            ),
            ("symfony_click", &[plain(Kind::Clicked)]),
            ("symfony_complaint", &[plain(Kind::Complained)]),
            ("symfony_defered", &[refused(Kind::Deferred, Permanence::Soft, BounceClass::Content)]),
            ("symfony_delivered", &[plain(Kind::Delivered)]),
            // Although it is named after `error`, it contains an `invalid_email`.
            ("symfony_error", &invalid),
            ("symfony_hard_bounce", &invalid),
            ("symfony_invalid_email", &invalid),
            ("symfony_opened", &[plain(Kind::Opened)]),
            ("symfony_proxy_open", &[plain(Kind::Opened)]),
            ("symfony_request", &[plain(Kind::Accepted)]),
            ("symfony_request_without_tags", &[plain(Kind::Accepted)]),
            (
                "symfony_soft_bounce",
                &[refused(Kind::Bounced, Permanence::Soft, BounceClass::Technical)],
            ),
            ("symfony_unique_opened", &[plain(Kind::Opened)]),
            ("symfony_unsubscribed", &[plain(Kind::Unsubscribed)]),
        ],
    );
}

#[test]
#[ignore = "needs ../shared"]
fn shared_mailjet_samples() {
    check(
        Provider::Mailjet,
        &[
            (
                "symfony_blocked",
                &[refused(Kind::Dropped, Permanence::Undetermined, BounceClass::Suppressed)],
            ),
            (
                "symfony_bounce",
                &[refused(Kind::Bounced, Permanence::Soft, BounceClass::Reputation)],
            ),
            ("symfony_click", &[plain(Kind::Clicked)]),
            ("symfony_open", &[plain(Kind::Opened)]),
            ("symfony_sent", &[plain(Kind::Delivered)]),
            ("symfony_spam", &[plain(Kind::Complained)]),
            ("symfony_unsub", &[plain(Kind::Unsubscribed)]),
        ],
    );
}

#[test]
#[ignore = "needs ../shared"]
fn shared_postmark_samples() {
    check(
        Provider::Postmark,
        &[
            (
                "official_bounce",
                &[refused(Kind::Bounced, Permanence::Hard, BounceClass::InvalidRecipient)],
            ),
            ("official_click", &[plain(Kind::Clicked)]),
            ("official_delivery", &[plain(Kind::Delivered)]),
            ("official_open", &[plain(Kind::Opened)]),
            ("official_spamcomplaint", &[plain(Kind::Complained)]),
            ("official_subscriptionchange", &[plain(Kind::Unsubscribed)]),
        ],
    );
}
