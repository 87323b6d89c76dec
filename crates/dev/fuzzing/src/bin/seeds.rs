//! Writes the seeds of the fuzzer to `seeds/`, from the providers' fixtures, testkit's traffic and
//! the documented formats. Run it again when a provider is added.

use std::fs;
use std::path::{Path, PathBuf};

use event::Provider;
use fuzzing::{NOW, spool_segment, verify};
use testkit::{Plan, Traffic};

fn main() -> std::io::Result<()> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../libraries");
    bodies(&crates.join("providers/src"))?;
    requests()?;
    segments()?;
    headers()?;
    changelog()?;
    settings()
}

/// A folder of numbered seed files.
struct Folder {
    path: PathBuf,
    written: usize,
}

impl Folder {
    /// Empties the folder.
    fn new(name: &str) -> std::io::Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(Self { path, written: 0 })
    }

    fn add(&mut self, choice: Option<usize>, bytes: &[u8]) -> std::io::Result<()> {
        let choice = choice.and_then(|choice| u8::try_from(choice).ok());
        let seed: Vec<u8> = choice.into_iter().chain(bytes.iter().copied()).collect();
        fs::write(self.path.join(format!("{:03}", self.written)), seed)?;
        self.written += 1;
        Ok(())
    }
}

/// The smallest bodies with which a check failed before.
const REGRESSIONS: [(Provider, &str); 1] = [(Provider::Mailgun, r#"{"event-data":{"id":"a"}}"#)];

/// Writes the fixtures of every provider, and [`REGRESSIONS`].
fn bodies(providers: &Path) -> std::io::Result<()> {
    let mut folder = Folder::new("bodies")?;
    for (choice, provider) in Provider::ALL.into_iter().enumerate() {
        let fixtures = fs::read_dir(providers.join(provider.as_str()).join("fixtures"))?;
        let mut paths =
            fixtures.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            folder.add(Some(choice), &fs::read(path)?)?;
        }
        for (_, body) in REGRESSIONS.into_iter().filter(|(of, _)| *of == provider) {
            folder.add(Some(choice), body.as_bytes())?;
        }
    }
    Ok(())
}

/// Writes complete requests for every source, signed with the wrong keys.
fn requests() -> std::io::Result<()> {
    let mut folder = Folder::new("requests")?;
    let impostor = verify::credentials().impostor();
    let sources = testkit::SOURCES.map(|(provider, name)| (provider, name.to_owned()));
    let plan = Plan { sources: sources.to_vec(), ..Plan::small(&impostor, NOW) };
    let traffic = Traffic::new(1, plan);
    for (choice, (provider, name)) in testkit::SOURCES.into_iter().enumerate() {
        let path = format!("/webhooks/{provider}/{name}");
        for request in traffic.requests().filter(|request| request.path == path).take(2) {
            let head: String =
                request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            folder.add(Some(choice), &[head.as_bytes(), b"\n", &request.body].concat())?;
        }
    }
    Ok(())
}

/// Writes valid, torn, damaged and blank segments, and an input for the target's own segments.
fn segments() -> std::io::Result<()> {
    let mut folder = Folder::new("segments")?;
    let valid = spool_segment::segment(&[b"one", b"two", &[7; 300]]);
    folder.add(None, &valid)?;
    folder.add(None, &valid[..valid.len() - 1])?;
    folder.add(None, &[&valid[..], &[0; 64]].concat())?;
    folder.add(None, &[&valid[..], &[255; 64]].concat())?;
    let mut changed = valid.clone();
    changed[12] ^= 1;
    folder.add(None, &changed)?;
    folder.add(None, &[&[1; 8][..], &valid].concat())?;
    folder.add(None, b"\x00\x05\x01one\x00two\x00three and four")
}

fn headers() -> std::io::Result<()> {
    let mut folder = Folder::new("headers")?;
    let raw = "provider: ses\nsource: acme\nreceived-at: 1795255200123456\nrequest-id: r-1\n";
    let event = "event-id: 0123456789abcdef\nkind: opened\noccurred-at: 1795255200000000\n\
                 engagement-id: fedcba9876543210\nfirst: kind,engagement\n";
    let dead_letter = "reason: not_json\ndetail: expected value\nstage: enrich\n\
                  origin: mail.raw.delivered/2/17\n";
    let redriven = "redriven: archive\n";
    for seed in [raw, event, dead_letter, redriven] {
        folder.add(None, seed.as_bytes())?;
    }
    folder.add(None, [raw, event, dead_letter, dead_letter, redriven].concat().as_bytes())?;
    let counted = "unauthentic: \nsent-at: 1795255199000000\nwould-count: opened,engaged\n\
                   dimension-digests: 0123456789\nseen: 1\nsent: 1795255199000000\n\
                   counts: opened\n\
                   corrections: campaign:-bounced_soft@1795255200000000,+deferred@-5\n";
    folder.add(None, [raw, event, counted].concat().as_bytes())?;
    // The headers of this release; those before are of the one before.
    let counted =
        b"for-dedupe: \x01\x02\x00\x00\x000123456789\ntally: 1;1795255199000000;delivered\n";
    folder.add(None, &[event.as_bytes(), counted].concat())
}

fn changelog() -> std::io::Result<()> {
    let mut folder = Folder::new("changelog")?;
    let mut entry = vec![1];
    entry.extend(8_u64.to_be_bytes());
    entry.extend(9_u64.to_be_bytes());
    entry.extend(2_u32.to_be_bytes());
    entry.extend([5; 2 * 20]);
    entry.extend(1_u32.to_be_bytes());
    entry.extend([6; 21]);
    folder.add(Some(0), &entry)?;
    let scope = r#""scope":"campaign","provider":"ses","source":"acme","campaign":"spring""#;
    let episode = r#"{"severity":"warning","started_at":1795255200000000,"reading":{"width":"5m","part":15,"volume":200},"held_at":1795255210000000,"metric":"bounce","threshold":0.05,"runbook":""}"#;
    for (choice, json) in [
        (1, r#"{"start":1795255200000000,"corrections":1,"counts":{"accepted":4}}"#.to_owned()),
        (2, format!(r#"{{"bounces":{episode}}}"#)),
        (3, format!(r#"{{{scope},"pane":20000000,"counts":{{"accepted":4,"bounced_soft":1}}}}"#)),
        (4, format!(r#"{{{scope},"width":"5m","end":30000000,"revision":2,"counts":{{"accepted":53265,"bounced_hard":582}},"rates":{{"sent":4,"accepted_by_recipient":0,"bounce":0.25,"hard_bounce":0.0,"complaint":null,"unsubscribe":null,"open":null,"click":null,"engagement":null}}}}"#)),
        (5, format!(r#"{{"episode_id":"0123456789abcdef0123456789abcdef","rule":"bounces",{scope},"severity":"warning","state":"firing","metric":"bounce","width":"5m","value":0.075,"threshold":0.05,"numerator":15,"volume":200,"started_at":50000000,"at":50000000,"runbook":"docs/runbooks.md#bounce-rate","summary":"too many"}}"#)),
        (6, r#"{"event_id":"0123456789abcdef0123456789abcdef","kind":"opened","provider":"ses","source":"acme","occurred_at":1795255200000000,"received_at":1795255201000000,"recipient":"ada@example.com","message_id":"m-1","automation":{"reason":"bot","confidence":0.9},"provider_event":"Open","request_id":"r-1","raw":{"a":1}}"#.to_owned()),
        (7, "campaign/sendgrid/acme/50%25%20off%2F%C3%A9".to_owned()),
    ] {
        folder.add(Some(choice), json.as_bytes())?;
    }
    Ok(())
}

fn settings() -> std::io::Result<()> {
    let mut folder = Folder::new("settings")?;
    let credentials = verify::credentials();
    for (provider, name) in testkit::SOURCES {
        folder.add(Some(0), credentials.source_toml(provider, name).as_bytes())?;
    }
    folder
        .add(Some(0), b"[ingress]\nread_timeout = \"5s\"\n[kafka.properties]\n\"a.b\" = \"1\"\n")?;
    folder.add(
        Some(1),
        b"KAFKA__BOOTSTRAP: a:9092\nKAFKA__PROPERTIES__LINGER_MS: 5\nINGRESS__SPOOL_BYTES: 1\n",
    )
}
