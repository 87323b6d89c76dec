//! The tool as a process, in a directory of its own. Nothing here needs Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use event::{Kind, Provider};
use tempfile::TempDir;
use testkit::{Fact, shape};

/// The moment requests are signed for.
pub const AT: &str = "2026-11-21T10:00:00Z";
/// The webhook's address at Mandrill.
pub const URL: &str = "https://hooks.example.com/webhooks/mandrill/press";

/// What a run of the tool said.
#[derive(Debug)]
pub struct Said {
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

    /// Writes a file into the tool's directory, where it is found by its name.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.home.path().join(name), bytes).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, b"")
    }

    /// Runs the tool with `input` as its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Said {
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
        // Aside, since the tool may answer before it has read everything; or read nothing at all.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Said {
            code: output.status.code().unwrap(),
            text: String::from_utf8_lossy(&output.stdout).into_owned(),
            out: output.stdout,
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// A signed request of a provider under fresh keys, for the moment [`AT`]; its body is of an
    /// event at ada@example.com.
    pub fn signed(&self, provider: Provider) -> Vec<u8> {
        self.write("body", body(provider, Kind::Delivered).unwrap());
        let keys = format!("keys-{provider}");
        let name = provider.as_str();
        let common = ["sign", "--provider", name, "--generate-key", &keys, "--at", AT, "body"];
        let said = self.run(&[&common[..], scheme(provider)].concat());
        assert_eq!(said.code, 0, "{provider}: {said:?}");
        said.out
    }

    /// `mailpulse verify` of a request with the keys that [`Tool::signed`] made.
    pub fn verify(&self, provider: Provider, at: &str, request: &[u8]) -> Said {
        let secret = verifying_key(provider);
        let common =
            ["verify", "--provider", provider.as_str(), "--secret-file", &secret, "--at", at, "-"];
        self.run_with(&[&common[..], scheme(provider)].concat(), request)
    }
}

/// The file by which requests are verified that were signed with the fresh keys beside it.
pub fn verifying_key(provider: Provider) -> String {
    let file = match provider {
        Provider::SendGrid => "public-key.txt",
        Provider::Postal => "public-key.pem",
        Provider::Ses => "certificate.pem",
        _ => "secret.txt",
    };
    format!("keys-{provider}/{provider}-{file}")
}

/// What both sides must be told.
pub fn scheme(provider: Provider) -> &'static [&'static str] {
    match provider {
        Provider::Mandrill => &["--url", URL],
        Provider::Brevo => &["--scheme", "bearer"],
        Provider::Mailjet => &["--header", "X-Webhook-Key"],
        _ => &[],
    }
}

/// Something that happened, as the body that its provider would post or what goes into it; `None`
/// where the provider has no words for it.
pub fn body(provider: Provider, kind: Kind) -> Option<String> {
    let fact = Fact::new(provider, "acme", kind, "ada@example.com", 7);
    shape::json(&fact).map(|json| match provider {
        Provider::SendGrid | Provider::Mandrill | Provider::SparkPost => format!("[{json}]"),
        _ => json.to_string(),
    })
}

/// A file of the material beside the repository, where there is some.
pub fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared").join(path);
    path.exists().then_some(path)
}

/// `text` with its first `from` made into `to`, byte for byte.
pub fn replaced(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = text.windows(from.len()).position(|window| window == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("{from} in {}", String::from_utf8_lossy(text)));
    [&text[..at], to.as_bytes(), &text[at + from.len()..]].concat()
}
