//! Rules that act on events: what starts them, what they need to know, how often they may act, and what they do.
//!
//! This crate does no I/O and reads no clock. The service `automate` makes two decisions with it, and both are pure
//! functions:
//!
//! 1. [`decide`]: which rules want to act on an event, from the rules, the event, the state of the recipient, and what
//!    conditions read besides. The result are [`Intent`]s with the values that were decided on.
//! 2. [`LimitState::decide`]: whether the limits of a rule allow an intent, from the rule, its state and the intent.
//!    What is allowed becomes [`ActionRecord`]s.
//!
//! A rule can also start from a change of an incident. [`decide_incident`] then makes the first decision, and the second
//! one also asks whether the rule has acted on the change, and for its cooldown.
//!
//! All times are UTC microseconds. Cooldowns and limits count by the receipt of events, because they protect people
//! from what we do now. Patterns count by when events happened, because they are about what people did.

mod action;
mod condition;
mod engagement;
mod error;
mod facts;
mod incident;
mod limit;
mod matching;
mod recipient_state;
mod replay;
mod rule;
mod rule_set;
mod segments;
mod settings;
mod span;
mod subject;
mod template;

pub use action::{Action, ActionRecord, FieldSource, FollowUpAction, action_id};
pub use condition::{ConditionValue, MOST_IN_PATTERN};
pub use engagement::EngagementDelta;
pub use error::{Problem, RuleError};
pub use facts::Facts;
pub use incident::IncidentFacts;
pub use limit::{
    LimitChange, LimitRestore, LimitRestoreError, LimitState, MOST_CAMPAIGNS, Refusal, Verdict,
};
pub use matching::{Decision, FollowUp, Intent, MOST_INTENTS, Reads, decide, decide_incident};
pub use recipient_state::RecipientState;
pub use replay::{Outcome, Replay};
pub use rule::{Limit, Rule};
pub use rule_set::RuleSet;
pub use segments::{
    Membership, RecipientDigest, read_segment_key, recipient_digest, segment_key, segment_record,
};
pub use settings::{
    ActionSettings, AutomationSettings, ConditionSettings, LimitSettings, RuleSettings,
    TemplateSettings, WhenIncidentSettings, WhenSettings,
};
pub use subject::Subject;
pub use template::{Mail, MailTemplate, Mails, RenderError, Template};

#[cfg(test)]
mod tests;
