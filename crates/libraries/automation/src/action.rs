//! What rules do.

use std::collections::BTreeMap;

use event::{EventId, IdBuilder, Kind};
use serde::{Deserialize, Serialize};

use crate::error::{Checked, Problem, at};
use crate::rule::{check_length, check_name};
use crate::settings::ActionSettings;
use crate::span::{self, DAY, SECOND};
use crate::template::{Form, Mails, Template};
use crate::{Facts, IncidentFacts, Intent, Subject};

/// The greatest number of actions of a rule, and of a follow-up.
const MOST_ACTIONS: usize = 16;
/// The greatest number of fields of a CRM action.
const MOST_FIELDS: usize = 64;
/// The longest time until a follow-up, in microseconds.
const LONGEST_FOLLOW_UP: i64 = 30 * DAY;
/// The text of a Slack message without `text`.
const SLACK_TEXT: &str = "{{ rule }}: {{ event.recipient }} {{ event.kind }} ({{ event.source }})";
/// The same in a rule that starts from incidents.
const SLACK_TEXT_OF_INCIDENT: &str =
    "{{ rule }}: {{ incident.severity }} {{ incident.change }}: {{ incident.summary }}";

/// An action, checked.
#[derive(Debug, Clone)]
pub enum Action {
    /// A signed webhook.
    Webhook {
        /// As in the settings, not resolved.
        url: String,
        /// As in the settings, not resolved.
        secret: String,
    },
    /// A message to a Slack channel.
    Slack {
        /// As in the settings, not resolved.
        url: String,
        /// The text.
        text: Template,
    },
    /// A webhook with chosen fields.
    Crm {
        /// As in the settings, not resolved.
        url: String,
        /// As in the settings, not resolved.
        secret: Option<String>,
        /// What the receiver's fields contain.
        fields: Vec<(String, FieldSource)>,
    },
    /// A task for a person.
    Task {
        /// As in the settings, not resolved.
        url: String,
        /// As in the settings, not resolved.
        secret: Option<String>,
        /// The title.
        title: Template,
    },
    /// The recipient becomes a member of the segment.
    SegmentAdd(String),
    /// The recipient leaves the segment.
    SegmentRemove(String),
    /// The recipient shall get the mail of the list.
    ListAdd(String),
    /// The recipient shall no longer get the mail of the list.
    ListRemove(String),
    /// The recipient gets points.
    Points(i64),
    /// A mail.
    Email {
        /// The name of the template.
        template: String,
        /// The address. `None`: that of the recipient.
        to: Option<String>,
    },
    /// Further actions after some time.
    FollowUp(FollowUpAction),
}

/// Actions after some time.
#[derive(Debug, Clone)]
pub struct FollowUpAction {
    /// Microseconds after the event.
    pub after: i64,
    /// An event of this kind makes the actions unnecessary.
    pub unless: Option<Kind>,
    /// What is done.
    pub actions: Vec<Action>,
}

/// What a field contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldSource {
    /// A field of the event; see [`Facts::field`].
    Event(String),
    /// A field of the incident: one of [`IncidentFacts::FIELDS`].
    Incident(String),
    /// A fixed text.
    Static(String),
}

