//! Records what a verification checked, for people. While events are processed the trace is off
//! and nothing is formatted or computed for it.

use sha2::{Digest, Sha256};

/// Longer texts are cut, to stay readable.
const MAX_SHOWN: usize = 2_048;

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked, such as `signature` or `timestamp`.
    pub name: &'static str,
    pub result: CheckResult,
    /// What was found. Never contains a secret.
    pub detail: String,
}

/// The result of a [`Check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckResult {
    Passed,
    /// This is why the request was rejected.
    Failed,
    /// There was nothing to check, or the detail is for information only.
    Skipped,
}

impl CheckResult {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// The checks of one verification, if they are recorded.
#[derive(Debug)]
pub(crate) struct Trace(Option<Vec<Check>>);

impl Trace {
    /// A trace that records nothing. The details are not even formatted.
    pub(crate) const fn off() -> Self {
        Self(None)
    }

    pub(crate) const fn on() -> Self {
        Self(Some(Vec::new()))
    }

    pub(crate) fn passed(&mut self, name: &'static str, detail: impl FnOnce() -> String) {
        self.record(name, CheckResult::Passed, detail);
    }

    pub(crate) fn failed(&mut self, name: &'static str, detail: impl FnOnce() -> String) {
        self.record(name, CheckResult::Failed, detail);
    }

    pub(crate) fn skipped(&mut self, name: &'static str, detail: impl FnOnce() -> String) {
        self.record(name, CheckResult::Skipped, detail);
    }

    fn record(&mut self, name: &'static str, result: CheckResult, detail: impl FnOnce() -> String) {
        if let Some(checks) = &mut self.0 {
            checks.push(Check { name, result, detail: detail() });
        }
    }

    /// Records the signed bytes: the concatenation of the parts.
    pub(crate) fn signed(&mut self, parts: &[&[u8]]) {
        self.skipped("signed", || shown(&parts.concat()));
    }

    /// Records the length and the digest of the body.
    pub(crate) fn body(&mut self, body: &[u8]) {
        self.skipped("body", || {
            format!("{} bytes, SHA-256 {}", body.len(), hex::encode(Sha256::digest(body)))
        });
    }

    /// Records that the signature covers no time.
    pub(crate) fn undated(&mut self) {
        self.skipped("timestamp", || "the signature covers no time, so any age passes".to_owned());
    }

    /// Records which of the source's secrets made the signature.
    pub(crate) fn key(&mut self, key: Option<usize>, count: usize) {
        match key {
            Some(key) => self.passed("key", || format!("secrets[{key}] of {count} made it")),
            None => self.failed("key", || format!("none of {count} secrets made it")),
        }
    }

    pub(crate) fn into_checks(self) -> Vec<Check> {
        self.0.unwrap_or_default()
    }
}

/// Returns bytes as a text that shows each of them, cut at [`MAX_SHOWN`].
pub(crate) fn shown(bytes: &[u8]) -> String {
    let start = bytes.get(..MAX_SHOWN).unwrap_or(bytes);
    let rest = bytes.len() - start.len();
    let more = if rest > 0 { format!("… and {rest} more bytes") } else { String::new() };
    format!("{} bytes: {}{more}", bytes.len(), start.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_that_is_off_formats_nothing() {
        let mut trace = Trace::off();
        trace.passed("x", || panic!("this was not requested"));
        assert_eq!(trace.into_checks(), []);
    }

    #[test]
    fn bytes_are_shown_without_loss_and_cut() {
        assert_eq!(shown(b"a\r\n\xff"), "4 bytes: a\\r\\n\\xff");
        assert!(shown(&[b'a'; 3_000]).ends_with("a… and 952 more bytes"));
    }
}
