//! Alert rules, the episodes that they open, and the incidents that people are told about.
//!
//! This crate does no I/O and reads no clock. Time is event time in UTC microseconds, and everything is
//! a function of its input: the same input gives the same alerts and incidents after any restart.
//!
//! From counts to a page:
//! 1. The rate stage of `monitor` judges the [`Rule`](rule::Rule)s of a scope after every commit of the
//!    fold stage. A rule that is broken opens an *episode* of this rule and scope. Each transition of an
//!    episode is an [`Alert`], published to `mail.alerts`.
//! 2. The incidents stage of `monitor` joins the episodes that have one cause into an [`Incident`],
//!    published to `mail.incidents`.
//! 3. `notify` delivers incidents to people and other systems.

mod alert;
pub mod baseline;
pub mod bounds;
mod campaign;
mod cause;
mod defaults;
mod episode;
mod episodes;
pub mod evalue;
mod evidence;
mod grouping;
mod incident;
mod incidents;
mod look;
mod measure;
mod overrides;
pub mod page;
pub mod rule;
mod rule_set;
pub mod simulation;
pub mod span;
mod summary;
mod verdict;
mod wording;

pub use alert::{
    Alert, AlertState, Basis, EpisodeId, Family, Measure, ResolveReason, Severity, Share,
};
pub use baseline::{Baseline, Bucket, EngagementHistory, Series, UnknownZone, Zone};
pub use campaign::Campaign;
pub use episodes::ScopeEpisodes;
pub use evidence::{AsOf, Evidence};
pub use incident::{
    Cause, Change, EpisodeLine, Incident, IncidentGroup, IncidentId, IncidentState, People,
};
pub use incidents::{
    Action, ActionError, ChangelogRecord, IncidentSettings, Incidents, IncidentsRestore, Judgement,
    Received, RestoreError,
};
pub use look::{Look, breach};
pub use overrides::{Origin, Override, Values};
pub use rule::{Facts, Match, Rule, RuleError};
pub use rule_set::{Explanation, ReadError, RuleInForce, RuleSet};
pub use span::Span;
pub use verdict::{SETTLES_ABOVE, silence_times};
