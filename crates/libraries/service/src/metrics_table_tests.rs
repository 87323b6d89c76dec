use std::collections::BTreeSet;
use std::path::Path;

use super::*;

/// Returns the text of every Rust file below `crates/*/*/src`.
fn sources() -> String {
    fn collect(directory: &Path, text: &mut String) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let mut text = String::new();
    for group in ["services", "libraries", "tools"] {
        for member in std::fs::read_dir(crates.join(group)).unwrap() {
            let member = member.unwrap().path();
            // This table and its tests name metrics without exporting them.
            let is_own = member.ends_with("service");
            let src = member.join("src");
            if is_own {
                text.push_str(&std::fs::read_to_string(src.join("exposition.rs")).unwrap());
            } else if src.is_dir() {
                collect(&src, &mut text);
            }
        }
    }
    text
}

/// Returns the names of the metrics in `text`: string literals that begin with `mailpulse_`.
fn names(text: &str) -> BTreeSet<&str> {
    let literals = text.split('"').filter(|literal| literal.starts_with("mailpulse_"));
    let is_name = |literal: &&str| {
        literal
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
    };
    literals.filter(is_name).collect()
}

#[test]
fn the_table_lists_exactly_the_metrics_of_the_sources() {
    let sources = sources();
    let used = names(&sources);
    let listed: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert!(used.len() > 30, "the sources were not found: {used:?}");
    let missing: Vec<_> = used.difference(&listed).collect();
    assert!(missing.is_empty(), "add these metrics to the table, with HELP: {missing:?}");
    let unused: Vec<_> = listed.difference(&used).collect();
    assert!(unused.is_empty(), "remove these metrics from the table: {unused:?}");
    assert_eq!(listed.len(), METRICS.len(), "a name is listed twice");
}

#[test]
fn names_follow_the_conventions_of_prometheus() {
    for Metric { name, kind, help, .. } in METRICS {
        let is_counter = matches!(kind, MetricKind::Counter);
        assert_eq!(is_counter, name.ends_with("_total"), "{name}");
        if matches!(kind, MetricKind::Histogram(_)) {
            assert!(
                name.ends_with("_duration_seconds") || name.ends_with("_age_seconds"),
                "{name}"
            );
        }
        assert!(help.ends_with('.') && help.len() > 20, "{name}: {help}");
    }
}

#[test]
fn bounds_increase_and_contain_what_is_promised() {
    for metric in METRICS {
        let MetricKind::Histogram(bounds) = metric.kind else { continue };
        assert!(bounds.is_sorted_by(|a, b| a < b), "{}", metric.name);
        assert!(bounds.contains(&2.0) && bounds.contains(&5.0), "{}", metric.name);
    }
}
