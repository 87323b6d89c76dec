//! When an episode opens must not depend on how the commits of fold cut the events of a moment.

use alerting::AlertState;

use super::histories::commit;
use super::*;

/// The number of panes in which mail is sent: five minutes.
const PANES: i64 = 30;

fn held() -> Rule {
    let rule = json!({
        "name": "held", "metric": "bounce", "warning": 0.3, "min_volume": 3,
        "windows": ["1m", "60m"], "confidence": 0.5,
        "hold": {"warning": "60s", "critical": "60s", "page": "60s"},
        "resolve": {"below": 0.8, "for": "2m"},
    });
    serde_json::from_value(rule).unwrap()
}

/// Returns the deliveries and the bounces of a pane, each as one delta.
fn halves(pane: i64, good: i64, bad: i64) -> [KeyedDelta; 2] {
    [delta(SCOPES[0], pane * 10 + 2, good, 0), delta(SCOPES[0], pane * 10 + 7, 0, bad)]
}

/// Returns when the first episode fired, in seconds of event time.
fn fired(commits: Vec<Vec<KeyedDelta>>) -> Option<i64> {
    let settings = settings(vec![held()]);
    let mut run = Run::default();
    for deltas in commits {
        run.process_batch(&[commit(deltas)], &settings);
    }
    let end = (PANES + 10) * 10;
    let time = (0..2).map(|it| Input::Watermark(it, end, Activity::Active));
    run.process_batch(&time.collect::<Vec<_>>(), &settings);
    let fired = run.alerts.iter().find(|alert| alert.state == AlertState::Firing);
    fired.map(|alert| alert.at / SECOND)
}

/// Each pane breaks the rule, but its deliveries are in a commit before its bounces.
#[test]
fn a_rule_that_seems_to_be_good_in_half_a_commit_fires_in_time() {
    let panes = || (0..PANES).map(|pane| halves(pane, 12, 8));
    let whole = fired(panes().map(Vec::from).collect());
    let half = fired(panes().flatten().map(|half| vec![half]).collect());
    assert_eq!(whole, Some(70), "one minute after the first pane has ended");
    assert_eq!(half, whole);
}

/// Between two bad minutes is one in which nothing bounces.
#[test]
fn a_rule_that_is_good_for_a_while_is_held_anew() {
    let rule = Rule { windows: held().windows[..1].to_vec(), ..held() };
    let settings = settings(vec![rule]);
    let mut run = Run::default();
    for pane in 0..PANES {
        let bad = if (4..12).contains(&pane) { 0 } else { 8 };
        for half in halves(pane, 12, bad) {
            run.process_batch(&[commit(vec![half])], &settings);
        }
    }
    let fired: Vec<_> = run.alerts.iter().map(|alert| alert.at / SECOND).collect();
    // The minute that ends with pane 15 is the first one of which more than 30 % have bounced.
    assert_eq!(fired, [220]);
}

proptest! {
    /// Whatever half of a pane is counted first, if the other half is less than 30 s behind, the episode opens less
    /// than 30 s later than if every pane had come as a whole.
    #[test]
    fn an_episode_opens_about_as_soon_as_if_every_pane_came_as_a_whole(
        mail in prop::collection::vec((0..12_i64, 0..12_i64, any::<bool>(), 0..3_usize), 30),
    ) {
        let panes = || (0..PANES).zip(&mail).map(|(pane, &(good, bad, ..))| halves(pane, good, bad));
        let whole = fired(panes().map(Vec::from).collect());
        let mut halves: Vec<(usize, KeyedDelta)> = Vec::new();
        for (place, ([good, bad], (_, _, good_is_first, behind))) in panes().zip(&mail).enumerate() {
            let (first, second) = if *good_is_first { (good, bad) } else { (bad, good) };
            halves.extend([(2 * place, first), (2 * (place + behind) + 1, second)]);
        }
        halves.sort_by_key(|(place, _)| *place);
        let half = fired(halves.into_iter().map(|(_, half)| vec![half]).collect());
        if let Some(whole) = whole {
            prop_assert!(half.is_some_and(|half| half < whole + 30), "{half:?} {whole:?}");
        }
    }
}
