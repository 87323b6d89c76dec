//! The tool as a process with its own directory. These tests need no Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use event::{Kind, Provider};
use tempfile::TempDir;
use testkit::{MailEvent, payloads};

/// The time for which requests are signed.
pub const AT: &str = "2026-11-21T10:00:00Z";
/// The URL of the webhook at Mandrill.
pub const URL: &str = "https://hooks.example.com/webhooks/mandrill/press";

/// What the tool wrote.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub out: Vec<u8>,
    pub text: String,
    pub err: String,
}

pub struct Tool {
    home: TempDir,
}

impl Tool {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    /// Writes a file into the tool's working directory.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.home.path().join(name), bytes).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, b"")
    }

    /// Runs the tool with `input` as its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mailpulse"))
            .args(arguments)
            .current_dir(self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // On another thread, because the tool may end before it has read everything.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Output {
            code: output.status.code().unwrap(),
            text: String::from_utf8_lossy(&output.stdout).into_owned(),
            out: output.stdout,
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Returns a request of a provider for ada@example.com, signed with fresh keys at [`AT`].
    pub fn signed(&self, provider: Provider) -> Vec<u8> {
        self.write("body", body(provider, Kind::Delivered).unwrap());
        let keys = format!("keys-{provider}");
        let name = provider.as_str();
        let common = ["sign", "--provider", name, "--generate-key", &keys, "--at", AT, "body"];
        let output = self.run(&[&common[..], scheme(provider)].concat());
        assert_eq!(output.code, 0, "{provider}: {output:?}");
        output.out
    }

    /// Verifies a request with the keys that [`Tool::signed`] made.
    pub fn verify(&self, provider: Provider, at: &str, request: &[u8]) -> Output {
        let secret = verifying_key(provider);
        let common =
            ["verify", "--provider", provider.as_str(), "--secret-file", &secret, "--at", at, "-"];
        self.run_with(&[&common[..], scheme(provider)].concat(), request)
    }
}

/// Returns the file with the key that verifies requests of [`Tool::signed`].
pub fn verifying_key(provider: Provider) -> String {
    let file = match provider {
        Provider::SendGrid => "public-key.txt",
        Provider::Postal => "public-key.pem",
        Provider::Ses => "certificate.pem",
        _ => "secret.txt",
    };
    format!("keys-{provider}/{provider}-{file}")
}

/// Returns the options that both `sign` and `verify` need.
pub fn scheme(provider: Provider) -> &'static [&'static str] {
    match provider {
        Provider::Mandrill => &["--url", URL],
        Provider::Brevo => &["--scheme", "bearer"],
        Provider::Mailjet => &["--header", "X-Webhook-Key"],
        _ => &[],
    }
}

/// Returns the body of an event as its provider posts it, or the part that `sign` wraps. `None` if the
/// provider has no such event.
pub fn body(provider: Provider, kind: Kind) -> Option<String> {
    let event = MailEvent::new(provider, "acme", kind, "ada@example.com", 7);
    payloads::json(&event).map(|json| match provider {
        Provider::SendGrid | Provider::Mandrill | Provider::SparkPost => format!("[{json}]"),
        _ => json.to_string(),
    })
}

/// Returns a file or folder in `../shared`, beside the repository.
///
/// # Panics
/// If it is missing. The test must then fail, not pass without a check.
pub fn shared(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared").join(path);
    assert!(path.exists(), "{} is missing", path.display());
    path
}

/// Returns `text` with the first occurrence of `from` replaced by `to`.
pub fn replaced(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = text.windows(from.len()).position(|window| window == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("{from} in {}", String::from_utf8_lossy(text)));
    [&text[..at], to.as_bytes(), &text[at + from.len()..]].concat()
}
