//! `/health`: how a process is, in one word, with the reasons and the figures behind it.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Health, Liveness, Readiness};

/// How a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Grade {
    /// It does its work.
    Healthy,
    /// It works, but somebody should look at it.
    Degraded,
    /// It does not work.
    Critical,
}

/// What `/health` answers.
#[derive(Debug, Serialize)]
pub(crate) struct Condition {
    pub(crate) status: Grade,
    /// Why it is not healthy, in sentences.
    reasons: Vec<String>,
    /// The sums of these metrics, by their names without `mailpulse_`. Those that the process does not have are missing.
    figures: Map<String, Value>,
}

/// A gauge that says that somebody should look at the process.
struct Trouble {
    metric: &'static str,
    /// Whether a value of one of its series is trouble.
    is_trouble: fn(f64) -> bool,
    reason: &'static str,
}

const TROUBLES: [Trouble; 9] = [
    Trouble {
        metric: "mailpulse_ingress_spooling",
        is_trouble: is_positive,
        reason: "Kafka does not acknowledge in time, so requests go to the spool",
    },
    Trouble {
        metric: "mailpulse_ingress_quarantined_items",
        is_trouble: is_positive,
        reason: "parts of the spool are in quarantine; see `mailpulse spool ls`",
    },
    Trouble {
        metric: "mailpulse_ingress_last_reload_successful",
        is_trouble: is_zero,
        reason: "a changed file was not accepted, so the former content is in use; the log says why",
    },
    Trouble {
        metric: "mailpulse_partition_held",
        is_trouble: is_positive,
        reason: "a partition is paused, because too many records in a row became dead letters",
    },
    Trouble {
        metric: "mailpulse_position_mismatch",
        is_trouble: is_positive,
        reason: "a partition is held, because its offset contradicts mail.positions",
    },
    Trouble {
        metric: "mailpulse_archive_partition_held",
        is_trouble: is_positive,
        reason: "a partition is not archived; /readyz and the log say why",
    },
    Trouble {
        metric: "mailpulse_notify_circuit_open",
        is_trouble: is_positive,
        reason: "a channel of notify is given a pause, because its attempts fail",
    },
    Trouble {
        metric: "mailpulse_forward_circuit_open",
        is_trouble: is_positive,
        reason: "a forward is given a pause, because its attempts fail",
    },
    Trouble {
        metric: "mailpulse_automate_circuit_open",
        is_trouble: is_positive,
        reason: "a receiver of automate is given a pause, because its attempts fail",
    },
];

const FIGURES: [&str; 8] = [
    "mailpulse_lag_records",
    "mailpulse_processed_records_total",
    "mailpulse_dead_letters_total",
    "mailpulse_ingress_in_flight_records",
    "mailpulse_ingress_spool_requests",
    "mailpulse_ingress_spool_bytes",
    "mailpulse_archive_rows_total",
    "mailpulse_transaction_failures_total",
];

fn is_positive(value: f64) -> bool {
    value > 0.0
}

fn is_zero(value: f64) -> bool {
    value == 0.0
}

impl Condition {
    /// `exposition` is what `/metrics` answers. `is_stopping`: the process was asked to end.
    pub(crate) fn of(health: &Health, is_stopping: bool, exposition: &str) -> Self {
        let mut condition =
            Self { status: Grade::Healthy, reasons: Vec::new(), figures: Map::new() };
        if let Liveness::Stuck(age) = health.liveness() {
            let seconds = age.as_secs();
            let reason = format!("the main loop has made no progress for {seconds} s");
            condition.add(Grade::Critical, reason);
        }
        match health.readiness() {
            _ if is_stopping => condition.add(Grade::Degraded, "the process is shutting down"),
            Readiness::Ready => {}
            Readiness::Held(reason) => condition.add(Grade::Critical, reason),
            Readiness::Starting => condition.add(Grade::Degraded, "the process is starting"),
            Readiness::Draining => condition.add(Grade::Degraded, "the process is shutting down"),
        }
        for Trouble { metric, is_trouble, reason } in TROUBLES {
            if values(exposition, metric).any(is_trouble) {
                condition.add(Grade::Degraded, reason);
            }
        }
        for metric in FIGURES {
            if let Some(sum) = values(exposition, metric).reduce(|sum, value| sum + value) {
                let name = metric.trim_start_matches("mailpulse_").to_owned();
                condition.figures.insert(name, sum.into());
            }
        }
        condition
    }

    fn add(&mut self, grade: Grade, reason: impl Into<String>) {
        self.status = self.status.max(grade);
        self.reasons.push(reason.into());
    }
}

/// Returns the values of all series of a metric.
fn values<'t>(exposition: &'t str, metric: &'t str) -> impl Iterator<Item = f64> + 't {
    exposition.lines().filter_map(move |line| {
        let rest = line.strip_prefix(metric)?;
        let is_whole_name = rest.starts_with(['{', ' ']);
        is_whole_name.then(|| rest.rsplit_once(' ')?.1.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::METRICS;

    #[test]
    fn every_metric_exists() {
        let of_troubles = TROUBLES.iter().map(|trouble| trouble.metric);
        for metric in of_troubles.chain(FIGURES) {
            assert!(METRICS.iter().any(|known| known.name == metric), "{metric}");
        }
    }

    #[test]
    fn trouble_degrades_and_a_hold_is_critical() {
        let health = Health::new();
        let of = |exposition: &str| Condition::of(&health, false, exposition);
        assert_eq!(of("").status, Grade::Degraded, "the process is starting");
        health.ready();
        let fine = of(
            "# HELP x\nmailpulse_partition_held{topic=\"a\"} 0\nmailpulse_lag_records{t=\"a b\"} 3\n\
                       mailpulse_lag_records{t=\"c\"} 4\nmailpulse_ingress_spooling 0\n",
        );
        assert_eq!((fine.status, fine.reasons.len()), (Grade::Healthy, 0));
        assert_eq!(Value::Object(fine.figures), serde_json::json!({ "lag_records": 7.0 }));
        for exposition in [
            "mailpulse_ingress_spooling 1\n",
            "mailpulse_partition_held{topic=\"a\"} 0\nmailpulse_partition_held{topic=\"b\"} 1\n",
            "mailpulse_ingress_last_reload_successful{part=\"sources\"} 0\n",
        ] {
            let condition = of(exposition);
            assert_eq!((condition.status, condition.reasons.len()), (Grade::Degraded, 1));
        }
        assert_eq!(of("mailpulse_ingress_spooling_since 1\n").status, Grade::Healthy);
        health.hold("ClickHouse is away");
        let held = of("mailpulse_ingress_spooling 1\n");
        assert_eq!(held.status, Grade::Critical);
        assert_eq!(held.reasons[0], "ClickHouse is away");
        assert_eq!(held.reasons.len(), 2);
    }
}
