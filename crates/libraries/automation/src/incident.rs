//! Rules that start from incidents.

use alerting::{
    Change, Family, Incident, IncidentGroup, IncidentId, IncidentState, ResolveReason, Severity,
};
use event::{Dimension, EventId, IdBuilder, Provider};
use globset::GlobSet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Checked, Problem, at};
use crate::rule::{read_globs, read_list};
use crate::settings::WhenIncidentSettings;

/// The changes that can start a rule. The others tell people nothing new.
const CHANGES: [Change; 4] =
    [Change::Opened, Change::Escalated, Change::Reminder, Change::Resolved];

/// What a rule knows of a change of an incident. `mail.intents`, `mail.actions` and webhooks contain it as `incident`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentFacts {
    /// The incident.
    pub id: IncidentId,
    /// The number of the record in the incident.
    pub seq: u32,
    /// What has changed. If people first hear of the incident because it got worse, it is `opened`.
    pub change: Change,
    /// What the incident is about.
    pub family: Family,
    /// The highest severity so far.
    pub severity: Severity,
    /// What its episodes have in common: [`IncidentGroup::key`].
    pub group: String,
    /// The provider of the cause, or of the episode that the page is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// The source of the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// All sources with open episodes, such as `sendgrid/acme`; at most [`Incident::MAX_SOURCES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// The tenant of the cause, or of the episode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The campaign of the cause, or of the episode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<String>,
    /// The mailbox provider of the cause, or of the episode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox_provider: Option<String>,
    /// The key of the scope with most of the excess, such as `campaign/sendgrid/acme/spring`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Its share of the excess.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause_share: Option<f64>,
    /// The rule of alerts that was broken.
    pub alert_rule: String,
    /// What that rule measures.
    pub metric: String,
    /// The rate. `None` if there is no denominator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The threshold.
    pub threshold: f64,
    /// The numerator of `value`.
    pub numerator: u64,
    /// The denominator of `value`.
    pub volume: u64,
    /// The alert as one line of text.
    pub summary: String,
    /// A link to the instructions.
    pub runbook: String,
    /// Why the incident is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ResolveReason>,
    /// The start of the first episode: UTC microseconds of event time.
    pub opened_at: i64,
    /// The time of the change, in the same unit.
    pub at: i64,
}

impl IncidentFacts {
    /// The fields that settings can name after `incident.`.
    pub const FIELDS: [&str; 25] = [
        "id",
        "seq",
        "change",
        "family",
        "severity",
        "group",
        "provider",
        "source",
        "sources",
        "tenant",
        "campaign",
        "mailbox_provider",
        "cause",
        "cause_share",
        "alert_rule",
        "metric",
        "value",
        "threshold",
        "numerator",
        "volume",
        "summary",
        "runbook",
        "reason",
        "opened_at",
        "at",
    ];

    /// Returns the facts of a change that can start a rule, and `None` for any other change.
    pub fn of(incident: &Incident) -> Option<Self> {
        let is_open = incident.state != IncidentState::Resolved;
        let change = match incident.change {
            // It was held back when it opened, and people hear of it now.
            Change::Escalated | Change::Digest | Change::Reminder
                if incident.page == 1 && is_open =>
            {
                Change::Opened
            }
            change => change,
        };
        // An incident that is part of another one is not over.
        if !CHANGES.contains(&change) || incident.merged_into.is_some() {
            return None;
        }
        let (lead, cause) = (&incident.lead, incident.cause.as_ref());
        let scopes = || cause.map(|cause| &cause.scope).into_iter().chain([&lead.scope]);
        let value =
            |dimension| scopes().find_map(|scope| scope.value(dimension)).map(str::to_owned);
        let of_source = scopes().find_map(|scope| scope.of_source());
        let sources = match &incident.group {
            IncidentGroup::Source { of } if incident.sources.is_empty() => vec![of.clone()],
            _ => incident.sources.clone(),
        };
        Some(Self {
            id: incident.id,
            seq: incident.seq,
            change,
            family: incident.family,
            severity: incident.severity,
            group: incident.group.key(),
            provider: of_source.map(|(provider, _)| provider),
            source: of_source.map(|(_, source)| source.to_owned()),
            sources,
            tenant: value(Dimension::Tenant),
            campaign: value(Dimension::Campaign),
            mailbox_provider: value(Dimension::MailboxProvider),
            cause: cause.map(|cause| cause.scope.key()),
            cause_share: cause.map(|cause| cause.share),
            alert_rule: lead.rule.clone(),
            metric: name_of(lead.metric),
            value: lead.value,
            threshold: lead.threshold,
            numerator: lead.numerator,
            volume: lead.volume,
            summary: lead.summary.clone(),
            runbook: lead.runbook.clone(),
            reason: incident.reason,
            opened_at: incident.opened_at,
            at: incident.at,
        })
    }

