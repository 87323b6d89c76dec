//! Fields that contain message ids. `<20261121.1@mx.example.com>` has the form of an address but
//! identifies no person. Queries join events by it, so such a field must keep its value.

/// Returns true if a field of this name contains a message id. Case and separators do not matter:
/// `smtp-id`, `Message-Id`, `messageId`, `sg_message_id`, `In-Reply-To`.
pub(crate) fn holds_message_id(name: &str) -> bool {
    let normalized: String = name
        .chars()
        .filter(|c| !matches!(c, '-' | '_' | '.' | ' '))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    normalized.ends_with("messageid")
        || matches!(normalized.as_str(), "smtpid" | "msgid" | "inreplyto" | "references")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_id_fields_are_recognized_in_every_spelling() {
        for name in ["smtp-id", "message-id", "message_id", "messageId", "Message-Id", "MessageID"]
        {
            assert!(holds_message_id(name), "{name}");
        }
        for name in ["email", "id", "recipient", "message", "message-id-of", ""] {
            assert!(!holds_message_id(name), "{name}");
        }
    }
}
