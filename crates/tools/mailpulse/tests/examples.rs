//! The examples in the help texts of commands that need no server are run as they are written. Those of the others
//! are read by a test in `src/args.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tool;

use std::path::Path;
use std::process::{Command, Stdio};

use event::{Kind, Provider};
use tool::{Tool, URL};

/// The commands that need no server, in the order in which their examples are run.
const COMMANDS: [&str; 12] = [
    "sign",
    "verify",
    "parse",
    "rules ls",
    "rules check",
    "rules explain",
    "automation check",
    "sources ls",
    "topics",
    "plan",
    "completions",
    "man",
];

const SETTINGS: &str = "[[source]]\nprovider = \"ses\"\nname = \"news\"\nsecrets = [\"file:keys/ses-certificate.pem\"]\n\
     topics = [\"arn:aws:sns:eu-west-1:123456789012:mail-events\"]\n";

const AUTOMATION: &str = "[[automation.rule]]\nname = \"vip-clicked\"\nwhen = { kinds = [\"clicked\"] }\n\
     cooldown = \"7d\"\ndo = [{ type = \"segment.add\", name = \"warm\" }]\n";

/// Returns the examples in the help of a command, each as one line.
fn examples(command: &str) -> Vec<String> {
    let words = command.split(' ').chain(["--help"]);
    let output = Command::new(env!("CARGO_BIN_EXE_mailpulse")).args(words).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap().replace("\\\n", "");
    let section = help.split_once("\nExamples:\n").or_else(|| help.split_once("\nExample:\n"));
    let (_, section) = section.unwrap_or_else(|| panic!("`{command}` has no example: {help}"));
    section.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// Returns a directory with the files that the examples name.
fn directory() -> Tool {
    let tool = Tool::new();
    let body = |provider| tool::body(provider, Kind::Delivered).unwrap();
    tool.write("key.txt", "a secret of the examples\n");
    tool.write("secret.txt", "whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB\n");
    tool.write("event.json", body(Provider::Mailgun));
    tool.write("body.json", body(Provider::SendGrid));
    tool.write("ses.json", body(Provider::Ses));
    tool.write("batch.json", body(Provider::Mandrill));
    tool.write("mailpulse.toml", SETTINGS);
    tool.write("new.toml", AUTOMATION);
    std::fs::create_dir(tool.path("man1")).unwrap();
    tool
}

/// Runs a line in a shell, with `input` as its standard input.
fn shell(tool: &Tool, line: &str, input: &[u8]) -> (Option<i32>, String) {
    use std::io::Write;
    let binaries = Path::new(env!("CARGO_BIN_EXE_mailpulse")).parent().unwrap().display();
    let mut child = Command::new("sh")
        .args(["-c", line])
        .env("PATH", format!("{binaries}:{}", std::env::var("PATH").unwrap()))
        .current_dir(tool.path("."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads no input may have ended.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Writes the request that an example of `verify` or `parse` reads.
fn prepare(tool: &Tool, line: &str) -> Vec<u8> {
    let sign = if line.contains("--provider ses") {
        if !tool.path("keys/ses-private-key.pem").exists() {
            let (code, err) = shell(tool, "mailpulse sign --provider ses --generate-key keys", b"");
            assert_eq!(code, Some(0), "{err}");
        }
        "sign --provider ses --secret-file keys/ses-private-key.pem ses.json".to_owned()
    } else if line.contains("--provider mandrill") {
        format!("sign --provider mandrill --secret-file key.txt --url {URL} batch.json")
    } else {
        "sign --provider mailgun --secret-file key.txt event.json".to_owned()
    };
    let signed = tool.run(&sign.split(' ').collect::<Vec<_>>());
    assert_eq!(signed.code, 0, "{signed:?}");
    tool.write("request.http", &signed.out);
    signed.out
}

#[test]
fn examples_that_need_no_server_succeed() {
    let tool = directory();
    let mut runs = 0;
    for command in COMMANDS {
        let begin = format!("mailpulse {command}");
        for line in examples(command) {
            // What the output is piped into need not be installed here.
            let first = line.split(" | ").next().unwrap();
            if !first.starts_with(&begin) {
                continue; // another command whose output is piped into this one
            }
            let is_about_requests = matches!(command, "verify" | "parse");
            let input = if is_about_requests { prepare(&tool, first) } else { Vec::new() };
            let (code, err) = shell(&tool, first, &input);
            assert_eq!(code, Some(0), "{line}: {err}");
            runs += 1;
        }
    }
    assert!(runs > 20, "{runs}");
    let pages = std::fs::read_dir(tool.path("man1")).unwrap().count();
    assert!(pages > 40, "{pages}");
    let page = std::fs::read_to_string(tool.path("man1/mailpulse-dead-letters-redrive.1")).unwrap();
    assert!(page.contains("mailpulse dead\\-letters redrive \\-\\-stage enrich"), "{page}");
    let unknown = tool.run(&["man", "dead-letters", "nothing"]);
    assert!(unknown.code == 2 && unknown.err.contains("dead-letters nothing"), "{unknown:?}");
}
