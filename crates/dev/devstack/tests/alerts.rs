//! The alerts on Mailpulse itself: right by Prometheus's own tools, and about metrics that exist, on
//! ports that are scraped, with runbooks that are written.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use devstack::fetch::{amtool, promtool};
use serde::Deserialize;
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

/// Runs a tool in `deploy/prometheus`; what it finds wrong is ours to mend.
fn judge(tool: Result<PathBuf, devstack::Error>, arguments: &[&str]) {
    let tool = tool.unwrap();
    let mut command = Command::new(&tool);
    let output = command.args(arguments).current_dir(root().join("deploy/prometheus")).output();
    let output = output.unwrap();
    let said = [output.stdout, output.stderr].concat();
    let tool = tool.display();
    assert!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn prometheus_and_alertmanager_take_their_configuration() {
    judge(promtool(), &["check", "config", "prometheus.yml"]);
    judge(promtool(), &["check", "rules", "--lint-fatal", "rules.yml"]);
    judge(amtool(), &["check-config", "alertmanager.yml"]);
}

#[test]
fn every_alert_fires_when_it_should_and_not_before() {
    let tests = read("deploy/prometheus/rules_test.yml");
    for alert in rules().iter().filter_map(|rule| rule.alert.as_ref()) {
        assert!(tests.contains(alert.as_str()), "{alert} is not tested");
    }
    judge(promtool(), &["test", "rules", "rules_test.yml"]);
}

/// Words of `text` that begin with `prefix`, made of letters, digits and underscores.
fn words<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(move |word| word.starts_with(prefix))
}

/// Names of metrics that the binaries export, with the kind of macro that does it.
fn exported() -> BTreeMap<String, &'static str> {
    let mut names = BTreeMap::new();
    for (_, text) in sources() {
        for kind in ["counter!", "gauge!", "histogram!"] {
            for call in text.split(kind).skip(1) {
                let name = call.trim_start_matches(['(', ' ', '\n']).strip_prefix('"');
                let name = name.and_then(|rest| rest.split('"').next());
                names.extend(name.map(|name| (name.to_owned(), kind)));
            }
        }
        // Written by hand, for they are not whole numbers.
        for name in words(&text, "process_") {
            names.entry(name.to_owned()).or_insert("gauge!");
        }
    }
    names
}

#[test]
fn rules_are_about_metrics_that_are_exported() {
    let exported = exported();
    let mut seen = 0;
    for rule in rules() {
        // `mailpulse:…` are recorded by the rules themselves.
        let own = rule.expr.replace("mailpulse:", "recorded:");
        for name in words(&own, "mailpulse_").chain(words(&own, "process_")) {
            let of = |suffix: &str| {
                let base = name.strip_suffix(suffix)?;
                exported.get(base).filter(|&&kind| kind == "histogram!")
            };
            let parts = ["_bucket", "_count", "_sum"].into_iter().find_map(of);
            let there = parts.is_some() || exported.get(name).is_some_and(|k| *k != "histogram!");
            assert!(there, "{name} is exported by nobody, or not like this");
            seen += 1;
        }
    }
    assert!(seen > 15, "only {seen} metrics were found in {RULES}");
}

/// Values of labels that the rules name have to be values somebody sets.
#[test]
fn rules_are_about_values_that_occur() {
    let sources: String = sources().into_iter().map(|(_, text)| text).collect();
    let mut values = BTreeSet::new();
    for rule in rules() {
        for label in ["code", "outcome", "stage", "table", "job"] {
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
        let occurs = sources.contains(&format!("\"{value}\"")) || binaries.contains(&value);
        assert!(occurs, "{value} is nobody's");
    }
}

#[test]
fn every_alert_has_a_severity_a_summary_and_a_runbook() {
    let anchors = support::anchors(&read("docs/runbooks.md"));
    let written = |runbook: &str| {
        let anchor = runbook.strip_prefix("docs/runbooks.md#");
        anchor.is_some_and(|anchor| anchors.contains(anchor))
    };
    for rule in rules() {
        let Some(alert) = rule.alert else { continue };
        assert!(["warning", "critical"].contains(&rule.labels["severity"].as_str()), "{alert}");
        assert!(!rule.annotations["summary"].is_empty(), "{alert}");
        assert!(written(&rule.annotations["runbook"]), "{alert}: {:?}", rule.annotations);
    }
    // And monitor's.
    let settings = read("deploy/mailpulse.toml");
    let runbooks: Vec<_> =
        settings.lines().filter_map(|line| line.strip_prefix("runbook = ")).collect();
    assert!(runbooks.len() >= 4);
    for runbook in runbooks {
        assert!(written(runbook.trim_matches('"')), "{runbook}");
    }
}

#[derive(Deserialize)]
struct Prometheus {
    scrape_configs: Vec<Scrape>,
}

#[derive(Deserialize)]
struct Scrape {
    honor_labels: bool,
    dns_sd_configs: Vec<Names>,
}

#[derive(Deserialize)]
struct Names {
    names: BTreeSet<String>,
    port: u16,
}

#[test]
fn every_admin_port_is_scraped_and_every_absence_noticed() {
    let compose = Compose::load();
    let prometheus: Prometheus = yaml("deploy/prometheus/prometheus.yml");
    let [scrape] = &prometheus.scrape_configs[..] else { panic!("one scrape configuration") };
    assert!(scrape.honor_labels, "the rules tell monitor's halves apart");
    let [target] = &scrape.dns_sd_configs[..] else { panic!("one list of names") };
    assert_eq!(target.names, compose.own().map(|(name, _)| name.to_owned()).collect());
    for (name, service) in compose.own() {
        // That the settings say this port is checked in `compose.rs`.
        let check = service.healthcheck.as_ref().unwrap().test.join(" ");
        assert!(check.contains(&format!("/{} ", target.port)), "{name}");
    }

    let down = rules().into_iter().find(|rule| rule.alert.as_deref() == Some("MailpulseDown"));
    let down = down.unwrap().expr;
    for binary in binaries() {
        assert!(down.contains(&format!("absent(mailpulse_up{{job=\"{binary}\"}})")), "{binary}");
    }
}
