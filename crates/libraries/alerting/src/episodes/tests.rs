use event::Counter::{BouncedHard, Delivered};
use event::Provider;
use window::{Counts, Width};

use super::*;
use crate::baseline::{Baseline, Series, Zone};
use crate::{AlertState, Severity, silence_times};

mod cases;
mod model;
mod usual;

/// In microseconds.
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;

/// Evidence as the rate stage would give it.
#[derive(Debug, Clone)]
struct Sample {
    end: i64,
    windows: Vec<(Width, Counts)>,
    campaign: Option<(i64, Counts)>,
    cohort: Counts,
    rates_known: bool,
    aligned: bool,
    last_event: Option<i64>,
    baseline: Option<Baseline>,
    earlier: Vec<Sample>,
}

impl Sample {
    fn at(end: i64) -> Self {
        Self {
            end,
            windows: Vec::new(),
            campaign: None,
            cohort: Counts::default(),
            rates_known: true,
            aligned: true,
            last_event: None,
            baseline: None,
            earlier: Vec::new(),
        }
    }

    fn with(mut self, width: Width, bounced: i64, sent: i64) -> Self {
        self.windows.push((width, mail(bounced, sent)));
        self
    }
}

impl Evidence for Sample {
    fn end(&self) -> i64 {
        self.end
    }

    fn window(&self, width: Width) -> Option<Counts> {
        self.windows.iter().find(|(other, _)| *other == width).map(|(_, counts)| *counts)
    }

    fn cohort(&self, _from: i64, _to: i64) -> Counts {
        self.cohort
    }

    fn campaign(&self) -> Option<(i64, Counts)> {
        self.campaign
    }

    fn rates_known(&self) -> bool {
        self.rates_known
    }

    fn aligned(&self) -> bool {
        self.aligned
    }

    fn last_event(&self) -> Option<i64> {
        self.last_event
    }

    fn baseline(&self) -> Option<&Baseline> {
        self.baseline.as_ref()
    }

    fn earlier(&self) -> Vec<Box<dyn Evidence + '_>> {
        self.earlier.iter().map(|it| Box::new(it.clone()) as Box<dyn Evidence>).collect()
    }
}

fn mail(bounced: i64, sent: i64) -> Counts {
    Counts::of([(BouncedHard, bounced), (Delivered, sent - bounced)])
}

fn scope() -> Scope {
    Scope::Source { provider: Provider::SendGrid, source: "acme".to_owned() }
}

fn rule(toml: &str) -> RuleInForce {
    toml::from_str::<Rule>(toml).unwrap().into()
}

/// One scope with its episodes.
struct Run {
    scope: Scope,
    rules: Vec<RuleInForce>,
    episodes: ScopeEpisodes,
    as_of: AsOf,
    alerts: Vec<Alert>,
}

impl Run {
    fn new(rules: Vec<RuleInForce>) -> Self {
        Self {
            scope: scope(),
            rules,
            episodes: ScopeEpisodes::default(),
            as_of: AsOf([(0, 0)].into()),
            alerts: Vec::new(),
        }
    }

    fn judge(&mut self, evidence: &Sample) {
        *self.as_of.0.entry(0).or_default() += 1;
        let Self { scope, rules, episodes, as_of, alerts } = self;
        episodes.judge(scope, rules, evidence, as_of, alerts);
        let before = (episodes.clone(), alerts.len());
        episodes.judge(scope, rules, evidence, as_of, alerts);
        assert_eq!((&*episodes, alerts.len()), (&before.0, before.1), "judged twice");
    }

    /// Lets the time pass without new counts.
    fn pass(&mut self, to: i64, evidence: &Sample) {
        while let Some(due) = self.episodes.due(&self.rules).filter(|due| *due <= to) {
            self.advance(due, evidence);
        }
        self.advance(to, evidence);
    }

    fn advance(&mut self, now: i64, evidence: &Sample) {
        let evidence = Sample { end: now.max(evidence.end), ..evidence.clone() };
        let Self { scope, rules, episodes, as_of, alerts } = self;
        episodes.advance(scope, rules, &evidence, now, as_of, alerts);
    }

    fn restart(&mut self) {
        let json = serde_json::to_string(&self.episodes).unwrap();
        let restored: ScopeEpisodes = serde_json::from_str(&json).unwrap();
        assert_eq!(restored, self.episodes, "{json}");
        self.episodes = restored;
    }

    /// Returns the transitions since the last call.
    fn transitions(&mut self) -> Vec<(i64, AlertState, Severity, Option<ResolveReason>)> {
        let alerts = self.alerts.drain(..);
        alerts.map(|it| (it.at, it.state, it.severity, it.reason)).collect()
    }
}
