//! A transition of an episode as the table `alerts` has it.

use std::collections::BTreeSet;

use alerting::rule::Same;
use alerting::{RuleInForce, RuleSet};
use clickhouse::Row;
use serde::Deserialize;

/// The columns of a [`Transition`], to be selected from `alerts`, in the order of its fields.
pub const TRANSITIONS: &str = "episode_id, seq, state, rule, scope, provider, source, mailbox_provider, campaign, sender_domain, sending_ip, \
     tenant, basis, metric, window, numerator, volume, toUnixTimestamp64Micro(alerts.window_from) AS window_from, \
     toUnixTimestamp64Micro(alerts.window_to) AS window_to, \
     CAST(alerts.as_of AS Array(Tuple(UInt16, UInt64))) AS as_of";

/// A row of the table `alerts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Row, Deserialize)]
pub struct Transition {
    pub episode_id: String,
    pub seq: u32,
    pub state: String,
    pub rule: String,
    pub scope: String,
    pub provider: String,
    pub source: String,
    pub mailbox_provider: String,
    pub campaign: String,
    pub sender_domain: String,
    pub sending_ip: String,
    pub tenant: String,
    pub basis: String,
    pub metric: String,
    pub window: String,
    pub numerator: u64,
    /// The denominator.
    pub volume: u64,
    /// UTC microseconds.
    pub window_from: i64,
    /// UTC microseconds.
    pub window_to: i64,
    /// By partition of `mail.events`, the next offset.
    pub as_of: Vec<(u16, u64)>,
}

impl Transition {
    /// Returns the columns of `events` whose values the scope demands, with the values.
    pub fn dimensions(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("provider", &self.provider),
            ("source", &self.source),
            ("mailbox_provider", &self.mailbox_provider),
            ("campaign", &self.campaign),
            ("sender_domain", &self.sender_domain),
            ("sending_ip", &self.sending_ip),
            ("tenant", &self.tenant),
        ];
        all.into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name, &**value))
            .collect()
    }

    /// Returns the kind and the values of the scope.
    pub fn scope_text(&self) -> String {
        let values = self.dimensions().into_iter().map(|(_, value)| value);
        std::iter::once(&*self.scope).chain(values).collect::<Vec<_>>().join("/")
    }
}

/// Returns the names of the rules that compare with the same weekday: those of the settings, and the default rule,
/// which older alerts can be about.
pub fn rules_by_weekday(of_settings: &RuleSet) -> BTreeSet<String> {
    let defaults = RuleSet::defaults();
    let all = of_settings.rules().iter().chain(defaults.rules());
    let is_by_weekday =
        |rule: &&RuleInForce| rule.baseline.is_some_and(|baseline| baseline.same == Same::Weekday);
    all.filter(is_by_weekday).map(|rule| rule.name.clone()).collect()
}

/// Returns why the events of a transition are not known, whatever is stored.
pub fn cannot_verify(transition: &Transition, by_weekday: &BTreeSet<String>) -> Option<String> {
    let names = [
        &transition.mailbox_provider,
        &transition.campaign,
        &transition.sender_domain,
        &transition.sending_ip,
        &transition.tenant,
    ];
    let reason = if transition.as_of.is_empty() {
        "an earlier release wrote the alert, without the offsets of its events"
    } else if transition.basis == "gap" {
        "a silence has no events to count, and whether it is unusual depends on the four weeks before, of which monitor \
         keeps the counts"
    } else if by_weekday.contains(&transition.rule) {
        "the rule counts what happened within two hours after the hour of sending, in hours that monitor has added up \
         at their time, and compares that with four weeks of which monitor keeps the counts"
    } else if names.into_iter().any(|name| name == window::Scope::OTHER) {
        "the scope has the events of all scopes beyond monitor.max_scopes_per_source, which are not marked"
    } else {
        return None;
    };
    Some(reason.to_owned())
}
