//! Compares `docs/alerts.md` and `docs/runbooks.md` with the default rules.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use alerting::rule::{Rule, Test};
use alerting::{RuleSet, Share};
use serde::Serialize;

/// Reads a file of the workspace.
fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the rows of the first table after a heading, as cells.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).expect(heading);
    rows(section)
}

/// Returns the rows of the first table, as cells.
fn rows(section: &str) -> Vec<Vec<String>> {
    let lines = section.lines().map(str::trim).skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2); // the header and its rule
    let cells = |row: &str| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    rows.map(cells).collect()
}

/// Returns the texts of code in a cell.
fn codes(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns the number in a cell such as `200; 20 in …`.
fn number(cell: &str) -> u64 {
    let digits = cell.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    digits.parse().unwrap_or_else(|_| panic!("`{cell}` does not begin with a number"))
}

/// Returns a threshold: `2 %`, `3×`, `10⁻⁴`, or `–` for none. `<` marks that a smaller value is bad.
fn threshold(cell: &str) -> Option<f64> {
    let text = cell.trim_start_matches("< ");
    let parse = |digits: &str| -> f64 { digits.parse().unwrap_or_else(|_| panic!("`{cell}`")) };
    match text {
        "–" => None,
        "10⁻⁴" => Some(1e-4),
        "10⁻⁶" => Some(1e-6),
        _ => Some(match (text.strip_suffix(" %"), text.strip_suffix('×')) {
            (Some(percent), _) => parse(percent) / 100.0,
            (None, Some(times)) => parse(times),
            (None, None) => panic!("`{cell}` is not a threshold"),
        }),
    }
}

fn is_same(left: Option<f64>, right: Option<f64>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => (left - right).abs() <= 1e-9 * right,
        (left, right) => left == right,
    }
}

/// Returns the stable name of a value, as in JSON.
fn name(value: impl Serialize) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
}

fn defaults() -> Vec<Rule> {
    RuleSet::defaults().rules().iter().map(|rule| Rule::clone(rule)).collect()
}

#[test]
fn the_page_has_every_default_rule_with_its_values() {
    let rows = table(&read("docs/alerts.md"), "Default rules");
    let rules = defaults();
    let names: Vec<_> = rows.iter().map(|row| codes(&row[0])[0].clone()).collect();
    let expected: Vec<_> = rules.iter().map(|rule| rule.name.clone()).collect();
    assert_eq!(names, expected);
    for (row, rule) in rows.iter().zip(&rules) {
        let about = &rule.name;
        let [_, metric, basis, scopes, windows, warning, critical, page, volume, count] = &row[..]
        else {
            panic!("{about}: ten columns")
        };
        assert_eq!(codes(metric), [name(rule.metric)], "{about}");
        assert_eq!(codes(basis), [name(rule.basis)], "{about}");
        let kinds: Vec<_> = rule.scopes.iter().map(|kind| kind.as_str().to_owned()).collect();
        assert_eq!(codes(scopes), kinds, "{about}");
        assert_eq!(scopes == "all", kinds.is_empty(), "{about}");
        let expected: Vec<_> = rule.windows.iter().map(ToString::to_string).collect();
        assert_eq!(codes(windows), expected, "{about}");
        let cells = [(warning, rule.warning), (critical, rule.critical), (page, rule.page)];
        for (cell, expected) in cells {
            assert!(is_same(threshold(cell), expected), "{about}: `{cell}` is {expected:?}");
            let is_under = rule.direction == window::Direction::Under;
            assert_eq!(cell.starts_with('<'), is_under && expected.is_some(), "{about}: `{cell}`");
        }
        assert_eq!(number(volume), rule.min_volume, "{about}");
        assert_eq!(number(count), rule.min_count, "{about}");
        let small = rule.small.as_ref().map(|small| (small.min_volume, small.windows.clone()));
        let shown = volume.split_once("; ").map(|(_, small)| (number(small), codes(small)));
        assert_eq!(shown, small, "{about}");
    }
}

#[test]
fn the_page_has_the_test_and_error_rate_of_every_default_rule() {
    let mut shown = BTreeMap::new();
    for row in table(&read("docs/alerts.md"), "When a rule is broken") {
        let [test, _, confidence, rules] = &row[..] else { panic!("four columns: {row:?}") };
        for rule in codes(rules) {
            let previous = shown.insert(rule, (codes(test)[0].clone(), confidence.clone()));
            assert_eq!(previous, None, "a rule has one test");
        }
    }
    let expected = defaults().into_iter().map(|rule| {
        let confidence = match rule.test {
            Test::Count | Test::Gap => "–".to_owned(),
            _ => rule.confidence.to_string(),
        };
        (rule.name, (name(rule.test), confidence))
    });
    assert_eq!(shown, expected.collect());
}

#[test]
fn the_page_defines_every_share() {
    let page = read("docs/alerts.md");
    let (_, section) = page.split_once("\n  | share | is |\n").unwrap();
    let rows = rows(&format!("| share | is |\n{section}"));
    let shown: Vec<_> = rows.iter().map(|row| codes(&row[0])[0].clone()).collect();
    let shares = [
        Share::AuthRefused,
        Share::Throttled,
        Share::Listed,
        Share::Suppressed,
        Share::Unclassified,
        Share::Gap,
        Share::DeliveriesMissing,
    ];
    assert_eq!(shown, shares.map(name));
}

/// Returns the anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let text = heading.trim().to_lowercase();
    text.replace(|c: char| !c.is_ascii_alphanumeric() && !" -_".contains(c), "").replace(' ', "-")
}

#[test]
fn every_default_rule_has_a_runbook_with_what_people_need_at_night() {
    let page = read("docs/runbooks.md");
    let sections: BTreeMap<_, _> = page
        .split("\n## ")
        .skip(1)
        .filter_map(|section| section.split_once('\n'))
        .map(|(heading, text)| (anchor(heading), text))
        .collect();
    for rule in defaults() {
        let link = rule.runbook.strip_prefix("docs/runbooks.md#").unwrap();
        let section = sections.get(link);
        let section = section.unwrap_or_else(|| panic!("no section has the anchor {link}"));
        for part in ["**Page.**", "**Look.**", "```sql", "**Do.**", "**Ends.**"] {
            assert!(section.contains(part), "the runbook of {} has no {part}", rule.name);
        }
    }
}
