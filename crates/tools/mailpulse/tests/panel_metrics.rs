//! The panels that read Prometheus: each metric is exported, and has the labels that the panel names.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod panels;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use panels::{dashboards, targets};

/// The labels of each metric.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// Labels that Prometheus adds to everything that it reads.
const ADDED: [&str; 2] = ["instance", "job"];

/// Returns the labels that the sources set: in `counter!("name", "label" => value)` and its like.
fn labels() -> Labels {
    fn collect(directory: &Path, found: &mut Labels) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                of_source(&std::fs::read_to_string(&path).unwrap(), found);
            }
        }
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let mut found = Labels::new();
    for group in ["services", "libraries", "tools"] {
        for member in std::fs::read_dir(crates.join(group)).unwrap() {
            let src = member.unwrap().path().join("src");
            if src.is_dir() {
                collect(&src, &mut found);
            }
        }
    }
    found
}

fn of_source(text: &str, found: &mut Labels) {
    for part in ["counter!(", "gauge!(", "histogram!("].iter().flat_map(|it| text.split(it).skip(1))
    {
        let Some(rest) = part.trim_start().strip_prefix('"') else { continue };
        let Some((name, rest)) = rest.split_once('"') else { continue };
        let mut depth = 1;
        let arguments = rest.split_inclusive(['(', ')']).take_while(|piece| {
            let is_inside = depth > 0;
            depth += if piece.ends_with('(') { 1 } else { -1 };
            is_inside
        });
        let arguments: String = arguments.collect();
        let labels = found.entry(name.to_owned()).or_default();
        for before in arguments.split("=>").collect::<Vec<_>>().split_last().unwrap().1 {
            let label = before.trim_end().trim_end_matches('"').rsplit('"').next().unwrap();
            labels.insert(label.to_owned());
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// Returns the words in the parentheses after each `keyword`.
fn listed<'e>(expression: &'e str, keyword: &str) -> Vec<&'e str> {
    let after = expression.match_indices(keyword).filter_map(|(at, _)| {
        let before = expression[..at].chars().next_back();
        let rest = expression[at + keyword.len()..].trim_start().strip_prefix('(')?;
        let is_word = before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_');
        is_word.then(|| rest.split(')').next().unwrap_or_default())
    });
    after.flat_map(words).collect()
}

/// Checks an expression and the legend of its series.
fn check(labels: &Labels, expression: &str, legend: &str) -> Result<usize, String> {
    let metrics: Vec<&str> =
        words(expression).filter(|word| word.starts_with("mailpulse_")).collect();
    for metric in &metrics {
        if !service::METRICS.iter().any(|it| it.name == *metric) {
            return Err(format!("no service exports {metric}"));
        }
    }
    let has = |metric: &str, label: &str| {
        ADDED.contains(&label) || labels.get(metric).is_some_and(|set| set.contains(label))
    };
    let grouped = [listed(expression, "by"), listed(expression, "without")].concat();
    let in_legend = legend.split("{{").skip(1).map(|part| part.split("}}").next().unwrap().trim());
    let shown: Vec<&str> = in_legend.collect();
    // A binary operation may take a label from either side.
    let joined = [listed(expression, "on"), listed(expression, "group_left")].concat();
    for label in grouped.iter().chain(&shown).chain(&joined) {
        let of_all = !joined.contains(label) && metrics.iter().all(|metric| has(metric, label));
        let of_any = joined.contains(label) && metrics.iter().any(|metric| has(metric, label));
        if !(of_all || of_any) {
            return Err(format!("{metrics:?} have no label {label}"));
        }
    }
    for label in &shown {
        if words(expression).any(|word| word == "sum") && !grouped.contains(label) {
            return Err(format!("the legend names {label}, over which the expression sums"));
        }
    }
    for metric in &metrics {
        let selector = expression.split(metric).nth(1).unwrap_or_default();
        let selector = selector.strip_prefix('{').and_then(|it| it.split('}').next()).unwrap_or("");
        let selected: Vec<&str> = selector
            .split(',')
            .filter_map(|pair| pair.split(['=', '!']).next())
            .map(str::trim)
            .filter(|label| !label.is_empty())
            .collect();
        if let Some(label) = selected.iter().find(|label| !has(metric, label)) {
            return Err(format!("{metric} has no label {label}"));
        }
        // A sum of events, rates and alerts means nothing.
        if has(metric, "table") && !selected.contains(&"table") && !grouped.contains(&"table") {
            return Err(format!("{metric} sums over tables"));
        }
    }
    Ok(metrics.len())
}

#[test]
fn panels_name_exported_metrics_and_their_labels() {
    let labels = labels();
    let mut seen = 0;
    for (name, dashboard) in dashboards() {
        for (title, target) in targets(&dashboard) {
            let Some(expression) = target["expr"].as_str() else { continue };
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            let metrics = check(&labels, expression, legend);
            seen += metrics.unwrap_or_else(|error| panic!("{name}: {title}: {error}"));
        }
    }
    assert!(seen > 10, "only {seen} metrics were found");
}

#[test]
fn every_metric_has_its_labels() {
    let labels = labels();
    for metric in service::METRICS {
        assert!(labels.contains_key(metric.name), "no source sets {}", metric.name);
    }
    let of = |name: &str| labels[name].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(of("mailpulse_ingress_requests_total"), ["code", "provider", "source"]);
    assert_eq!(of("mailpulse_dead_letters_total"), ["reason", "stage"]);
    assert_eq!(of("mailpulse_ingress_spool_bytes"), [""; 0]);
}

#[test]
fn a_label_that_a_metric_does_not_have_is_an_error() {
    let labels = labels();
    let error = |expression: &str, legend: &str| check(&labels, expression, legend).unwrap_err();
    let status = "sum by (status) (rate(mailpulse_ingress_requests_total[5m]))";
    assert!(error(status, "{{status}}").contains("no label status"));
    let component = "sum by (component) (rate(mailpulse_dead_letters_total[5m])) * 60";
    assert!(error(component, "{{component}}").contains("no label component"));
    let tables = "sum(rate(mailpulse_archive_rows_total[5m]))";
    assert!(error(tables, "archived").contains("sums over tables"));
    let selected = "sum(rate(mailpulse_archive_rows_total{topic=\"x\"}[5m]))";
    assert!(error(selected, "").contains("no label topic"));
    let code = "sum by (code) (rate(mailpulse_ingress_requests_total[5m]))";
    assert!(error(code, "{{source}}").contains("the legend names source"));
    assert!(error("sum(mailpulse_spool_bytes)", "").contains("no service exports"));
    assert_eq!(check(&labels, code, "{{code}}"), Ok(1));
}
