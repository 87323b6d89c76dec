use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::episode::{Episode, Worst};
use crate::time::floor;
use crate::{Alert, PANE, Rule, Scope, WindowResult};

/// One scope's open episodes: at most one for each rule, however many windows are beyond its
/// threshold. Serialise it (JSON) to go on after a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Episodes {
    open: BTreeMap<String, Episode>,
}

impl Episodes {
    /// Whether no episode is open: nothing need be kept.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Judges a scope's windows at a slide end. `windows` are those of every width as they are at
    /// `end`, changed or not; ends must not go back. Appends a transition for each rule that
    /// fires, becomes critical or resolves.
    ///
    /// To be called for every [`Slide`](crate::Slide) that is not `past`. An episode that waits
    /// for its `resolve_after` while nothing changes is resolved by [`settle`](Self::settle).
    pub fn evaluate(
        &mut self,
        scope: &Scope,
        rules: &[Rule],
        end: i64,
        windows: &[WindowResult],
        out: &mut Vec<Alert>,
    ) {
        // Nothing changed between the last slide and this one, so what fell due there is over.
        self.resolve_due(scope, rules, end - PANE, out);
        for rule in rules {
            let worst = Worst::of(rule, windows);
            if let Some(episode) = self.open.get_mut(&rule.name) {
                if episode.observe(rule, end, worst, windows) {
                    out.push(Alert::firing(rule, scope, episode, end));
                }
            } else if let Some((reading, severity)) = worst.and_then(Worst::breach) {
                let episode = Episode::begin(rule, severity, reading, end);
                out.push(Alert::firing(rule, scope, &episode, end));
                self.open.insert(rule.name.clone(), episode);
            }
        }
        self.resolve_due(scope, rules, end, out);
    }

    /// Resolves the episodes that have been good for long enough by now, and those whose rule is
    /// no longer among `rules`. To be called after every advance of the clock, once the scope's
    /// slides were evaluated; `clock` is the watermark, in microseconds.
    pub fn settle(&mut self, scope: &Scope, rules: &[Rule], clock: i64, out: &mut Vec<Alert>) {
        let end = floor(clock);
        self.resolve_due(scope, rules, end, out);
        self.open.retain(|name, episode| {
            let known = rules.iter().any(|rule| rule.name == *name);
            if !known {
                let at = end.max(episode.held_at);
                out.push(Alert::abandoned(name, scope, episode, at));
            }
            known
        });
    }

    /// The least clock at which [`settle`](Self::settle) would resolve an episode of these rules
    /// if no window changed until then. Leaves out episodes whose rule is gone: after the rules
    /// changed, which takes a restart, settle every scope once.
    pub fn due(&self, rules: &[Rule]) -> Option<i64> {
        rules.iter().filter_map(|rule| self.open.get(&rule.name)?.resolves_at(rule)).min()
    }

    fn resolve_due(&mut self, scope: &Scope, rules: &[Rule], end: i64, out: &mut Vec<Alert>) {
        if self.open.is_empty() {
            return;
        }
        for rule in rules {
            let due = self.open.get(&rule.name).and_then(|episode| episode.resolves_at(rule));
            if let Some(at) = due.filter(|&at| at <= end)
                && let Some(episode) = self.open.remove(&rule.name)
            {
                out.push(Alert::resolved(&rule.name, scope, &episode, at));
            }
        }
    }
}
