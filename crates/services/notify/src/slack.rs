//! The channel `slack`, which posts to an incoming webhook
//! (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>). The limits of blocks are
//! those of <https://docs.slack.dev/reference/block-kit/blocks>.

use courier::{DeliveryError, Endpoint};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::message::{Message, limited};

/// The longest text of a header block, in characters.
const MAX_HEADER: usize = 150;
/// The longest text of a section block, in characters.
const MAX_SECTION: usize = 3000;
/// What begins and ends a code block.
const FENCE: &str = "```";

/// Posts messages to Slack.
#[derive(Debug)]
pub struct Slack {
    endpoint: Endpoint,
}

impl Slack {
    /// The endpoint is the URL of the incoming webhook, which is a secret.
    pub const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// Posts the message once.
    ///
    /// # Errors
    /// Fails if Slack does not accept it.
    pub async fn send(&self, message: &Message) -> Result<(), DeliveryError> {
        self.endpoint.post(HeaderMap::new(), body(message).to_string().into_bytes()).await
    }
}

fn body(message: &Message) -> Value {
    let page = &message.page;
    let lines: Vec<_> =
        page.lines.iter().map(|(label, line)| format!("{label:<10}{line}")).collect();
    // A code block keeps the columns. The title is repeated, because the header may be cut.
    let text = format!("{}\n{}", page.title, lines.join("\n")).replace(FENCE, "'''");
    let text = escaped(&text, MAX_SECTION - 2 * FENCE.len());
    json!({
        // Shown in notifications, and by clients that do not show blocks.
        "text": escaped(&page.title, MAX_SECTION),
        "blocks": [
            {
                "type": "header",
                "text": { "type": "plain_text", "text": limited(&page.title, MAX_HEADER) },
            },
            {
                "type": "section",
                "text": { "type": "mrkdwn", "text": format!("{FENCE}{text}{FENCE}") },
            },
            {
                "type": "context",
                "elements": [{ "type": "plain_text", "text": limited(&message.subject, MAX_HEADER) }],
            },
        ],
    })
}

/// Replaces the characters that Slack would read as a link or a mention by entities. The result has at
/// most `max` characters; if the text is longer, the last one is an ellipsis.
fn escaped(text: &str, max: usize) -> String {
    let (mut escaped, mut length) = (String::with_capacity(text.len()), 0);
    for character in text.chars() {
        let mut own = [0; 4];
        let piece = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            other => &*other.encode_utf8(&mut own),
        };
        let piece_length = piece.chars().count();
        if length + piece_length >= max {
            escaped.push('…');
            break;
        }
        escaped.push_str(piece);
        length += piece_length;
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn escaped_text_has_no_markup_and_is_limited(text: String, max in 1_usize..40) {
            let escaped = escaped(&text, max);
            prop_assert!(escaped.chars().count() <= max);
            prop_assert!(!escaped.contains(['<', '>']));
            let entities = ["&amp;", "&lt;", "&gt;"];
            let count: usize = entities.iter().map(|entity| escaped.matches(entity).count()).sum();
            prop_assert_eq!(escaped.matches('&').count(), count);
        }
    }

    #[test]
    fn a_short_text_is_complete() {
        assert_eq!(escaped("a < b & c > d", 100), "a &lt; b &amp; c &gt; d");
        assert_eq!(escaped("abcdef", 4), "abc…");
    }
}
