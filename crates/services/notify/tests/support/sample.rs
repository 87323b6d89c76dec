// Incidents as monitor writes them. Included by the unit tests and by the integration tests.

use alerting::Change;
use serde_json::{Value, json};

/// The time of every incident: 2023-11-14T22:13:20Z, in microseconds.
pub const START: i64 = 1_700_000_000_000_000;

/// Returns a value of `mail.incidents` for the incident of a source: a warning, or from `Escalated` on a
/// page. Each record is one second later than the one before.
pub fn incident(change: Change, seq: u32, source: &str) -> Value {
    let digest: u64 = source
        .bytes()
        .fold(7, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let id = format!("{digest:032x}");
    let at = START + i64::from(seq - 1) * 1_000_000;
    let is_resolved = change == Change::Resolved;
    let severity = if change == Change::Escalated { "page" } else { "warning" };
    let state = if is_resolved { "resolved" } else { "firing" };
    json!({
        "id": id,
        "seq": seq,
        "page": seq,
        "change": change,
        "state": if is_resolved { "resolved" } else { "open" },
        "severity": severity,
        "family": "bounces",
        "group": "source",
        "of": format!("sendgrid/{source}"),
        "opened_at": START,
        "at": at,
        "lead": {
            "episode_id": id,
            "rule": "hard_bounces",
            "scope": "source",
            "provider": "sendgrid",
            "source": source,
            "severity": severity,
            "state": state,
            "metric": "bounce",
            "width": "5m",
            "value": 0.164,
            "threshold": 0.1,
            "numerator": 82,
            "volume": 501,
            "started_at": START,
            "at": at,
            "runbook": "docs/runbooks.md#hard-bounces",
            "summary": format!(
                "{source} at SendGrid: hard bounces 16.4 % in 5 min (82 of 501 sent), limit 10 %, lower bound 11.4 %"
            ),
            "family": "bounces",
            "basis": "arrival",
            "seq": seq,
            "bound": 0.114,
            "from": START - 300_000_000,
            "to": START,
            "as_of": {"0": 17},
        },
        "others": [],
        "episodes": 1,
        "open_episodes": if is_resolved { 0 } else { 1 },
        "opened_by": id,
    })
}
