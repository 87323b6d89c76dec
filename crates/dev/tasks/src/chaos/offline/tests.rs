use window::Direction;

use super::*;
use crate::chaos::balance::Matched;

const MINUTE: i64 = 60_000_000;

/// Returns lines of the answer.
fn cell(mailbox: &str, campaign: &str, pane: i64, delivered: i64, hard: i64) -> String {
    let pane = pane * PANE;
    let line = |counter: &str, number: i64| {
        let (old, cohort) = (0, if campaign.is_empty() { "" } else { "3600000000" });
        format!(
            "ses\tnews\t{mailbox}\t{campaign}\t\t\t{old}\t*\t{pane}\t{cohort}\t{counter}\t{number}\n"
        )
    };
    line("delivered", delivered) + &line("bounced_hard", hard)
}

fn source(timelines: &BTreeMap<Scope, Timeline>) -> &Timeline {
    &timelines[&Scope(["source", "ses", "news", "", "", "", "", ""].map(str::to_owned))]
}

/// Returns windows of one width as end, delivered messages and hard bounces.
fn of_width(windows: &[String], width: u32) -> Vec<(i64, i64, i64)> {
    let rows = windows
        .iter()
        .map(|window| window.split('\t').map(|field| field.parse().unwrap()).collect::<Vec<i64>>());
    let rows = rows.filter(|fields| fields[0] == i64::from(width));
    let count = |fields: &[i64], counter: Counter| fields[2 + counter as usize];
    rows.map(|it| (it[1], count(&it, Counter::Delivered), count(&it, Counter::BouncedHard)))
        .collect()
}

#[test]
fn windows_are_published_where_they_change_and_count_their_events() {
    let answer = cell("gmail", "spring", 0, 2, 0) + &cell("yahoo", "spring", 1, 3, 1);
    let timelines = timelines(&answer).unwrap();
    assert_eq!(timelines.len(), 4, "source, two mailbox providers, campaign");
    let without = super::timelines(&cell("gmail", "", 0, 2, 0)).unwrap();
    assert_eq!(without.len(), 2, "source and mailbox provider");
    let windows = source(&timelines).windows(i64::MAX);
    let second = 1_000_000;
    assert_eq!(
        of_width(&windows, 60),
        [
            (10 * second, 2, 0),
            (20 * second, 5, 1),
            (60 * second, 5, 1),
            (70 * second, 3, 1),
            (80 * second, 0, 0),
        ]
    );
    assert_eq!(
        of_width(&windows, 86_400),
        [(300 * second, 5, 1), (86_400 * second, 5, 1), (86_700 * second, 0, 0)]
    );
    assert_eq!(of_width(&windows, 0), [(7200 * second, 5, 1)]);
    let until_20 = source(&timelines).windows(20 * second);
    assert_eq!(until_20.len(), 2 * 4 + 1, "two ends of four widths, and the cohort");
}

#[test]
fn a_correction_counts_only_in_its_dimensions() {
    let correction = "ses\tnews\tgmail\tspring\t\t\t0\tcampaign\t0\t\tdelivered\t-1\n";
    let answer = cell("gmail", "spring", 0, 2, 0) + correction;
    for (scope, timeline) in timelines(&answer).unwrap() {
        let expected = if scope.0[0] == "mailbox_provider" { 2 } else { 1 };
        let windows = timeline.windows(i64::MAX);
        assert_eq!(of_width(&windows, 300)[0], (PANE, expected, 0), "{scope:?}");
    }
}

#[test]
fn a_wrong_window_is_detected() {
    let timelines = timelines(&cell("gmail", "spring", 0, 2, 0)).unwrap();
    let windows = source(&timelines).windows(i64::MAX);
    let compare =
        |rows: &str| Matched::of(windows.iter().map(|window| (window.as_str(), &"")), rows);
    let right = windows.join("\n");
    assert_eq!(compare(&right).once, windows.len() as u64);
    let wrong = right.replacen("\t2\t", "\t1\t", 1);
    let matched = compare(&wrong);
    assert_eq!((matched.lost.count, matched.unknown.count), (1, 1));
}

#[test]
fn an_episode_of_an_earlier_release_fires_turns_critical_and_resolves() {
    let cells: String = (0..30)
        .map(|pane| {
            let bounced = if pane < 10 { 7 } else { 0 };
            cell("gmail", "spring", pane, 100 - bounced, bounced)
        })
        .collect();
    let more = cells + &cell("gmail", "spring", 8, 0, 60);
    let timelines = timelines(&more).unwrap();
    let rules = [OldRule {
        name: "bounce_rate".to_owned(),
        metric: Metric::Bounce,
        direction: Direction::Over,
        threshold: 0.05,
        critical: None,
        min_volume: 200,
        widths: Width::OF_RULES.to_vec(),
    }];
    let transitions = source(&timelines).old_transitions(&rules, i64::MAX);
    let seen: Vec<_> =
        transitions.iter().map(|t| (t.state, t.severity, t.started_at, t.at)).collect();
    // 200 messages are sent after two panes, and 60 more bounce in the ninth. The window of 15
    // minutes contains all of them until the first pane leaves it.
    assert_eq!(seen[0], ("firing", "warning", 2 * PANE, 2 * PANE));
    assert_eq!(seen[1], ("firing", "critical", 2 * PANE, 9 * PANE));
    assert_eq!(seen.last().unwrap().0, "resolved");
    assert_eq!(seen.len(), 3, "{seen:?}");
    let until = source(&timelines).old_transitions(&rules, 3 * MINUTE).len();
    assert_eq!(until, 2, "still open");
}

#[test]
fn the_changes_of_a_scope_are_those_of_all_its_parts() {
    let scope = Scope(["campaign", "ses", "news", "", "it's", "", "", ""].map(str::to_owned));
    let query = changes(None, &scope);
    assert!(query.contains(r"provider = 'ses' AND source = 'news' AND campaign = 'it\'s'"));
    assert!(query.contains("CAST(['campaign'] AS Array(String))"), "{query}");
}

#[test]
fn a_malformed_answer_is_rejected() {
    assert!(timelines("ses\tnews\n").is_none());
}