impl Action {
    /// The name of the type in settings, records and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Slack { .. } => "slack",
            Self::Crm { .. } => "crm",
            Self::Task { .. } => "task",
            Self::SegmentAdd(_) => "segment.add",
            Self::SegmentRemove(_) => "segment.remove",
            Self::ListAdd(_) => "list.add",
            Self::ListRemove(_) => "list.remove",
            Self::Points(_) => "points",
            Self::Email { .. } => "email",
            Self::FollowUp(_) => "followup",
        }
    }

    /// Returns whether something has to be delivered. The other actions are records alone.
    pub const fn is_delivered(&self) -> bool {
        matches!(
            self,
            Self::Webhook { .. }
                | Self::Slack { .. }
                | Self::Crm { .. }
                | Self::Task { .. }
                | Self::Email { .. }
        )
    }

    /// Returns the segment, list or template that the action names.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::SegmentAdd(name)
            | Self::SegmentRemove(name)
            | Self::ListAdd(name)
            | Self::ListRemove(name)
            | Self::Email { template: name, .. } => Some(name),
            _ => None,
        }
    }

    /// `sample` is what can start the rule.
    fn read(
        settings: &ActionSettings,
        field: &str,
        (mails, sample): (&Mails, &Subject),
    ) -> Checked<Self> {
        let is_about_incidents = sample.event().is_none();
        if is_about_incidents && needs_recipient(settings) {
            return Err((field.to_owned(), Problem::NeedsRecipient));
        }
        let slack_text = if is_about_incidents { SLACK_TEXT_OF_INCIDENT } else { SLACK_TEXT };
        let named =
            |name: &String| at(format!("{field}.name"), check_name(name)).map(|()| name.clone());
        Ok(match settings {
            ActionSettings::Webhook { url, secret } => {
                Self::Webhook { url: read_url(url, field)?, secret: read_secret(secret, field)? }
            }
            ActionSettings::Slack { url, text } => Self::Slack {
                url: read_url(url, field)?,
                text: read_template(
                    text.as_deref().unwrap_or(slack_text),
                    (field, "text"),
                    Form::Slack,
                    sample,
                )?,
            },
            ActionSettings::Crm { url, secret, fields } => Self::Crm {
                url: read_url(url, field)?,
                secret: secret.as_ref().map(|it| read_secret(it, field)).transpose()?,
                fields: read_fields(fields, field, is_about_incidents)?,
            },
            ActionSettings::Task { url, secret, title } => Self::Task {
                url: read_url(url, field)?,
                secret: secret.as_ref().map(|it| read_secret(it, field)).transpose()?,
                title: read_template(title, (field, "title"), Form::Plain, sample)?,
            },
            ActionSettings::SegmentAdd { name } => Self::SegmentAdd(named(name)?),
            ActionSettings::SegmentRemove { name } => Self::SegmentRemove(named(name)?),
            ActionSettings::ListAdd { name } => Self::ListAdd(named(name)?),
            ActionSettings::ListRemove { name } => Self::ListRemove(named(name)?),
            ActionSettings::Points { add } => Self::Points(*add),
            ActionSettings::Email { template, to } => {
                let problem = || Problem::NoTemplate(template.clone());
                let mail = mails.get(template).ok_or_else(problem);
                let mail = at(format!("{field}.template"), mail)?;
                at(format!("{field}.template"), mail.check(sample))?;
                let to = at(format!("{field}.to"), read_address(to.as_ref(), is_about_incidents))?;
                Self::Email { template: template.clone(), to }
            }
            ActionSettings::FollowUp { after, unless, actions } => {
                let after = span::read(after, SECOND..=LONGEST_FOLLOW_UP);
                let unless = unless.as_ref().map(|name| {
                    let kind = name.parse().map_err(|_| Problem::Kind(name.clone()));
                    at(format!("{field}.unless"), kind)
                });
                if let Some(index) =
                    actions.iter().position(|it| matches!(it, ActionSettings::FollowUp { .. }))
                {
                    return Err((format!("{field}.do[{index}]"), Problem::Nested));
                }
                Self::FollowUp(FollowUpAction {
                    after: at(format!("{field}.after"), after)?,
                    unless: unless.transpose()?,
                    actions: read_all(actions, &format!("{field}.do"), (mails, sample))?,
                })
            }
        })
    }
}

pub(crate) fn read_all(
    settings: &[ActionSettings],
    field: &str,
    (mails, sample): (&Mails, &Subject),
) -> Checked<Vec<Action>> {
    at(field, check_length(settings.len(), MOST_ACTIONS))?;
    if settings.is_empty() {
        return Err((field.to_owned(), Problem::Empty));
    }
    let numbered = settings.iter().enumerate();
    let read = |(index, it)| Action::read(it, &format!("{field}[{index}]"), (mails, sample));
    numbered.map(read).collect()
}

/// Returns whether the action is about a recipient. An incident has none.
const fn needs_recipient(settings: &ActionSettings) -> bool {
    match settings {
        ActionSettings::Webhook { .. }
        | ActionSettings::Slack { .. }
        | ActionSettings::Crm { .. }
        | ActionSettings::Task { .. }
        | ActionSettings::Email { .. } => false,
        ActionSettings::SegmentAdd { .. }
        | ActionSettings::SegmentRemove { .. }
        | ActionSettings::ListAdd { .. }
        | ActionSettings::ListRemove { .. }
        | ActionSettings::Points { .. }
        | ActionSettings::FollowUp { .. } => true,
    }
}

fn read_address(to: Option<&String>, is_about_incidents: bool) -> Result<Option<String>, Problem> {
    match (to, is_about_incidents) {
        (None, false) => Ok(None),
        (None, true) => Err(Problem::NoAddress),
        (Some(_), false) => Err(Problem::AddressOfEvent),
        (Some(address), true) => {
            let is_text = |part: &str| {
                !part.is_empty()
                    && !part.contains(|c: char| {
                        c.is_whitespace() || c.is_control() || ",;:<>()[]\"\\@".contains(c)
                    })
            };
            let parts = address.rsplit_once('@');
            let is_address = address.len() <= 254
                && parts.is_some_and(|(local, domain)| is_text(local) && is_text(domain));
            if is_address { Ok(Some(address.clone())) } else { Err(Problem::Address) }
        }
    }
}

