//! What a verification looked at, for people. The verifiers tell it to a [`Trace`], which is off
//! on the way of an event: then nothing is written or computed for it.

use sha2::{Digest, Sha256};

use crate::{Refusal, Verified};

/// As much of a text as is shown.
const LONGEST_SHOWN: usize = 2_048;

/// A verification explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// What [`crate::Authenticator::verify`] says.
    pub verdict: Result<Verified, Refusal>,
    /// What was looked at, in order.
    pub steps: Vec<Step>,
    /// After a refusal: what, if it were changed, would make the request pass or tell more. Each
    /// is a sentence.
    pub mends: Vec<String>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it was, such as `signature` or `timestamp`.
    pub name: &'static str,
    /// How it went.
    pub outcome: Outcome,
    /// What was found. Never a secret.
    pub detail: String,
}

/// How a [`Step`] went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// The reason for the refusal.
    Failed,
    /// Nothing to check, or for information only.
    Skipped,
}

impl Outcome {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Where a verifier tells what it looks at.
#[derive(Debug)]
pub(crate) struct Trace(Option<Vec<Step>>);

impl Trace {
    /// One that keeps nothing: what is told is not even put into words.
    pub(crate) const fn off() -> Self {
        Self(None)
    }

    /// One that keeps everything.
    pub(crate) const fn on() -> Self {
        Self(Some(Vec::new()))
    }

    pub(crate) fn passed(&mut self, name: &'static str, detail: impl FnOnce() -> String) {
        self.step(name, Outcome::Passed, detail);
    }

    pub(crate) fn failed(&mut self, name: &'static str, detail: impl FnOnce() -> String) {
        self.step(name, Outcome::Failed, detail);
    }

    pub(crate) fn skipped(&mut self, name: &'static str, detail: impl FnOnce() -> String) {
        self.step(name, Outcome::Skipped, detail);
    }

    fn step(&mut self, name: &'static str, outcome: Outcome, detail: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.0 {
            steps.push(Step { name, outcome, detail: detail() });
        }
    }

    /// What the signature covers: the parts one after the other.
    pub(crate) fn signed(&mut self, parts: &[&[u8]]) {
        self.skipped("signed", || shown(&parts.concat()));
    }

    /// The body's length and digest.
    pub(crate) fn body(&mut self, body: &[u8]) {
        self.skipped("body", || {
            format!("{} bytes, SHA-256 {}", body.len(), hex::encode(Sha256::digest(body)))
        });
    }

    /// The scheme has no time in what it signs.
    pub(crate) fn undated(&mut self) {
        self.skipped("timestamp", || "nothing that is signed says when: any age passes".to_owned());
    }

    /// Which of the source's secrets made the signature, if any.
    pub(crate) fn key(&mut self, key: Option<usize>, count: usize) {
        match key {
            Some(key) => self.passed("key", || format!("secrets[{key}] of {count} made it")),
            None => self.failed("key", || format!("none of {count} secrets made it")),
        }
    }

    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.0.unwrap_or_default()
    }
}

/// Bytes as a text in which nothing is lost, cut where it grows too long to read.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let start = bytes.get(..LONGEST_SHOWN).unwrap_or(bytes);
    let rest = bytes.len() - start.len();
    let more = if rest > 0 { format!("… and {rest} bytes more") } else { String::new() };
    format!("{} bytes: {}{more}", bytes.len(), start.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_that_is_off_puts_nothing_into_words() {
        let mut trace = Trace::off();
        trace.passed("x", || panic!("not asked for"));
        assert_eq!(trace.into_steps(), []);
    }

    #[test]
    fn bytes_are_shown_without_loss_and_cut() {
        assert_eq!(shown(b"a\r\n\xff"), "4 bytes: a\\r\\n\\xff");
        assert!(shown(&[b'a'; 3_000]).ends_with("a… and 952 bytes more"));
    }
}
