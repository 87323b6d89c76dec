//! Templates: text with values of the event. They can do little, and what they can do is bounded.

use std::collections::BTreeMap;
use std::io::{self, Write};

use minijinja::{
    AutoEscape, Environment, Output, State, UndefinedBehavior, Value, escape_formatter,
};
use serde::Serialize;

use crate::error::{Checked, Problem, at};
use crate::rule::{check_length, check_name};
use crate::settings::TemplateSettings;
use crate::{Facts, IncidentFacts, RuleError, Subject};

/// The longest template in bytes.
const LONGEST_TEMPLATE: usize = 256 << 10;
/// The greatest result in bytes.
const MOST_RENDERED: usize = 1 << 20;
/// How many instructions a template may execute. A mail of a hundred lines needs a few hundred.
const FUEL: u64 = 50_000;
/// The greatest number of templates of mails.
const MOST_TEMPLATES: usize = 1_000;
/// The longest subject in characters (RFC 5322 §2.1.1 allows 998 bytes in a line).
const LONGEST_SUBJECT: usize = 200;

/// A template that cannot be rendered for an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the template cannot be rendered: {0}")]
pub struct RenderError(String);

/// What a template can use.
#[derive(Debug, Clone, Copy, Serialize)]
struct Context<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incident: Option<&'a serde_json::Value>,
    rule: &'a str,
    action_id: &'a str,
}

/// A template of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    form: Form,
}

/// What the result of a template is. Values of the event are escaped accordingly; the template itself is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Plain,
    Html,
    /// The mrkdwn of Slack (<https://docs.slack.dev/messaging/formatting-message-text>).
    Slack,
}

impl Form {
    const SLACK: &'static str = "slack";

    const fn escape(self) -> AutoEscape {
        match self {
            Self::Plain => AutoEscape::None,
            Self::Html => AutoEscape::Html,
            Self::Slack => AutoEscape::Custom(Self::SLACK),
        }
    }
}

/// Writes a value. In the text of Slack, no value becomes a link or a mention.
fn format(
    out: &mut Output<'_>,
    state: &State<'_, '_>,
    value: &Value,
) -> Result<(), minijinja::Error> {
    if state.auto_escape() != AutoEscape::Custom(Form::SLACK) {
        return escape_formatter(out, state, value);
    }
    let text = value.to_string();
    if value.is_safe() {
        return Ok(out.write_str(&text)?);
    }
    Ok(out.write_str(&text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"))?)
}

impl Template {
    /// Checks a template by rendering it for a sample.
    ///
    /// # Errors
    /// Fails if it is too long, or if it cannot be rendered.
    pub(crate) fn new(text: &str, form: Form, sample: &Subject) -> Result<Self, Problem> {
        if text.len() > LONGEST_TEMPLATE {
            return Err(Problem::Template(format!("it has more than {LONGEST_TEMPLATE} bytes")));
        }
        let template = Self { text: text.to_owned(), form };
        let rendered = template.render(sample, "rule", "0");
        rendered.map(|_| template).map_err(|RenderError(error)| Problem::Template(error))
    }

    /// Renders the template.
    ///
    /// # Errors
    /// Fails if the event or incident lacks what the template uses, or if the template does too much.
    pub fn render(
        &self,
        subject: &Subject,
        rule: &str,
        action_id: &str,
    ) -> Result<String, RenderError> {
        let error = |error: minijinja::Error| RenderError(error.to_string());
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        let escape = self.form.escape();
        environment.set_auto_escape_callback(move |_| escape);
        environment.set_formatter(format);
        let template = environment.template_from_str(&self.text).map_err(error)?;
        let value = subject.json_with_absent_fields();
        let mut out = Bounded(Vec::new());
        let (event, incident) = match subject {
            Subject::Event(_) => (Some(&value), None),
            Subject::Incident(_) => (None, Some(&value)),
        };
        let context = Context { event, incident, rule, action_id };
        template.render_captured_to(context, &mut out).map_err(error)?;
        String::from_utf8(out.0).map_err(|error| RenderError(error.to_string()))
    }
}

/// Collects at most [`MOST_RENDERED`] bytes.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_RENDERED {
            return Err(io::Error::other(format!(
                "the result has more than {MOST_RENDERED} bytes"
            )));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The templates of mails by name.
#[derive(Debug, Clone, Default)]
pub struct Mails(BTreeMap<String, MailTemplate>);

/// A template of a mail.
#[derive(Debug, Clone)]
pub struct MailTemplate {
    subject: Template,
    text: Template,
    html: Option<Template>,
}

/// A rendered mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// One line of at most 200 characters.
    pub subject: String,
    /// The body as plain text.
    pub text: String,
    /// The body as HTML.
    pub html: Option<String>,
}

impl Mails {
    pub(crate) fn read(settings: &[TemplateSettings]) -> Result<Self, RuleError> {
        let mut mails = BTreeMap::new();
        for (index, template) in settings.iter().enumerate() {
            let error = |(field, problem)| {
                let subject = match check_name(&template.name) {
                    Ok(()) => format!("template `{}`", template.name),
                    Err(_) => format!("template {index}"),
                };
                RuleError { subject, field, problem }
            };
            at("", check_length(settings.len(), MOST_TEMPLATES)).map_err(error)?;
            let read = MailTemplate::read(template).map_err(error)?;
            if mails.insert(template.name.clone(), read).is_some() {
                return Err(error(("name".to_owned(), Problem::SameName)));
            }
        }
        Ok(Self(mails))
    }

    /// Returns the template of a name.
    pub fn get(&self, name: &str) -> Option<&MailTemplate> {
        self.0.get(name)
    }
}

impl MailTemplate {
    /// Checks that the template can be rendered for an event or for an incident.
    fn read(settings: &TemplateSettings) -> Checked<Self> {
        at("name", check_name(&settings.name))?;
        Self::read_for(settings, &Subject::Event(Facts::sample())).or_else(|error| {
            Self::read_for(settings, &Subject::Incident(IncidentFacts::sample())).map_err(|_| error)
        })
    }

    fn read_for(settings: &TemplateSettings, sample: &Subject) -> Checked<Self> {
        let html = settings.html.as_deref();
        Ok(Self {
            subject: at("subject", Template::new(&settings.subject, Form::Plain, sample))?,
            text: at("text", Template::new(&settings.text, Form::Plain, sample))?,
            html: at("html", html.map(|html| Template::new(html, Form::Html, sample)).transpose())?,
        })
    }

    /// Checks that the template can be rendered for what starts a rule.
    pub(crate) fn check(&self, sample: &Subject) -> Result<(), Problem> {
        let rendered = self.render(sample, "rule", "0");
        rendered.map(drop).map_err(|RenderError(error)| Problem::Template(error))
    }

    /// Renders the mail.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render(&self, of: &Subject, rule: &str, action_id: &str) -> Result<Mail, RenderError> {
        let subject = self.subject.render(of, rule, action_id)?;
        // A line break would begin another header.
        let words: Vec<_> = subject.split_whitespace().collect();
        let subject = words.join(" ");
        let subject = subject.chars().filter(|c| !c.is_control());
        let html = self.html.as_ref().map(|html| html.render(of, rule, action_id));
        Ok(Mail {
            subject: subject.take(LONGEST_SUBJECT).collect(),
            text: self.text.render(of, rule, action_id)?,
            html: html.transpose()?,
        })
    }
}
