//! The example clients against the service.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{READER, Setup};
use event::Kind;
use serde_json::{Value, json};

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../examples/clients")
}

/// Runs a command to its end and returns the JSON that it prints.
fn output(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

/// Two addresses that must not be mailed, one of which may get receipts.
fn suppressed(setup: &Setup) -> common::Member {
    let member = setup.start("", "");
    setup.process(&[
        setup.bounce("ada+x@x.com", 1, ("hard", "recipient")),
        setup.event(Kind::Unsubscribed, "bob@x.com", 1, &json!({})),
    ]);
    member.await_reasons("ada%2Bx@x.com", "", &["hard_bounce"]);
    member.await_reasons("bob@x.com", "", &["unsubscribe"]);
    member
}

/// What both clients say about four addresses.
fn expected() -> Value {
    json!({
        "allowed": ["eve@x.com"],
        "suppressed": {"ada+x@x.com": ["hard_bounce"], "bob@x.com": ["unsubscribe"], "nobody": ["invalid"]},
        "newsletter": false,
        "receipt": true,
        "problem": "wrong_token",
    })
}

const PYTHON: &str = r#"
import json, sys
sys.dont_write_bytecode = True
from mailpulse_suppressions import Suppressions, SuppressionsUnavailable
url, token = sys.argv[1:]
client = Suppressions(url, token, list="ses/news")
addresses = ["ada+x@x.com", "bob@x.com", "nobody", "eve@x.com"]
try:
    Suppressions(url, "wrong").allowed(addresses)
except SuppressionsUnavailable as error:
    problem = error.code
print(json.dumps({
    "allowed": client.allowed(addresses),
    "suppressed": client.suppressed(addresses),
    "newsletter": client.may_send("bob@x.com"),
    "receipt": client.may_send("bob@x.com", purpose="transactional"),
    "problem": problem,
    "changes": [change["reason"] for change, cursor in client.changes()],
}))
"#;

#[test]
fn the_python_client_checks_before_sending() {
    let setup = Setup::new("suppress-python");
    let member = suppressed(&setup);
    let mut found = output(
        Command::new("python3")
            .args(["-c", PYTHON, &format!("http://{}", member.api), READER])
            .current_dir(clients().join("python")),
    );
    let changes = found.as_object_mut().unwrap().remove("changes").unwrap();
    let mut changes: Vec<_> = changes.as_array().unwrap().iter().map(Value::to_string).collect();
    changes.sort();
    assert_eq!(changes, ["\"hard_bounce\"", "\"unsubscribe\""]);
    assert_eq!(found, expected());
}

const NODE: &str = r#"
import { Suppressions } from "./out/mailpulse-suppressions.js";
const [url, token] = process.argv.slice(2);
const client = new Suppressions(url, token, { list: "ses/news" });
const addresses = ["ada+x@x.com", "bob@x.com", "nobody", "eve@x.com"];
const problem = await new Suppressions(url, "wrong").allowed(addresses).catch((error) => error.code);
console.log(JSON.stringify({
  allowed: await client.allowed(addresses),
  suppressed: Object.fromEntries(await client.suppressed(addresses)),
  newsletter: await client.maySend("bob@x.com"),
  receipt: await client.maySend("bob@x.com", { purpose: "transactional" }),
  problem,
}));
"#;

/// The compiler comes from npm, as the ClickHouse engine of the tests does.
#[test]
fn the_typescript_client_compiles_and_checks_before_sending() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let source = path.join("mailpulse-suppressions.ts");
    std::fs::copy(clients().join("typescript/mailpulse-suppressions.ts"), &source).unwrap();
    std::fs::write(path.join("package.json"), "{\"type\":\"module\"}").unwrap();
    std::fs::write(path.join("check.mjs"), NODE).unwrap();
    let compiled = Command::new("npx")
        .args(
            "--yes --package typescript@5.9.3 tsc --strict --erasableSyntaxOnly --outDir out"
                .split(' '),
        )
        .args(
            "--target es2022 --lib es2022,dom --module nodenext --moduleResolution nodenext"
                .split(' '),
        )
        .arg("mailpulse-suppressions.ts")
        .current_dir(path)
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stdout));

    let setup = Setup::new("suppress-typescript");
    let member = suppressed(&setup);
    let url = format!("http://{}", member.api);
    let found = output(Command::new("node").args(["check.mjs", &url, READER]).current_dir(path));
    assert_eq!(found, expected());
}
