//! What providers post, with pseudonyms: the same events, of nobody. Their fixtures, and the captured
//! payloads in `../shared` beside the workspace where that folder exists.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use event::{Kind, Provider, ReceivedAt};
use privacy::Pseudonyms;
use providers::Envelope;

/// One event: what became of whom, and whether it has a canonical form.
#[derive(Debug, PartialEq)]
struct Seen {
    kind: Kind,
    recipient: String,
    form: Result<(Kind, String), &'static str>,
}

fn events(provider: Provider, body: &[u8]) -> Result<Vec<Seen>, &'static str> {
    let mut seen = Vec::new();
    let split = providers::split(provider, body, &mut |raw| {
        let envelope = Envelope {
            source: "shop",
            recipient: raw.recipient,
            received_at: ReceivedAt(1_795_255_200_000_000),
            request_id: "r1",
        };
        let form = providers::parse(provider, raw.raw, &envelope);
        let form = form.map(|event| (event.kind, event.recipient.unwrap_or_default().to_string()));
        let form = form.map_err(|error| error.code());
        seen.push(Seen { kind: raw.kind, recipient: raw.recipient.to_owned(), form });
    });
    split.map(|_| seen).map_err(|error| error.code())
}

fn sorted(events: Result<Vec<Seen>, &str>) -> Result<Vec<Seen>, &str> {
    let mut events = events?;
    events.sort_by(|one, other| one.recipient.cmp(&other.recipient));
    Ok(events)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    files.map(|file| file.unwrap().path()).filter(|path| path.is_file()).collect()
}

fn bodies() -> Vec<(Provider, PathBuf)> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folders = |provider: Provider| {
        let fixtures = crates.join(format!("providers/src/{provider}/fixtures"));
        let samples = crates.join(format!("../../../shared/samples/{provider}"));
        [fixtures, samples].into_iter().flat_map(move |folder| files(&folder))
    };
    Provider::ALL
        .into_iter()
        .flat_map(|provider| folders(provider).map(move |path| (provider, path)))
        .collect()
}

#[test]
fn every_body_gives_the_same_events_of_nobody() {
    let pseudonyms = Pseudonyms::new(b"a key of the tests alone").unwrap();
    let pseudonym = |address: &str| pseudonyms.of(address).unwrap_or_else(|| address.to_owned());
    let mut addresses = 0;
    for (provider, path) in bodies() {
        let body = std::fs::read(&path).unwrap();
        let published = pseudonyms.body(&body);
        let name = path.display();
        let (before, after) = (events(provider, &body), events(provider, &published));
        let expected = before.as_ref().map_err(|&code| code).map(|events| {
            let of_nobody = |seen: &Seen| Seen {
                kind: seen.kind,
                recipient: pseudonym(&seen.recipient),
                form: seen.form.clone().map(|(kind, recipient)| (kind, pseudonym(&recipient))),
            };
            events.iter().map(of_nobody).collect::<Vec<_>>()
        });
        // The order among the recipients of one event is that of their addresses.
        assert_eq!(sorted(after), sorted(expected), "{name}");
        let text = String::from_utf8_lossy(&published).to_lowercase().replace("%40", "@");
        for seen in before.unwrap_or_default().iter().filter(|seen| seen.recipient.contains('@')) {
            assert!(!text.contains(&seen.recipient), "{} in {name}", seen.recipient);
            addresses += 1;
        }
    }
    assert!(addresses > 50, "{addresses} addresses are not what providers post");
}
