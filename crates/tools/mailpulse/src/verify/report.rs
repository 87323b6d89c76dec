use std::fmt::Write;
use std::net::IpAddr;

use event::Provider;
use jiff::Timestamp;
use providers::Diagnosis;
use serde_json::{Value, json};

use crate::request::CapturedRequest;
use crate::text;

/// The result of `mailpulse verify`, as text or JSON.
pub(super) struct Report<'a> {
    pub(super) provider: Provider,
    pub(super) source: Option<&'a str>,
    pub(super) at: Timestamp,
    pub(super) remote_ip: Option<IpAddr>,
    pub(super) captured: &'a CapturedRequest,
    /// SHA-256 of the body, hexadecimal.
    pub(super) digest: String,
    pub(super) notes: Vec<String>,
    pub(super) diagnosis: &'a Diagnosis,
    pub(super) secret_names: &'a [String],
}

impl Report<'_> {
    /// Returns one line per property, check and fix, and the verdict at the end.
    pub(super) fn text(&self) -> String {
        let CapturedRequest { method, target, headers, body, .. } = self.captured;
        let from = self.remote_ip.map_or("an unknown address".to_owned(), |ip| ip.to_string());
        let mut lines = vec![
            ("request", format!("{method} {target}, {} headers", headers.len())),
            ("at", format!("{:.0}, from {from}", self.at)),
            ("body", format!("{} bytes, SHA-256 {}", body.len(), self.digest)),
        ];
        lines.extend(self.notes.iter().map(|note| ("note", note.clone())));
        // The body has a line above, even if verification did not reach it.
        for check in self.diagnosis.checks.iter().filter(|check| check.name != "body") {
            lines.push((check.result.as_str(), format!("{:<12} {}", check.name, check.detail)));
        }
        lines.extend(self.diagnosis.fixes.iter().map(|fix| ("fix", fix.clone())));
        let mut report = String::new();
        for (name, line) in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(report, "{name:<9}{}", text::escape_line(line.as_bytes()));
        }
        let _ = writeln!(report, "{}", self.verdict());
        report
    }

    fn verdict(&self) -> String {
        match &self.diagnosis.verdict {
            Ok(verified) => match self.secret_name(verified.key) {
                Some(name) => format!("authentic: by {name}"),
                None => "authentic".to_owned(),
            },
            Err(rejection) => format!("not authentic: {}: {rejection}", rejection.code()),
        }
    }

    /// Returns one object. The field names are stable.
    pub(super) fn json(&self) -> serde_json::Result<String> {
        let Diagnosis { verdict, checks, fixes } = self.diagnosis;
        let key = verdict.as_ref().ok().and_then(|verified| verified.key);
        let rejection = verdict.as_ref().err();
        let steps: Vec<Value> = checks
            .iter()
            .map(|check| {
                json!({"name": check.name, "outcome": check.result.as_str(), "detail": check.detail})
            })
            .collect();
        let report = json!({
            "verdict": if rejection.is_none() { "authentic" } else { "not_authentic" },
            "code": rejection.map(|rejection| rejection.code()),
            "reason": rejection.map(ToString::to_string),
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
            "fixes": fixes,
        });
        serde_json::to_string(&report).map(|line| line + "\n")
    }

    fn secret_name(&self, key: Option<usize>) -> Option<&str> {
        self.secret_names.get(key?).map(String::as_str)
    }
}
