//! Where actions go.

use std::collections::HashMap;
use std::sync::Arc;

use automation::{Action, FieldSource, MailTemplate, RuleSet, Template};
use courier::{ClientSettings, Endpoint, SigningKey};
use lettre::Address;
use service::{Settings, SettingsError, secret};

use crate::settings::{AutomateSettings, Mailer};

/// A rule and the index of an action in it.
pub(crate) type ActionPlace = (String, String);

/// The receivers of all actions that have to be delivered.
pub(crate) struct Receivers(pub(crate) HashMap<ActionPlace, Arc<Receiver>>);

/// Where one action of a rule goes, and in which form.
pub(crate) struct Receiver {
    /// [`Action::name`].
    pub(crate) action: &'static str,
    pub(crate) target: Target,
}

pub(crate) enum Target {
    Webhook(Http),
    Slack(Http, Template),
    Crm(Http, Vec<(String, FieldSource)>),
    Task(Http, Template),
    /// With the address, unless the mail goes to the recipient.
    Mail(Arc<Mailer>, MailTemplate, Option<Address>),
}

/// A URL, and the key that signs requests to it.
pub(crate) struct Http {
    pub(crate) endpoint: Endpoint,
    pub(crate) keys: Vec<SigningKey>,
}

impl Receivers {
    /// Creates the receivers. This opens no connection.
    ///
    /// # Errors
    /// If a URL or a secret is invalid. The error names the rule and the action.
    pub(crate) fn new(
        rules: &RuleSet,
        automate: &AutomateSettings,
        settings: &Settings,
    ) -> Result<Self, SettingsError> {
        let mailer = automate.mailer(rules, settings)?.map(Arc::new);
        let mut receivers = HashMap::new();
        for rule in rules.rules() {
            let mut add = |index: String, action: &Action| -> Result<(), SettingsError> {
                let read = Receiver::of(action, rules, automate, mailer.as_ref()).map_err(
                    |(key, problem)| {
                        let problem =
                            format!("rule `{}`: action {index}: `{key}`: {problem}", rule.name);
                        settings.invalid("automation", problem)
                    },
                )?;
                if let Some(receiver) = read {
                    receivers.insert((rule.name.clone(), index), Arc::new(receiver));
                }
                Ok(())
            };
            for (index, action) in rule.actions.iter().enumerate() {
                match action {
                    Action::FollowUp(follow_up) => {
                        for (inner, action) in follow_up.actions.iter().enumerate() {
                            add(format!("{index}.{inner}"), action)?;
                        }
                    }
                    action => add(index.to_string(), action)?,
                }
            }
        }
        Ok(Self(receivers))
    }
}

impl Receiver {
    /// Returns `None` if the action is a record alone. An error names the key.
    fn of(
        action: &Action,
        rules: &RuleSet,
        automate: &AutomateSettings,
        mailer: Option<&Arc<Mailer>>,
    ) -> Result<Option<Self>, (&'static str, String)> {
        let target = match action {
            Action::Webhook { url, secret } => {
                Target::Webhook(Http::new(url, Some(secret), automate)?)
            }
            Action::Slack { url, text } => {
                Target::Slack(Http::new(url, None, automate)?, text.clone())
            }
            Action::Crm { url, secret, fields } => {
                Target::Crm(Http::new(url, secret.as_ref(), automate)?, fields.clone())
            }
            Action::Task { url, secret, title } => {
                Target::Task(Http::new(url, secret.as_ref(), automate)?, title.clone())
            }
            Action::Email { template: name, to } => match (mailer, rules.mails().get(name)) {
                (Some(mailer), Some(template)) => {
                    let to = to.as_ref().map(|to| to.parse::<Address>()).transpose();
                    let to = to.map_err(|error| ("to", format!("is no address: {error}")))?;
                    Target::Mail(Arc::clone(mailer), template.clone(), to)
                }
                (None, _) => return Err(("template", "automate.smtp is not set".to_owned())),
                (_, None) => return Err(("template", format!("there is no template `{name}`"))),
            },
            Action::SegmentAdd(_)
            | Action::SegmentRemove(_)
            | Action::ListAdd(_)
            | Action::ListRemove(_)
            | Action::Points(_)
            | Action::FollowUp(_) => return Ok(None),
        };
        Ok(Some(Self { action: action.name(), target }))
    }
}

impl Http {
    fn new(
        url: &str,
        signing: Option<&String>,
        automate: &AutomateSettings,
    ) -> Result<Self, (&'static str, String)> {
        let url = secret::resolve(url).map_err(|error| ("url", error.to_string()))?;
        let client = ClientSettings {
            guard: automate.guard(),
            timeout: automate.timeout,
            user_agent: concat!("mailpulse-automate/", env!("CARGO_PKG_VERSION")),
        };
        let endpoint = Endpoint::new(&url, client).map_err(|error| ("url", error.to_string()))?;
        if endpoint.is_plaintext() {
            tracing::warn!(
                ?endpoint,
                "actions are sent over http, so others in the network can read addresses; use https"
            );
        }
        let key = |text: &String| -> Result<SigningKey, (&'static str, String)> {
            let text = secret::resolve(text).map_err(|error| ("secret", error.to_string()))?;
            SigningKey::parse(&text).map_err(|error| ("secret", error.to_string()))
        };
        let keys = signing.map(key).transpose()?.into_iter().collect();
        Ok(Self { endpoint, keys })
    }
}
