//! `[forwarding]` and `[[forward]]`: the reference file works, and errors name the key and the fix.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use forward::settings::{Forward, ForwardingSettings};
use service::{Settings, SettingsError};

const SECRET: &str = "whsec_YW4gaW52ZW50ZWQga2V5IG9mIDMyIGJ5dGVzLi4uLi4=";

fn read(file: &str) -> Result<Vec<Forward>, SettingsError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mailpulse.toml");
    std::fs::write(&path, file).unwrap();
    let settings = Settings::load(Some(&path), std::iter::empty())?;
    ForwardingSettings::read(&settings)?.forwards(&settings)
}

fn table(lines: &str) -> String {
    format!(
        "[[forward]]\nname = \"crm\"\nurl = \"https://example.com/\"\nsecret = \"{SECRET}\"\n{lines}\n"
    )
}

fn error(lines: &str) -> String {
    read(&table(lines)).unwrap_err().to_string()
}

#[test]
fn the_reference_file_has_no_forward() {
    let settings = Settings::load(None, std::iter::empty()).unwrap();
    let own = ForwardingSettings::read(&settings).unwrap();
    assert_eq!(own.admin.port(), 9111);
    assert!(own.forwards(&settings).unwrap().is_empty());
}

/// People uncomment the example.
#[test]
fn the_example_in_the_reference_file_is_valid_and_shows_the_defaults() {
    let example: String = service::REFERENCE
        .lines()
        .skip_while(|line| *line != "# [[forward]]")
        .take_while(|line| line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| !line.starts_with('#'))
        .fold(String::new(), |file, line| file + line + "\n");
    let example = example.replace("env:MAILPULSE_CRM_SECRET", SECRET);
    let example = read(&example).expect(&example).remove(0);
    let default = read(&table("")).unwrap().remove(0);
    assert_eq!(example.name, "crm");
    assert_eq!(example.batch, default.batch);
    assert_eq!(example.retry, default.retry);
    assert_eq!(example.breaker, default.breaker);
    assert_eq!(
        (example.start, example.concurrent, example.in_flight, example.filter.human),
        (default.start, default.concurrent, default.in_flight, default.filter.human)
    );
    assert_eq!(example.filter.kinds.len(), 3);
}

#[test]
fn errors_name_the_key() {
    for (lines, key) in [
        ("name2 = 1", "forward[0].name2"),
        ("kinds = [\"exploded\"]", "forward[0].kinds"),
        ("sources = [\"[z-a\"]", "forward[0].sources"),
        ("recipients = \"(\"", "forward[0].recipients"),
        ("batch = { events = 0 }", "forward[0].batch.events"),
        ("batch = { bytes = 100000000 }", "forward[0].batch.bytes"),
        ("retry = { backoff = \"list\", intervals = [] }", "forward[0].retry.intervals"),
        ("breaker = { failures = 0 }", "forward[0].breaker"),
        ("timeout = \"0s\"", "forward[0].timeout"),
        ("concurrent = 0", "forward[0].concurrent"),
        ("in_flight = 100", "forward[0].in_flight"),
        ("recipient = \"half\"", "forward[0].recipient"),
        ("previous_secret = \"whsec_short\"", "forward[0].previous_secret"),
    ] {
        let error = error(lines);
        assert!(error.contains(key), "{lines}: {error}");
    }
    let twice = read(&(table("") + &table(""))).unwrap_err().to_string();
    assert!(twice.contains("forward[1].name"), "{twice}");
    let name = read(&table("").replace("crm", "C R M")).unwrap_err().to_string();
    assert!(name.contains("forward[0].name") && name.contains("hyphens"), "{name}");
    let private = read(&table("").replace("example.com", "127.0.0.1")).unwrap_err().to_string();
    assert!(private.contains("forward[0].url") && private.contains("allow_private"), "{private}");
    assert!(read(&table("allow_private = true").replace("example.com", "127.0.0.1")).is_ok());
    let many: String = (0..17).map(|n| table("").replace("crm", &format!("crm-{n}"))).collect();
    assert!(read(&many).unwrap_err().to_string().contains("at most 16"));
}
