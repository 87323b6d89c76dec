use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::episode::{Episode, WorstWindow};
use crate::time::floor;
use crate::{Alert, PANE, Rule, Scope, Window};

/// The open episodes of one scope: at most one per rule, however many windows are beyond the rule's
/// threshold. The JSON form restores them after a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpenEpisodes {
    by_rule: BTreeMap<String, Episode>,
}

impl OpenEpisodes {
    /// Returns true if no episode is open.
    pub fn is_empty(&self) -> bool {
        self.by_rule.is_empty()
    }

    /// Evaluates the rules on the windows of a scope at the slide end `end`. `windows` holds the
    /// window of every width at `end`, changed or not, or none if the rates of the scope are unknown:
    /// then no rule fires, and open episodes resolve. Appends an alert to `out` for each rule that
    /// fires, becomes critical or resolves.
    ///
    /// Call it for every [`Slide`](crate::Slide) that is not `past`, in ascending order. An episode
    /// that waits for its `resolve_after` while no window changes is resolved by
    /// [`resolve_due`](Self::resolve_due).
    pub fn evaluate(
        &mut self,
        scope: &Scope,
        rules: &[Rule],
        end: i64,
        windows: &[Window],
        out: &mut Vec<Alert>,
    ) {
        // No window changed between the previous slide and this one, so the episodes that were due
        // in between have resolved before this slide.
        self.resolve_until(end - PANE, scope, rules, out);
        for rule in rules {
            let worst = WorstWindow::find(rule, windows);
            if let Some(episode) = self.by_rule.get_mut(&rule.name) {
                if episode.update(rule, end, worst, windows) {
                    out.push(Alert::firing(rule, scope, episode, end));
                }
            } else if let Some((measurement, severity)) = worst.and_then(WorstWindow::breach) {
                let episode = Episode::open(rule, severity, measurement, end);
                out.push(Alert::firing(rule, scope, &episode, end));
                self.by_rule.insert(rule.name.clone(), episode);
            }
        }
        self.resolve_until(end, scope, rules, out);
    }

    /// Resolves the episodes that have been good for long enough at `now`, and those whose rule is
    /// not among `rules` any more. `now` is the watermark, in microseconds.
    ///
    /// Call it after every advance of the watermark, once the slides of the scope were evaluated.
    pub fn resolve_due(&mut self, scope: &Scope, rules: &[Rule], now: i64, out: &mut Vec<Alert>) {
        let end = floor(now);
        self.resolve_until(end, scope, rules, out);
        self.by_rule.retain(|name, episode| {
            let rule_exists = rules.iter().any(|rule| rule.name == *name);
            if !rule_exists {
                let at = end.max(episode.last_bad_at);
                out.push(Alert::rule_removed(name, scope, episode, at));
            }
            rule_exists
        });
    }

    /// Returns the earliest watermark at which [`resolve_due`](Self::resolve_due) resolves an
    /// episode of these rules if no window changes before.
    ///
    /// Episodes whose rule was removed are ignored. Rules only change with a restart, so the caller
    /// must call `resolve_due` once for every scope after it restored the episodes.
    pub fn due(&self, rules: &[Rule]) -> Option<i64> {
        rules.iter().filter_map(|rule| self.by_rule.get(&rule.name)?.resolves_at(rule)).min()
    }

    fn resolve_until(&mut self, end: i64, scope: &Scope, rules: &[Rule], out: &mut Vec<Alert>) {
        if self.by_rule.is_empty() {
            return;
        }
        for rule in rules {
            let due = self.by_rule.get(&rule.name).and_then(|episode| episode.resolves_at(rule));
            if let Some(at) = due.filter(|&at| at <= end)
                && let Some(episode) = self.by_rule.remove(&rule.name)
            {
                out.push(Alert::resolved(&rule.name, scope, &episode, at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use event::Counter::{BouncedSoft, Delivered};
    use event::Provider;

    use super::*;
    use crate::{Counts, Width};

    /// The changelogs of running installations contain this form.
    #[test]
    fn the_json_form_does_not_change() {
        let scope = Scope::Source { provider: Provider::SendGrid, source: "acme".into() };
        let rules = &Rule::defaults()[..1];
        let windows = |counts| {
            let (width, end) = (Width::M5, 50_000_000);
            [Window { width, end, revision: 0, counts, reports_injected: true }]
        };
        let mut episodes = OpenEpisodes::default();
        let bad = Counts::of([(Delivered, 185), (BouncedSoft, 15)]);
        episodes.evaluate(&scope, rules, 50_000_000, &windows(bad), &mut Vec::new());
        let json = r##"{"bounce_rate":{"severity":"warning","started_at":50000000,"reading":{"width":"5m","part":15,"volume":200},"held_at":50000000,"metric":"bounce","threshold":0.05,"runbook":"docs/runbooks.md#bounce-rate"}}"##;
        assert_eq!(serde_json::to_string(&episodes).unwrap(), json);
        assert_eq!(serde_json::from_str::<OpenEpisodes>(json).unwrap(), episodes);

        // Late events revoke the breach: the episode is good, but resolves at the next slide end.
        let good = Counts::of([(Delivered, 385), (BouncedSoft, 15)]);
        episodes.evaluate(&scope, rules, 50_000_000, &windows(good), &mut Vec::new());
        let json = r##"{"bounce_rate":{"severity":"warning","started_at":50000000,"reading":{"width":"5m","part":15,"volume":400},"held_at":50000000,"good_since":60000000,"metric":"bounce","threshold":0.05,"runbook":"docs/runbooks.md#bounce-rate"}}"##;
        assert_eq!(serde_json::to_string(&episodes).unwrap(), json);
        assert_eq!(serde_json::from_str::<OpenEpisodes>(json).unwrap(), episodes);
    }
}
