//! The channel `teams`, which posts an Adaptive Card to a workflow of Microsoft Teams with the trigger
//! "When a Teams webhook request is received"
//! (<https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook>).

use alerting::Severity;
use courier::{DeliveryError, Endpoint};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::message::{Message, limited};

/// The longest title, in characters. Teams accepts messages of at most 28 KB; with the greatest number of
/// lines and six bytes per character, a message has at most 26 KB.
const MAX_TITLE: usize = 500;
/// The longest value of a line, in characters.
const MAX_LINE: usize = 300;
/// The longest label of a line, in characters.
const MAX_LABEL: usize = 20;
/// The greatest number of lines.
const MAX_LINES: usize = 12;

/// Posts messages to Microsoft Teams.
#[derive(Debug)]
pub struct Teams {
    endpoint: Endpoint,
}

impl Teams {
    /// The endpoint is the URL of the workflow, which is a secret.
    pub const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// Posts the message once.
    ///
    /// # Errors
    /// Fails if the workflow does not accept it.
    pub async fn send(&self, message: &Message) -> Result<(), DeliveryError> {
        self.endpoint.post(HeaderMap::new(), body(message).to_string().into_bytes()).await
    }
}

fn body(message: &Message) -> Value {
    let page = &message.page;
    let color = match message.severity {
        _ if message.kind.is_over() => "Good",
        Severity::Warning => "Warning",
        Severity::Critical | Severity::Page => "Attention",
    };
    let fact = |(label, line): &(String, String)| {
        let (label, line) = (limited(label, MAX_LABEL), limited(line, MAX_LINE));
        json!({ "title": label, "value": escape(&line) })
    };
    let mut facts: Vec<_> = page.lines.iter().take(MAX_LINES).map(fact).collect();
    if let Some(rest) = page.lines.len().checked_sub(MAX_LINES).filter(|rest| *rest > 0) {
        facts.push(json!({ "title": "Also", "value": format!("{rest} more lines") }));
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "msteams": { "width": "Full" },
                "fallbackText": escape(&limited(&page.title, MAX_TITLE)),
                "body": [
                    {
                        "type": "TextBlock",
                        "text": escape(&limited(&page.title, MAX_TITLE)),
                        "weight": "Bolder",
                        "color": color,
                        "wrap": true,
                    },
                    { "type": "FactSet", "facts": facts },
                    {
                        "type": "TextBlock",
                        "text": escape(&limited(&message.subject, MAX_TITLE)),
                        "isSubtle": true,
                        "size": "Small",
                        "wrap": true,
                    },
                ],
            },
        }],
    })
}

/// Escapes the characters that Adaptive Cards read as Markdown.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '\\' | '*' | '_' | '[' | ']' | '`' | '~' | '#') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