    /// Returns the digest of the incident and the transition. It is the same if the incident is published again.
    pub fn transition_id(&self) -> EventId {
        let transition = match self.change {
            Change::Escalated => format!("escalated/{}", name_of(self.severity)),
            Change::Reminder => format!("reminder/{}", self.seq),
            change => change.as_str().to_owned(),
        };
        IdBuilder::new("transition")
            .part(self.id.to_string().as_bytes())
            .part(transition.as_bytes())
            .finish()
    }

    /// Returns whether settings can name the field after `incident.`.
    pub fn has_field(name: &str) -> bool {
        Self::FIELDS.contains(&name)
    }

    /// Returns an incident with every field, to try templates on.
    pub fn sample() -> Self {
        let text = |text: &str| Some(text.to_owned());
        Self {
            id: IncidentId::try_from("07".repeat(16)).unwrap_or_else(|_| unreachable!()),
            seq: 1,
            change: Change::Opened,
            family: Family::Bounces,
            severity: Severity::Critical,
            group: "source/ses/acme".to_owned(),
            provider: Some(Provider::Ses),
            source: text("acme"),
            sources: vec!["ses/acme".to_owned()],
            tenant: text("acme"),
            campaign: text("spring-sale"),
            mailbox_provider: text("gmail"),
            cause: text("campaign/ses/acme/spring-sale"),
            cause_share: Some(0.9),
            alert_rule: "bounce-rate".to_owned(),
            metric: "bounce".to_owned(),
            value: Some(0.2),
            threshold: 0.1,
            numerator: 40,
            volume: 200,
            summary: "source/ses/acme: bounce rate 20 % in 5m (40 of 200 sent), over 10 %"
                .to_owned(),
            runbook: "docs/runbooks.md#bounce-rate".to_owned(),
            reason: Some(ResolveReason::Recovered),
            opened_at: 1_795_255_200_000_000,
            at: 1_795_255_201_000_000,
        }
    }
}

/// Which changes of incidents start a rule.
#[derive(Debug, Clone)]
pub(crate) struct IncidentFilter {
    changes: Vec<Change>,
    families: Option<Vec<Family>>,
    severities: Option<Vec<Severity>>,
    sources: Option<GlobSet>,
    campaigns: Option<GlobSet>,
}

impl IncidentFilter {
    pub(crate) fn read(settings: &WhenIncidentSettings) -> Checked<Self> {
        let WhenIncidentSettings { changes, families, severities, sources, campaigns } = settings;
        let field = |name: &str| format!("when.incidents.{name}");
        let change = |name: &String| {
            let known = CHANGES.into_iter().find(|change| change.as_str() == name);
            known.ok_or_else(|| Problem::Change(name.clone()))
        };
        let family = |name: &String| named(name).ok_or_else(|| Problem::Family(name.clone()));
        let severity = |name: &String| named(name).ok_or_else(|| Problem::Severity(name.clone()));
        let changes = at(field("changes"), read_list(changes.as_ref(), change))?;
        Ok(Self {
            changes: changes.unwrap_or_else(|| vec![Change::Opened]),
            families: at(field("families"), read_list(families.as_ref(), family))?,
            severities: at(field("severities"), read_list(severities.as_ref(), severity))?,
            sources: at(field("sources"), read_globs(sources.as_ref()))?,
            campaigns: at(field("campaigns"), read_globs(campaigns.as_ref()))?,
        })
    }

    pub(crate) fn matches(&self, incident: &IncidentFacts) -> bool {
        let name_of = |source: &String| source.split_once('/').map(|(_, name)| name.to_owned());
        let mut names: Vec<String> = incident.sources.iter().filter_map(name_of).collect();
        names.extend(incident.source.clone());
        let is_source = |globs: &GlobSet| names.iter().any(|name| globs.is_match(name));
        let is_campaign =
            |globs: &GlobSet| incident.campaign.as_ref().is_some_and(|name| globs.is_match(name));
        self.changes.contains(&incident.change)
            && self.families.as_ref().is_none_or(|all| all.contains(&incident.family))
            && self.severities.as_ref().is_none_or(|all| all.contains(&incident.severity))
            && self.sources.as_ref().is_none_or(is_source)
            && self.campaigns.as_ref().is_none_or(is_campaign)
    }
}

/// Returns the value of an enumeration by its name in JSON.
fn named<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_value(Value::String(name.to_owned())).ok()
}

/// Returns the name of a value of an enumeration in JSON.
fn name_of(value: impl Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}
