//! Compares `docs/metrics.md` with the code, the columns of ClickHouse, and the names in the documents.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use event::Counter;
use proptest::collection::vec;
use proptest::prelude::*;
use window::{Counts, Metric, Rates, ScopeKind, View, Width};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

fn page() -> String {
    fs::read_to_string(root().join("docs/metrics.md")).unwrap()
}

/// Returns the rows of the first table after a heading, as cells without the quotes of code.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).expect(heading);
    let lines = section.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2); // the header and its rule
    let cells = |row: &str| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    rows.map(cells).collect()
}

/// Returns the text of the first code in a cell.
fn code(cell: &str) -> String {
    cell.split('`').nth(1).unwrap_or_else(|| panic!("`{cell}` has no code")).to_owned()
}

fn codes(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The values of names in formulas.
type Values = BTreeMap<String, i64>;

/// Returns the value of a formula such as `sent + deferred - deferred_settled`.
fn evaluate(formula: &str, values: &Values) -> i64 {
    let (mut sum, mut sign) = (0, 1);
    for word in formula.split(' ') {
        match word {
            "+" => sign = 1,
            "-" => sign = -1,
            name => sum += sign * values.get(name).unwrap_or_else(|| panic!("unknown `{name}`")),
        }
    }
    sum
}

/// The formulas of the page in one view.
struct Definitions {
    denominators: Vec<(String, String)>,
    /// Name, numerator and denominator.
    rates: Vec<(String, String, String)>,
}

impl Definitions {
    /// Reads the page. A row `… of cohorts` replaces the row of the same name in the view by cohort.
    fn read(page: &str, view: View) -> Self {
        let is_of = |cell: &str| view == View::Cohort || !cell.ends_with("of cohorts");
        let mut denominators = Vec::new();
        for row in table(page, "Denominators").into_iter().filter(|row| is_of(&row[0])) {
            denominators.retain(|(name, _)| *name != code(&row[0]));
            denominators.push((code(&row[0]), code(&row[1])));
        }
        let mut rates = Vec::new();
        for row in table(page, "Rates").into_iter().filter(|row| is_of(&row[0])) {
            rates.retain(|(name, _, _)| *name != code(&row[0]));
            rates.push((code(&row[0]), code(&row[1]), code(&row[2])));
        }
        Self { denominators, rates }
    }

    /// Returns the rates, and the denominators with names.
    fn compute(&self, counts: &Counts) -> (BTreeMap<String, Option<f64>>, Values) {
        let counters = Counter::ALL.iter().map(|&it| (it.as_str().to_owned(), counts[it]));
        let mut values: Values = counters.collect();
        for (name, formula) in &self.denominators {
            let value = evaluate(formula, &values).max(0);
            values.insert(name.clone(), value);
        }
        let mut rates = BTreeMap::new();
        for (name, numerator, denominator) in &self.rates {
            let numerator = evaluate(numerator, &values).max(0);
            let denominator = evaluate(denominator, &values).max(0);
            let rate = (denominator > 0).then(|| (numerator as f64 / denominator as f64).min(1.0));
            rates.insert(name.clone(), rate);
        }
        (rates, values)
    }
}

proptest! {
    #[test]
    fn the_code_computes_what_the_page_defines(
        numbers in vec(0..50_i64, Counter::ALL.len()),
        is_cohort: bool,
    ) {
        let mut counts = Counts::default();
        for (&counter, number) in Counter::ALL.iter().zip(numbers) {
            counts.increase(counter, number);
        }
        let view = if is_cohort { View::Cohort } else { View::Arrival };
        let (expected, values) = Definitions::read(&page(), view).compute(&counts);
        let rates = Rates::of(&counts, view, true);
        prop_assert_eq!(rates.sent.cast_signed(), values["sent"]);
        let accepted = rates.accepted_by_recipient.cast_signed();
        prop_assert_eq!(accepted, values["accepted_by_recipient"]);
        for &metric in Metric::ALL {
            // Settled deferrals never exceed `sent` in real counts, as they do in random ones.
            let settled = counts[Counter::DeferredSettled];
            if settled > values["sent"] + counts[Counter::Deferred] {
                continue;
            }
            prop_assert_eq!(rates.get(metric), expected[metric.as_str()], "{}", metric);
        }
    }
}

#[test]
fn the_page_has_every_counter_and_rate_and_no_other() {
    let page = page();
    let counters: Vec<_> =
        table(&page, "What is counted").iter().map(|row| code(&row[0])).collect();
    let expected: Vec<_> = Counter::ALL.iter().map(|counter| counter.as_str()).collect();
    assert_eq!(counters, expected);
    let rates = Definitions::read(&page, View::Arrival).rates;
    let names: BTreeSet<_> = rates.iter().map(|(name, _, _)| name.as_str()).collect();
    let expected: BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.as_str()).collect();
    assert_eq!(names, expected);
}

#[test]
fn the_page_has_every_scope_and_width() {
    let page = page();
    let scopes: Vec<_> = table(&page, "Scopes").iter().map(|row| code(&row[0])).collect();
    let expected: Vec<_> = ScopeKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(scopes, expected);
    let rows = table(&page, "Windows");
    let widths: BTreeSet<_> = rows.iter().flat_map(|row| codes(&row[0])).collect();
    let expected: BTreeSet<_> = Width::ALL.iter().map(|width| width.as_str()).collect();
    assert_eq!(widths, &expected | &BTreeSet::from(["cohort"]));
}

/// Returns all files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn the_table_rates_has_every_counter_and_rate() {
    let migrations = files(&root().join("schemas/clickhouse"));
    let sql: String = migrations
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let words: BTreeSet<_> = sql.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for counter in Counter::ALL {
        assert!(words.contains(counter.as_str()), "column {}", counter.as_str());
    }
    for metric in Metric::ALL {
        let column = format!("{}_rate", metric.as_str());
        assert!(words.contains(column.as_str()), "column {column}");
    }
}

#[test]
fn documents_rules_and_queries_use_names_of_the_page_only() {
    // Names of limits, settings and signals that end like a rate, and expressions for all rates.
    let mut known: BTreeSet<String> = [
        "min_body_rate",
        "source_rate",
        "body_rate",
        "gmail_unusual_rate",
        "campaign_rate",
        "NAME_rate",
        "_rate",
    ]
    .map(str::to_owned)
    .into();
    known.extend(Metric::ALL.iter().map(|metric| format!("{}_rate", metric.as_str())));
    let root = root();
    let mut documents = files(&root.join("docs"));
    documents.extend(files(&root.join("deploy")));
    documents.extend(files(&root.join("schemas")));
    documents.extend(["README.md", "ARCHITECTURE.md"].map(|name| root.join(name)));
    let mut wrong = Vec::new();
    for path in documents {
        let Ok(text) = fs::read_to_string(&path) else { continue }; // an image
        let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        let unknown = words.filter(|word| word.ends_with("_rate") && !known.contains(*word));
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        wrong.extend(unknown.map(|word| format!("{name}: {word}")));
    }
    assert!(wrong.is_empty(), "names that docs/metrics.md does not define: {wrong:#?}");
}
