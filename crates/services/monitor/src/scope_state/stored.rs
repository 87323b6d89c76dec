//! The changelog records of a scope.

use std::collections::{BTreeMap, BTreeSet};

use alerting::{Campaign, ScopeEpisodes};
use window::{
    Cohort, Cohorts, Counts, HourStart, Pane, PaneStart, Ring, ScopeError, ScopeWindows, WindowKey,
};

use super::{ChangelogRecord, ScopeState, emits};
use crate::changelog::ChangelogKey;
use crate::history::{History, RestoredHistory};
use crate::shard::ShardSettings;

/// The parts of a scope that changed since the last commit. Their values are read when the changelog
/// records are written.
#[derive(Default)]
pub(super) struct Unwritten {
    pub(super) panes: BTreeSet<(Ring, PaneStart)>,
    pub(super) cohorts: BTreeSet<HourStart>,
    pub(super) waiting: bool,
    pub(super) episodes: bool,
    pub(super) campaign: bool,
}

/// The parts of a scope from the changelog.
#[derive(Default)]
pub(crate) struct RestoredScope {
    pub(crate) panes: BTreeMap<(Ring, PaneStart), Pane>,
    pub(crate) cohorts: BTreeMap<HourStart, Cohort>,
    pub(crate) waiting: BTreeSet<WindowKey>,
    pub(crate) episodes: ScopeEpisodes,
    pub(crate) campaign: Option<Campaign>,
    pub(crate) history: RestoredHistory,
}

impl RestoredScope {
    pub(crate) fn is_empty(&self) -> bool {
        self.panes.is_empty()
            && self.cohorts.is_empty()
            && self.episodes.is_empty()
            && self.history.is_empty()
    }
}

impl ScopeState {
    /// Returns a scope from the changelog, as it was at the time `now`.
    pub(crate) fn restore(
        key: &str,
        restored: RestoredScope,
        settings: &ShardSettings,
        now: i64,
    ) -> Result<Self, ScopeError> {
        let RestoredScope { panes, cohorts, waiting, episodes, campaign, history } = restored;
        let mut state = Self::new(key, settings)?;
        state.written_days = written_days(&panes);
        let panes = with_days(panes).into_iter().map(|((ring, _), pane)| (ring, pane));
        let emits = emits(&state.scope, settings);
        state.windows = ScopeWindows::restore(panes, waiting, emits, now);
        state.cohorts = Cohorts::from_cohorts(cohorts);
        state.episodes = episodes;
        state.campaign = campaign;
        if state.may_have_history && !history.is_empty() {
            let new = History::new(&state.scope, &settings.zones, &state.rules);
            state.history = Some(Box::new(new.restore(history, settings.zones.of(&state.scope))));
        }
        Ok(state)
    }

    /// Returns whether a restore has changed what must be in the changelog.
    pub(crate) fn was_changed_by_restore(&self) -> bool {
        self.history.as_ref().is_some_and(|history| history.has_unwritten())
    }

    /// Returns the changelog keys of what has changed.
    pub(crate) fn unwritten_keys(&self) -> impl Iterator<Item = String> {
        let Unwritten { panes, cohorts, waiting, episodes, campaign } = &self.unwritten;
        let key = &*self.key;
        let panes = panes.iter().map(|(ring, start)| ChangelogKey::Pane(*ring, *start, key));
        let cohorts = cohorts.iter().map(|hour| ChangelogKey::Cohort(*hour, key));
        let waiting = waiting.then_some(ChangelogKey::Waiting(key));
        let episodes = episodes.then_some(ChangelogKey::Episodes(key));
        let campaign = campaign.then_some(ChangelogKey::Campaign(key));
        let history = self.history.iter().flat_map(|history| history.unwritten_keys(key));
        let others = waiting.into_iter().chain(episodes).chain(campaign).chain(history);
        panes.chain(cohorts).chain(others).map(ChangelogKey::to_text)
    }

    /// Appends the changelog records of what has changed.
    pub(crate) fn write(
        &mut self,
        records: &mut Vec<ChangelogRecord>,
    ) -> Result<(), serde_json::Error> {
        let Unwritten { panes, cohorts, waiting, episodes, campaign } =
            std::mem::take(&mut self.unwritten);
        let key = &*self.key;
        for (ring, start) in panes {
            let value = self.windows.pane(ring, start).map(serde_json::to_vec).transpose()?;
            records.push((ChangelogKey::Pane(ring, start, key).to_text(), value));
        }
        for hour in cohorts {
            let value = self.cohorts.cohort(hour).map(serde_json::to_vec).transpose()?;
            records.push((ChangelogKey::Cohort(hour, key).to_text(), value));
        }
        if waiting {
            let windows = self.windows.waiting();
            let value = (!windows.is_empty()).then(|| serde_json::to_vec(windows)).transpose()?;
            records.push((ChangelogKey::Waiting(key).to_text(), value));
        }
        if episodes {
            let open = (!self.episodes.is_empty()).then_some(&self.episodes);
            let value = open.map(serde_json::to_vec).transpose()?;
            records.push((ChangelogKey::Episodes(key).to_text(), value));
        }
        if campaign {
            let value = self.campaign.as_ref().map(serde_json::to_vec).transpose()?;
            records.push((ChangelogKey::Campaign(key).to_text(), value));
        }
        if let Some(history) = &mut self.history {
            history.write(key, records)?;
        }
        Ok(())
    }
}

/// Returns the panes of the day that the changelog contains.
fn written_days(panes: &BTreeMap<(Ring, PaneStart), Pane>) -> BTreeSet<PaneStart> {
    let days = panes.keys().filter(|(ring, _)| *ring == Ring::Day);
    days.map(|(_, start)| *start).collect()
}

/// Adds the panes of the day that the changelog does not contain: they are the sums of panes of the fine
/// ring. No late delta has come to them, because then they would be written.
fn with_days(mut panes: BTreeMap<(Ring, PaneStart), Pane>) -> BTreeMap<(Ring, PaneStart), Pane> {
    let mut missing: BTreeMap<PaneStart, Counts> = BTreeMap::new();
    for (&(ring, start), pane) in &panes {
        let day = Ring::Day.pane_of(start);
        if ring == Ring::Fine && !panes.contains_key(&(Ring::Day, day)) {
            *missing.entry(day).or_default() += &pane.counts.to_counts();
        }
    }
    panes.extend(missing.into_iter().map(|(start, counts)| {
        let pane = Pane { start, corrections: 0, counts: (&counts).into() };
        ((Ring::Day, start), pane)
    }));
    panes
}
