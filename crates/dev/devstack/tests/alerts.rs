//! Tests the alert rules on Mailpulse itself with Prometheus's own tools. The rules must name exported
//! metrics, scraped ports and existing runbooks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use devstack::fetch::{amtool, promtool};
use serde::Deserialize;
use service::{METRICS, MetricKind};
use support::{Compose, binaries, read, root, sources, yaml};

const RULES: &str = "deploy/prometheus/rules.yml";

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: Option<String>,
    expr: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn rules() -> Vec<Rule> {
    yaml::<Rules>(RULES).groups.into_iter().flat_map(|group| group.rules).collect()
}

/// Runs a tool in `deploy/prometheus` and asserts that it succeeds.
fn check(tool: Result<PathBuf, devstack::fetch::Error>, arguments: &[&str]) {
    let tool = tool.unwrap();
    let mut command = Command::new(&tool);
    let output = command.args(arguments).current_dir(root().join("deploy/prometheus")).output();
    let output = output.unwrap();
    let text = [output.stdout, output.stderr].concat();
    let tool = tool.display();
    assert!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&text));
}

#[test]
fn prometheus_and_alertmanager_accept_their_configuration() {
    check(promtool(), &["check", "config", "prometheus.yml"]);
    check(promtool(), &["check", "rules", "--lint-fatal", "rules.yml"]);
    check(amtool(), &["check-config", "alertmanager.yml"]);
}

#[test]
fn every_alert_is_tested_and_the_tests_pass() {
    let tests = read("deploy/prometheus/rules_test.yml");
    for alert in rules().iter().filter_map(|rule| rule.alert.as_ref()) {
        assert!(tests.contains(alert.as_str()), "{alert} has no test");
    }
    check(promtool(), &["test", "rules", "rules_test.yml"]);
}

/// Returns the words of `text` that begin with `prefix`. A word consists of ASCII letters, digits and
/// underscores.
fn words<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(move |word| word.starts_with(prefix))
}

/// Returns the names of the series that the services export.
fn exported() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter | MetricKind::Gauge => drop(names.insert(metric.name.to_owned())),
            MetricKind::Histogram(_) => names.extend(
                ["_bucket", "_count", "_sum"].map(|suffix| format!("{}{suffix}", metric.name)),
            ),
        }
    }
    // The process metrics are not in the table.
    let exposition = read("crates/libraries/service/src/exposition.rs");
    names.extend(words(&exposition, "process_").map(str::to_owned));
    names
}

#[test]
fn rules_name_exported_metrics() {
    let exported = exported();
    let mut seen = 0;
    for rule in rules() {
        // The rules record `mailpulse:…` themselves.
        let expression = rule.expr.replace("mailpulse:", "recorded:");
        for name in words(&expression, "mailpulse_").chain(words(&expression, "process_")) {
            assert!(exported.contains(name), "no service exports {name}");
            seen += 1;
        }
    }
    assert!(seen > 15, "only {seen} metrics found in {RULES}");
}

/// Every label value that a rule selects occurs in the sources.
#[test]
fn rules_name_label_values_that_the_sources_set() {
    let sources: String = sources().into_iter().map(|(_, text)| text).collect();
    let mut values = BTreeSet::new();
    for rule in rules() {
        for label in ["code", "outcome", "stage", "table", "component", "entry"] {
            for operator in ["=\"", "=~\"", "!=\""] {
                for selected in rule.expr.split(&format!("{label}{operator}")).skip(1) {
                    let selected = selected.split('"').next().unwrap();
                    values.extend(selected.split('|').map(str::to_owned));
                }
            }
        }
    }
    assert!(values.contains("wrong_signature") && values.contains("monitor-fold"), "{values:?}");
    let binaries = binaries();
    for value in values {
        // The label of each forward is the stage and the forward's name.
        let value = value.strip_suffix("-.+").unwrap_or(&value);
        let occurs = sources.contains(&format!("\"{value}\"")) || binaries.contains(value);
        assert!(occurs, "no source contains the label value {value}");
    }
}

#[test]
fn every_alert_has_a_severity_a_summary_and_a_runbook() {
    let anchors = support::anchors(&read("docs/runbooks.md"));
    let exists = |runbook: &str| {
        let anchor = runbook.strip_prefix("docs/runbooks.md#");
        anchor.is_some_and(|anchor| anchors.contains(anchor))
    };
    for rule in rules() {
        let Some(alert) = rule.alert else { continue };
        assert!(["warning", "critical"].contains(&rule.labels["severity"].as_str()), "{alert}");
        assert!(!rule.annotations["summary"].is_empty(), "{alert}");
        assert!(exists(&rule.annotations["runbook"]), "{alert}: {:?}", rule.annotations);
    }
}

#[derive(Deserialize)]
struct Prometheus {
    scrape_configs: Vec<Scrape>,
}

#[derive(Deserialize)]
struct Scrape {
    dns_sd_configs: Vec<Names>,
}

#[derive(Deserialize)]
struct Names {
    names: BTreeSet<String>,
    port: u16,
}

#[test]
fn every_admin_port_is_scraped_and_every_missing_service_fires_an_alert() {
    let compose = Compose::load();
    let prometheus: Prometheus = yaml("deploy/prometheus/prometheus.yml");
    let [scrape] = &prometheus.scrape_configs[..] else { panic!("one scrape configuration") };
    let [target] = &scrape.dns_sd_configs[..] else { panic!("one list of names") };
    // A verb of the tool has no admin port.
    let services = || compose.own().filter(|(_, service)| !service.runs_the_tool());
    assert_eq!(target.names, services().map(|(name, _)| name.to_owned()).collect());
    for (name, service) in services() {
        // `compose.rs` checks that the settings have this port.
        let check = service.healthcheck.as_ref().unwrap().test.join(" ");
        assert!(check.contains(&format!("/{} ", target.port)), "{name}");
    }

    let down = rules().into_iter().find(|rule| rule.alert.as_deref() == Some("MailpulseDown"));
    let down = down.unwrap().expr;
    for binary in binaries() {
        assert!(
            down.contains(&format!("absent(mailpulse_up{{component=\"{binary}\"}})")),
            "{binary}"
        );
    }
}
