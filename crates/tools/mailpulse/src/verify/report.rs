//! What `verify` found, for people and for machines.

use std::fmt::Write;
use std::net::IpAddr;

use event::Provider;
use jiff::Timestamp;
use providers::Examination;
use serde_json::{Value, json};

use crate::request::Captured;
use crate::text;

/// Everything that is told.
pub(super) struct Report<'a> {
    pub(super) provider: Provider,
    pub(super) source: Option<&'a str>,
    pub(super) at: Timestamp,
    pub(super) remote_ip: Option<IpAddr>,
    pub(super) captured: &'a Captured,
    /// SHA-256 of the body, hexadecimal.
    pub(super) digest: String,
    pub(super) notes: Vec<String>,
    pub(super) examination: &'a Examination,
    pub(super) secret_names: &'a [String],
}

impl Report<'_> {
    /// A line per fact and step, and the verdict at the end.
    pub(super) fn text(&self) -> String {
        let Captured { method, target, headers, body, .. } = self.captured;
        let from = self.remote_ip.map_or("an unknown address".to_owned(), |ip| ip.to_string());
        let mut lines = vec![
            ("request", format!("{method} {target}, {} headers", headers.len())),
            ("at", format!("{:.0}, from {from}", self.at)),
            ("body", format!("{} bytes, SHA-256 {}", body.len(), self.digest)),
        ];
        lines.extend(self.notes.iter().map(|note| ("note", note.clone())));
        // The body is said above, also where nothing came to look at it.
        for step in self.examination.steps.iter().filter(|step| step.name != "body") {
            lines.push((step.outcome.as_str(), format!("{:<12} {}", step.name, step.detail)));
        }
        lines.extend(self.examination.mends.iter().map(|mend| ("mend", mend.clone())));
        let mut report = String::new();
        for (name, line) in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(report, "{name:<9}{}", text::line(line.as_bytes()));
        }
        let _ = writeln!(report, "{}", self.verdict());
        report
    }

    fn verdict(&self) -> String {
        match &self.examination.verdict {
            Ok(verified) => match self.secret_name(verified.key) {
                Some(name) => format!("authentic: by {name}"),
                None => "authentic".to_owned(),
            },
            Err(refusal) => format!("not authentic: {}: {refusal}", refusal.code()),
        }
    }

    /// One object; the names are stable.
    pub(super) fn json(&self) -> serde_json::Result<String> {
        let Examination { verdict, steps, mends } = self.examination;
        let key = verdict.as_ref().ok().and_then(|verified| verified.key);
        let refusal = verdict.as_ref().err();
        let steps: Vec<Value> = steps
            .iter()
            .map(|step| {
                json!({"name": step.name, "outcome": step.outcome.as_str(), "detail": step.detail})
            })
            .collect();
        let report = json!({
            "verdict": if refusal.is_none() { "authentic" } else { "not_authentic" },
            "code": refusal.map(|refusal| refusal.code()),
            "reason": refusal.map(ToString::to_string),
            "key": key,
            "secret": self.secret_name(key),
            "provider": self.provider,
            "source": self.source,
            "at": self.at.to_string(),
            "remote_ip": self.remote_ip,
            "method": self.captured.method.as_str(),
            "target": self.captured.target,
            "body": {"bytes": self.captured.body.len(), "sha256": self.digest},
            "notes": self.notes,
            "steps": steps,
            "mends": mends,
        });
        serde_json::to_string(&report).map(|line| line + "\n")
    }

    fn secret_name(&self, key: Option<usize>) -> Option<&str> {
        self.secret_names.get(key?).map(String::as_str)
    }
}
