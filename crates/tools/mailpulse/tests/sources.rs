//! `mailpulse sources ls` on a real ClickHouse, and without one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tool;

use harness::Database;
use serde_json::Value;
use tool::Tool;

const SOURCES: &str = r#"
[[source]]
provider = "sendgrid"
name = "acme"
secrets = ["a literal secret", "env:MAILPULSE_TEST_NO_SUCH_VARIABLE"]
[[source]]
provider = "svix"
name = "forum"
disabled = true
secrets = ["whsec_AAAA"]
[[source]]
provider = "brevo"
name = "bakery"
unverified = true
"#;

fn lines(tool: &Tool, arguments: &[&str]) -> (i32, Vec<Value>, String) {
    let output =
        tool.run(&[&["sources", "ls", "--config", "s.toml", "--json"], arguments].concat());
    let lines = output.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.code, lines, output.err)
}

#[test]
fn sources_have_their_url_their_secrets_and_their_last_event() {
    let database = Database::new("sources");
    database.create();
    let clickhouse =
        format!("[clickhouse]\nurl = {:?}\ndatabase = {:?}\n", database.url, database.name);
    let tool = Tool::new();
    tool.write("s.toml", format!("{clickhouse}{SOURCES}"));
    assert_eq!(tool.run(&["migrate", "--config", "s.toml"]).code, 0);
    database.execute(
        "INSERT INTO events (event_id, kind, provider, source, occurred_at, received_at) VALUES \
         ('1', 'opened', 'sendgrid', 'acme', now64() - 300, toStartOfHour(now64()) - 7200), \
         ('2', 'opened', 'sendgrid', 'acme', now64() - 300, toStartOfHour(now64()) - 3600), \
         ('3', 'opened', 'mailgun', 'acme', now64(), now64())",
    );
    let (code, found, err) = lines(&tool, &["--base", "https://hooks.example.com/"]);
    assert_eq!((code, found.len()), (1, 3), "{err}");
    assert!(err.contains("sendgrid/acme: ") && err.contains("NO_SUCH_VARIABLE"), "{err}");
    assert!(!err.contains("literal secret"), "{err}");
    let hour: String = database
        .one("SELECT formatDateTime(toStartOfHour(now()) - 3600, '%Y-%m-%dT%H:%i:%SZ', 'UTC')");
    assert_eq!(found[0]["last_event"], hour);
    assert_eq!(found[0]["url"], "https://hooks.example.com/webhooks/sendgrid/acme");
    assert_eq!((&found[0]["secrets_there"], &found[0]["secrets"]), (&1.into(), &2.into()));
    // The path has the provider's own name, although the settings have an alias.
    assert_eq!(found[1]["url"], "https://hooks.example.com/webhooks/standardwebhooks/forum");
    let states: Vec<&str> = found.iter().map(|it| it["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["ready", "disabled", "ready"]);
    assert!(found[2]["last_event"].is_null() && found[2]["last_event_known"] == true);
    let text = tool.run(&["sources", "ls", "--config", "s.toml"]);
    assert!(text.text.lines().nth(3).unwrap().ends_with(" /webhooks/brevo/bakery"), "{text:?}");
}

#[test]
fn without_clickhouse_the_last_events_are_not_known() {
    let tool = Tool::new();
    let all_there = SOURCES.replace(", \"env:MAILPULSE_TEST_NO_SUCH_VARIABLE\"", "");
    tool.write("s.toml", format!("[clickhouse]\nurl = \"http://127.0.0.1:1\"\n{all_there}"));
    let (code, found, err) = lines(&tool, &[]);
    assert_eq!((code, found.len()), (0, 3), "{err}");
    assert!(found.iter().all(|it| it["last_event_known"] == false && it["last_event"].is_null()));
    let text = tool.run(&["sources", "ls", "--config", "s.toml"]);
    assert!(text.text.contains("not known") && text.err.contains("clickhouse_away"), "{text:?}");
    let wrong = tool.run(&["sources", "ls", "--config", "s.toml", "--base", "hooks.example.com"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
}
