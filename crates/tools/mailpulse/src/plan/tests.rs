use std::path::Path;

use super::*;

fn read(path: &str) -> String {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    std::fs::read_to_string(workspace.join(path)).unwrap()
}

fn args(events_per_second: u64) -> args::Plan {
    args::Plan { events_per_second, events_per_request: 1, utilisation: 0.5, json: false }
}

fn plan(events_per_second: u64) -> Plan {
    Plan::of(&args(events_per_second), Duration::from_secs(1), &figures::MEASURED)
}

/// The section of docs/benchmarks.md about this command, and the rest of the page.
fn benchmarks() -> (String, String) {
    let text = read("docs/benchmarks.md");
    let (before, rest) = text.split_once("\n## The figures of `mailpulse plan`\n").unwrap();
    let (section, after) = rest.split_once("\n## ").unwrap_or((rest, ""));
    (section.to_owned(), format!("{before}\n{after}"))
}

/// Returns the rows of a table: name, value, and the words of the measurement.
fn rows(section: &str) -> Vec<[String; 3]> {
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, value, words] = cells[..] else { panic!("{row}") };
        [name, value, words].map(str::to_owned)
    })
    .collect()
}

#[test]
fn the_figures_are_those_of_the_benchmarks() {
    let used = figures::MEASURED;
    let figures = [
        ("ingress, requests of one event", used.ingress_one),
        ("ingress, events in requests of 50", used.ingress_fifty),
        ("enrich", used.enrich),
        ("dedupe", used.dedupe),
        ("monitor", used.monitor),
        ("archive", used.archive),
        ("ClickHouse, rows", used.clickhouse_rows),
        ("ClickHouse, one insert (ms)", used.insert_seconds * 1000.0),
        ("everything on two cores, events per second", used.together),
        ("Kafka (GB)", used.kafka_gb),
        ("ClickHouse (GB)", used.clickhouse_gb),
    ];
    let (section, others) = benchmarks();
    let documented = rows(&section);
    assert_eq!(documented.len(), figures.len(), "{documented:?}");
    for ((name, used), [found, value, words]) in figures.into_iter().zip(documented) {
        assert_eq!(found, name);
        let (digits, factor) = match value.strip_suffix(" k") {
            Some(digits) => (digits, 1000.0),
            None => (&*value, 1.0),
        };
        let number = digits.parse::<f64>().unwrap() * factor;
        assert!(used > 0.0 && (number - used).abs() < 1e-9 * used, "{name}: {value} and {used}");
        // The words are those of the measurement, elsewhere on the page, and contain the figure.
        let words = words.trim_matches('`');
        assert!(others.contains(words), "{name}: `{words}` is not on the page");
        assert!(words.contains(digits), "{name}: `{words}` does not contain {digits}");
    }
}

#[test]
fn the_tables_of_the_page_about_scaling_are_what_the_command_prints() {
    let text = read("docs/scaling.md");
    for rate in [1_000, 100_000, 1_000_000] {
        let command = format!("$ mailpulse plan --events-per-second {rate}\n");
        let (_, rest) = text.split_once(&command).unwrap_or_else(|| panic!("{command}"));
        let printed = rest.split("```").next().unwrap();
        assert_eq!(printed, plan(rate).to_string(), "{command}");
    }
}

#[test]
fn a_higher_rate_never_needs_less() {
    let mut before = plan(1);
    for rate in [10, 1_000, 10_000, 100_000, 1_000_000, 10_000_000] {
        let next = plan(rate);
        assert!(next.recipient_partitions >= before.recipient_partitions);
        assert!(next.scope_partitions >= before.scope_partitions);
        for (next, before) in next.services.iter().zip(&before.services) {
            assert!(next.members >= before.members, "{}", next.service);
            assert!(next.cores / float(next.members) <= 0.5, "{}", next.service);
        }
        // Every member of a group has a partition.
        let widest = next.services.iter().skip(1).map(|it| it.members).max().unwrap();
        assert!(next.recipient_partitions >= widest);
        assert!(next.kafka.servers >= before.kafka.servers);
        assert!(next.clickhouse.servers >= before.clickhouse.servers);
        before = next;
    }
}

#[test]
fn larger_requests_and_longer_batches_cost_less() {
    let many = args::Plan { events_per_request: 50, ..args(100_000) };
    let many = Plan::of(&many, Duration::from_secs(1), &figures::MEASURED);
    let one = plan(100_000);
    assert!(many.services[0].members * 4 < one.services[0].members);
    let per_million = |plan: &Plan| plan.services[0].cpu_seconds_per_million;
    assert!((per_million(&one) - 1e6 / figures::MEASURED.ingress_one).abs() < 1e-6);
    assert!((per_million(&many) - 1e6 / figures::MEASURED.ingress_fifty).abs() < 1e-6);
    let slow = Plan::of(&args(100_000), Duration::from_secs(2), &figures::MEASURED);
    assert!(slow.clickhouse.cores < one.clickhouse.cores);
}
