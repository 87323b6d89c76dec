//! What the rules of a scope are judged by.

use alerting::{Baseline, Campaign, Evidence, Series};
use event::OccurredAt;
use window::{Cohorts, Counts, HourStart, JudgedWindows, Width};

use crate::history::History;
use crate::scope_state::HasDeliveries;

/// The evidence at one end of windows.
#[derive(Clone, Copy)]
pub(crate) struct ScopeEvidence<'a> {
    pub(crate) windows: JudgedWindows<'a>,
    pub(crate) cohorts: &'a Cohorts,
    pub(crate) campaign: Option<&'a Campaign>,
    pub(crate) has_deliveries: HasDeliveries,
    /// The end of the newest pane.
    pub(crate) newest: Option<i64>,
    pub(crate) history: Option<&'a History>,
    /// Whether a rule about silence can be broken. If not, there is no need to look for it.
    pub(crate) may_be_silent: bool,
}

impl Evidence for ScopeEvidence<'_> {
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
        // Without any pane nothing is unknown: there is too little mail to judge.
        self.newest.is_none() || self.has_deliveries.at(self.windows.end)
    }

    fn aligned(&self) -> bool {
        // enrich reads the kinds in the order of their receipt, so no prefix has one kind without another.
        true
    }

    fn last_event(&self) -> Option<i64> {
        match self.history {
            Some(history) if history.tracks_events() => history.last_event_of(Series::Events),
            _ => self.newest,
        }
    }

    fn last_event_of(&self, series: Series) -> Option<i64> {
        match series {
            _ if !self.may_be_silent => None,
            Series::Events => self.last_event(),
            _ => self.history?.last_event_of(series),
        }
    }

    fn baseline(&self) -> Option<&Baseline> {
        self.history.map(History::baseline)
    }

    fn earlier(&self) -> Vec<Box<dyn Evidence + '_>> {
        let at =
            |windows| Box::new(Self { windows, campaign: None, ..*self }) as Box<dyn Evidence + '_>;
        self.windows.earlier().map(at).collect()
    }
}