fn read_url(url: &str, field: &str) -> Checked<String> {
    let is_url = ["https://", "http://", "env:", "file:"]
        .iter()
        .any(|start| url.strip_prefix(start).is_some_and(|rest| !rest.is_empty()));
    at(format!("{field}.url"), if is_url { Ok(url.to_owned()) } else { Err(Problem::Url) })
}

fn read_secret(secret: &str, field: &str) -> Checked<String> {
    let is_secret = !secret.trim().is_empty();
    let secret = if is_secret { Ok(secret.to_owned()) } else { Err(Problem::Secret) };
    at(format!("{field}.secret"), secret)
}

fn read_template(
    text: &str,
    (field, name): (&str, &str),
    form: Form,
    sample: &Subject,
) -> Checked<Template> {
    at(format!("{field}.{name}"), Template::new(text, form, sample))
}

fn read_fields(
    fields: &BTreeMap<String, String>,
    field: &str,
    is_about_incidents: bool,
) -> Checked<Vec<(String, FieldSource)>> {
    at(format!("{field}.fields"), check_length(fields.len(), MOST_FIELDS))?;
    let read = |(name, text): (&String, &String)| {
        let source = if let Some(fixed) = text.strip_prefix("static:") {
            Ok(FieldSource::Static(fixed.to_owned()))
        } else {
            let known = if is_about_incidents {
                let name = text.strip_prefix("incident.");
                let name = name.filter(|name| IncidentFacts::has_field(name));
                name.map(|name| FieldSource::Incident(name.to_owned()))
            } else {
                let name = text.strip_prefix("event.").filter(|name| Facts::has_field(name));
                name.map(|name| FieldSource::Event(name.to_owned()))
            };
            known.ok_or_else(|| Problem::FieldSource(text.clone()))
        };
        Ok((name.clone(), at(format!("{field}.fields.{name}"), source)?))
    };
    fields.iter().map(read).collect()
}

/// Returns the id of an action. It is the same however often the event is read. `event_id` is [`Subject::id`].
pub fn action_id(rule: &str, event_id: EventId, index: &str) -> EventId {
    IdBuilder::new("action")
        .part(rule.as_bytes())
        .part(event_id.as_bytes())
        .part(index.as_bytes())
        .finish()
}

/// One action that was decided: the value of `mail.actions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionRecord {
    /// The digest of rule, [`Subject::id`] and index. Deliveries have it as `Idempotency-Key`.
    pub action_id: EventId,
    /// The rule.
    pub rule: String,
    /// Which of the rule's actions: its index in `do`, or `2.0` for the first one in the follow-up at 2.
    pub index: String,
    /// [`Action::name`].
    #[serde(rename = "type")]
    pub action: String,
    /// The segment, list or template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<i64>,
    /// When it was decided: the receipt of the event, or when the follow-up was due. UTC microseconds.
    pub at: i64,
    /// The intent that led to it.
    pub intent_id: EventId,
    /// What started the rule.
    #[serde(flatten)]
    pub subject: Subject,
}

impl ActionRecord {
    /// Returns the records of an intent that was allowed, each with its action.
    pub fn all<'a>(rule: &'a crate::Rule, intent: &Intent) -> Vec<(Self, &'a Action)> {
        let (prefix, actions) = match intent.follow_up {
            None => (String::new(), &rule.actions),
            Some(index) => match rule.actions.get(usize::from(index)) {
                Some(Action::FollowUp(follow_up)) => (format!("{index}."), &follow_up.actions),
                _ => return Vec::new(),
            },
        };
        let numbered = actions.iter().enumerate();
        let immediate = numbered.filter(|(_, action)| !matches!(action, Action::FollowUp(_)));
        immediate
            .map(|(number, action)| {
                let index = format!("{prefix}{number}");
                let record = Self {
                    action_id: action_id(&rule.name, intent.subject.id(), &index),
                    rule: rule.name.clone(),
                    index,
                    action: action.name().to_owned(),
                    name: action.target().map(str::to_owned),
                    add: if let Action::Points(add) = action { Some(*add) } else { None },
                    at: intent.at,
                    intent_id: intent.intent_id,
                    subject: intent.subject.clone(),
                };
                (record, action)
            })
            .collect()
    }
}
