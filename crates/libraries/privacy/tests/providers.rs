//! Pseudonyms do not change which events a provider's body contains. The bodies are the fixtures of
//! the `providers` crate and, in an ignored test, captured payloads.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use event::{Kind, Provider, ReceivedAt};
use privacy::Pseudonymizer;
use providers::Envelope;

/// What `split` and `parse` return for one event.
#[derive(Debug, PartialEq)]
struct SplitEvent {
    kind: Kind,
    recipient: String,
    /// Kind and recipient of the canonical event, or the code of the parse error.
    parsed: Result<(Kind, String), &'static str>,
}

fn events(provider: Provider, body: &[u8]) -> Result<Vec<SplitEvent>, &'static str> {
    let mut events = Vec::new();
    for raw in providers::split(provider, body).map_err(|error| error.code())?.events() {
        let envelope = Envelope {
            source: "shop",
            recipient: raw.recipient,
            received_at: ReceivedAt(1_795_255_200_000_000),
            request_id: "r1",
        };
        let parsed = providers::parse(provider, raw.raw, &envelope);
        let parsed =
            parsed.map(|event| (event.kind, event.recipient.unwrap_or_default().to_string()));
        let parsed = parsed.map_err(|error| error.code());
        events.push(SplitEvent { kind: raw.kind, recipient: raw.recipient.to_owned(), parsed });
    }
    Ok(events)
}

fn sorted(events: Result<Vec<SplitEvent>, &str>) -> Result<Vec<SplitEvent>, &str> {
    let mut events = events?;
    events.sort_by(|one, other| one.recipient.cmp(&other.recipient));
    Ok(events)
}

/// Returns the files of each provider's folder; a provider may have no folder.
fn bodies(folder_of: impl Fn(Provider) -> PathBuf) -> Vec<(Provider, PathBuf)> {
    let files = |folder: &Path| match std::fs::read_dir(folder) {
        Ok(files) => files.map(|file| file.unwrap().path()).filter(|path| path.is_file()).collect(),
        Err(_) => Vec::new(),
    };
    Provider::ALL
        .into_iter()
        .flat_map(|provider| {
            files(&folder_of(provider)).into_iter().map(move |path| (provider, path))
        })
        .collect()
}

/// Checks each body and returns the number of addresses in all of them.
fn check_bodies(bodies: &[(Provider, PathBuf)]) -> usize {
    let pseudonymizer = Pseudonymizer::new(b"a key of the tests alone").unwrap();
    let pseudonym =
        |address: &str| pseudonymizer.pseudonym(address).unwrap_or_else(|| address.to_owned());
    let mut addresses = 0;
    for (provider, path) in bodies {
        let body = std::fs::read(path).unwrap();
        let published = pseudonymizer.rewrite_body(&body);
        let name = path.display();
        let (before, after) = (events(*provider, &body), events(*provider, &published));
        let expected = before.as_ref().map_err(|&code| code).map(|events| {
            let pseudonymized = |event: &SplitEvent| SplitEvent {
                kind: event.kind,
                recipient: pseudonym(&event.recipient),
                parsed: event.parsed.clone().map(|(kind, recipient)| (kind, pseudonym(&recipient))),
            };
            events.iter().map(pseudonymized).collect::<Vec<_>>()
        });
        // The recipients of one event are in the order of their addresses, which changes.
        assert_eq!(sorted(after), sorted(expected), "{name}");
        let text = String::from_utf8_lossy(&published).to_lowercase().replace("%40", "@");
        for event in before.unwrap_or_default() {
            if event.recipient.contains('@') {
                assert!(!text.contains(&event.recipient), "{} in {name}", event.recipient);
                addresses += 1;
            }
        }
    }
    addresses
}

fn libraries() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn fixtures_contain_the_same_events_without_addresses() {
    let bodies = bodies(|provider| libraries().join(format!("providers/src/{provider}/fixtures")));
    let addresses = check_bodies(&bodies);
    assert!(addresses > 50, "the fixtures contain only {addresses} addresses");
}

#[test]
#[ignore = "needs ../shared"]
fn shared_samples_contain_the_same_events_without_addresses() {
    let samples = libraries().join("../../../shared/samples");
    assert!(samples.is_dir(), "{} is missing", samples.display());
    let bodies = bodies(|provider| samples.join(provider.as_str()));
    assert!(!bodies.is_empty(), "{} contains no samples", samples.display());
    assert!(check_bodies(&bodies) > 0, "the samples contain no addresses");
}
