//! The rules as they are written in the settings. [`crate::RuleSet`] checks and compiles them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The section `[automation]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutomationSettings {
    /// `[[automation.rule]]`.
    #[serde(default)]
    pub rule: Vec<RuleSettings>,
    /// `[[automation.template]]`.
    #[serde(default)]
    pub template: Vec<TemplateSettings>,
}

/// `[[automation.rule]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSettings {
    /// A unique name. The ids of actions depend on it.
    pub name: String,
    /// Which events start the rule.
    pub when: WhenSettings,
    /// Conditions about the recipient.
    #[serde(default)]
    pub and: Vec<ConditionSettings>,
    /// The share of the conditions that must hold, from 0 to 1.
    #[serde(default = "all", rename = "match")]
    pub share: f64,
    /// Rules with a higher priority act first.
    #[serde(default)]
    pub priority: i32,
    /// How long the rule does not act for a recipient, or for the group of an incident, after it has acted.
    pub cooldown: Option<String>,
    /// How often the rule may act for all recipients together.
    pub limit: Option<LimitSettings>,
    /// How often the rule may act for the events of one campaign.
    pub campaign_limit: Option<u64>,
    /// What is done.
    #[serde(rename = "do")]
    pub actions: Vec<ActionSettings>,
}

const fn all() -> f64 {
    1.0
}

/// The field `when`. A missing list allows everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhenSettings {
    /// Names of kinds of events.
    pub kinds: Option<Vec<String>>,
    /// Names of providers.
    pub providers: Option<Vec<String>>,
    /// Globs of names of sources.
    pub sources: Option<Vec<String>>,
    /// Globs of campaigns. An event without a campaign matches none.
    pub campaigns: Option<Vec<String>>,
    /// A regular expression that is searched in the address.
    pub recipients: Option<String>,
    /// With `false`, opens and clicks by machines start the rule too.
    #[serde(default = "yes")]
    pub human: bool,
    /// The rule starts from incidents instead of events. The other fields must be absent then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incidents: Option<WhenIncidentSettings>,
}

const fn yes() -> bool {
    true
}

/// The field `when.incidents`. A missing list allows everything, except for `changes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhenIncidentSettings {
    /// `opened` (the only one without this list), `escalated`, `reminder` or `resolved`.
    pub changes: Option<Vec<String>>,
    /// Names of families.
    pub families: Option<Vec<String>>,
    /// Names of severities.
    pub severities: Option<Vec<String>>,
    /// Globs of names of sources.
    pub sources: Option<Vec<String>>,
    /// Globs of campaigns. An incident without a campaign matches none.
    pub campaigns: Option<Vec<String>>,
}

/// An element of `and`: exactly one of the conditions. `zone` belongs to `hours`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionSettings {
    /// `>=0.4`.
    pub score: Option<String>,
    /// The name of a segment that contains the recipient.
    pub segment: Option<String>,
    /// `08-20`.
    pub hours: Option<String>,
    /// `recipient` or an IANA name.
    pub zone: Option<String>,
    /// `3 clicked within 7d`.
    pub pattern: Option<String>,
    /// `bounce < 0.02`.
    pub campaign_rate: Option<String>,
}

/// `limit = { count = 500, per = "1h" }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// The number of times.
    pub count: u64,
    /// The span in which it is counted.
    pub per: String,
}

/// An element of `do`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum ActionSettings {
    /// A signed webhook with the event.
    #[serde(rename = "webhook")]
    Webhook {
        /// Where it is posted.
        url: String,
        /// The signing secret: `env:NAME`, `file:PATH` or the secret itself.
        secret: String,
    },
    /// A message to a Slack channel.
    #[serde(rename = "slack")]
    Slack {
        /// The incoming webhook: `env:NAME`, `file:PATH` or the URL itself.
        url: String,
        /// A template.
        text: Option<String>,
    },
    /// A webhook with chosen fields.
    #[serde(rename = "crm")]
    Crm {
        /// Where it is posted.
        url: String,
        /// The signing secret. Without one, the request is not signed.
        secret: Option<String>,
        /// By the receiver's name: `event.recipient`, `static:engaged`.
        fields: BTreeMap<String, String>,
    },
    /// A task for a person, as a webhook.
    #[serde(rename = "task")]
    Task {
        /// Where it is posted.
        url: String,
        /// The signing secret. Without one, the request is not signed.
        secret: Option<String>,
        /// A template.
        title: String,
    },
    /// The recipient becomes a member of a segment.
    #[serde(rename = "segment.add")]
    SegmentAdd {
        /// The segment.
        name: String,
    },
    /// The recipient leaves a segment.
    #[serde(rename = "segment.remove")]
    SegmentRemove {
        /// The segment.
        name: String,
    },
    /// The recipient shall get the mail of a list.
    #[serde(rename = "list.add")]
    ListAdd {
        /// The list.
        name: String,
    },
    /// The recipient shall no longer get the mail of a list.
    #[serde(rename = "list.remove")]
    ListRemove {
        /// The list.
        name: String,
    },
    /// The recipient gets points, or loses them.
    #[serde(rename = "points")]
    Points {
        /// How many.
        add: i64,
    },
    /// A mail to the recipient, or about an incident to a fixed address.
    #[serde(rename = "email")]
    Email {
        /// The name of a `[[automation.template]]`.
        template: String,
        /// The address that gets the mail of a rule that starts from incidents.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
    /// Further actions after some time.
    #[serde(rename = "followup")]
    FollowUp {
        /// The time after the event.
        after: String,
        /// A kind of event of the recipient that makes them unnecessary.
        unless: Option<String>,
        /// The actions.
        #[serde(rename = "do")]
        actions: Vec<ActionSettings>,
    },
}

/// `[[automation.template]]`: a mail. All texts are templates of minijinja.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateSettings {
    /// A unique name.
    pub name: String,
    /// The subject. It becomes one line.
    pub subject: String,
    /// The body as plain text.
    pub text: String,
    /// The body as HTML. Values are escaped.
    pub html: Option<String>,
}
