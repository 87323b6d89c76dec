//! Judges the history of one scope with the code of `monitor`: its windows, cohorts and episodes.

use alerting::rule::RuleWindow;
use alerting::{Alert, AsOf, Baseline, Campaign, Evidence, Look, RuleInForce, ScopeEpisodes};
use event::{Counter, OccurredAt};
use window::{
    Cohorts, Counts, Emits, HourStart, JudgedWindows, Scope, ScopeKind, ScopeWindows, Width,
};

use crate::history::{Delta, History};

/// In microseconds.
const DAY: i64 = 24 * 3_600_000_000;

struct Moment<'a> {
    windows: JudgedWindows<'a>,
    cohorts: &'a Cohorts,
    campaign: Option<&'a Campaign>,
    /// Whether the source has delivered a message within a day.
    rates_known: bool,
    newest: Option<i64>,
}

impl Evidence for Moment<'_> {
    fn end(&self) -> i64 {
        self.windows.end
    }

    fn window_end(&self, width: Width) -> i64 {
        self.windows.window_end(width)
    }

    fn window(&self, width: Width) -> Option<Counts> {
        self.windows.counts(width)
    }

    fn cohort(&self, from: i64, to: i64) -> Counts {
        self.cohorts.sum(HourStart::of(OccurredAt(from)), to)
    }

    fn campaign(&self) -> Option<(i64, Counts)> {
        self.campaign.map(Campaign::since)
    }

    fn rates_known(&self) -> bool {
        self.rates_known
    }

    fn aligned(&self) -> bool {
        true
    }

    fn last_event(&self) -> Option<i64> {
        self.newest
    }

    fn baseline(&self) -> Option<&Baseline> {
        None
    }
}

/// Returns the transitions of all episodes up to `to`, in UTC microseconds. `as_of` is empty in them, because they
/// are about no prefix of the log.
pub(super) fn replay(
    scope: &Scope,
    rules: &[RuleInForce],
    history: &History,
    to: i64,
) -> Vec<Alert> {
    run(scope, rules, None, history, to).alerts
}

/// Returns what a rule sees in one of its windows at every moment at which it is judged, up to `to`.
pub(super) fn looks(
    scope: &Scope,
    rule: &RuleInForce,
    window: RuleWindow,
    history: &History,
    to: i64,
) -> Vec<Look> {
    run(scope, std::slice::from_ref(rule), Some(window), history, to).looks
}

/// What a replay found.
#[derive(Default)]
struct Found {
    alerts: Vec<Alert>,
    looks: Vec<Look>,
}

fn run(
    scope: &Scope,
    rules: &[RuleInForce],
    window: Option<RuleWindow>,
    history: &History,
    to: i64,
) -> Found {
    let Some(first) = history.deltas.first() else { return Found::default() };
    let mut replay = Replay {
        scope,
        rules,
        windows: ScopeWindows::new(Emits::default()),
        cohorts: Cohorts::default(),
        campaign: None,
        delivered_at: None,
        episodes: ScopeEpisodes::default(),
        now: first.pane.micros(),
        window,
        found: Found::default(),
    };
    for step in history.deltas.chunk_by(|a, b| a.pane == b.pane) {
        replay.advance_to(step[0].pane.micros());
        replay.count(step);
    }
    replay.advance_to(to);
    replay.found
}

struct Replay<'a> {
    scope: &'a Scope,
    rules: &'a [RuleInForce],
    windows: ScopeWindows,
    cohorts: Cohorts,
    campaign: Option<Campaign>,
    /// The end of the latest pane with a delivery.
    delivered_at: Option<i64>,
    episodes: ScopeEpisodes,
    now: i64,
    /// The window of the first rule to look at.
    window: Option<RuleWindow>,
    found: Found,
}

impl Replay<'_> {
    /// Adds what happened in one pane, and judges the windows that end with it.
    fn count(&mut self, step: &[Delta]) {
        let mut end = self.now;
        for Delta { pane, cohort, counts, .. } in step {
            let _ = self.windows.apply(self.now, *pane, counts);
            if let Some(hour) = cohort {
                let _ = self.cohorts.apply(self.now, *hour, counts);
            }
            if counts.get(Counter::Delivered) > 0 {
                self.delivered_at = Some(pane.end());
            }
            if self.scope.kind() == ScopeKind::Campaign {
                Campaign::add(&mut self.campaign, pane.micros(), counts);
            }
            end = end.max(pane.end());
        }
        self.judge(end, None);
        self.windows.advance(self.now, end);
        self.now = end;
    }

    /// Lets time pass without events.
    fn advance_to(&mut self, to: i64) {
        while self.now < to {
            let due = self.windows.due(self.now).into_iter().chain(self.episodes.due(self.rules));
            let next = due.filter(|due| *due > self.now).min().unwrap_or(to).min(to);
            self.judge(next, Some(next));
            self.windows.advance(self.now, next);
            self.cohorts.expire(next);
            if self.windows.is_empty() {
                self.campaign = None;
            }
            self.now = next;
        }
    }

    /// Judges all ends of windows up to `until`. With `now`, also what is due without an event.
    fn judge(&mut self, until: i64, now: Option<i64>) {
        let Self { scope, rules, windows, cohorts, campaign, episodes, found, .. } = self;
        let window = self.window;
        let newest = windows.newest_end();
        let delivered_at = self.delivered_at;
        let as_of = AsOf::default();
        let mut step = |windows: JudgedWindows<'_>, now: Option<i64>| {
            let moment = Moment {
                windows,
                cohorts,
                campaign: campaign.as_ref(),
                rates_known: delivered_at.is_some_and(|at| windows.end - at <= DAY),
                newest,
            };
            let looked = rules.first().zip(window);
            found.looks.extend(looked.and_then(|(rule, it)| Look::at(rule, &it, &moment)));
            let alerts = &mut found.alerts;
            match now {
                None => episodes.judge(scope, rules, &moment, &as_of, alerts),
                Some(now) => episodes.advance(scope, rules, &moment, now, &as_of, alerts),
            }
        };
        windows.judge(until, self.now, |windows| step(windows, None));
        if let Some(now) = now {
            step(windows.judged(now), Some(now));
        }
    }
}
