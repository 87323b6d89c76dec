//! Fields that hold message ids. `<20261121.1@mx.example.com>` has the form of an address and is
//! nobody's; events are joined by it.

/// Whether a field of this name holds one, in any spelling: `smtp-id`, `Message-Id`, `messageId`,
/// `sg_message_id`, `In-Reply-To`.
pub(crate) fn holds_message_id(name: &str) -> bool {
    let letters: String = name
        .chars()
        .filter(|c| !matches!(c, '-' | '_' | '.' | ' '))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    letters.ends_with("messageid")
        || matches!(letters.as_str(), "smtpid" | "msgid" | "inreplyto" | "references")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_message_ids_in_every_providers_spelling() {
        for name in ["smtp-id", "message-id", "message_id", "messageId", "Message-Id", "MessageID"]
        {
            assert!(holds_message_id(name), "{name}");
        }
        for name in ["email", "id", "recipient", "message", "message-id-of", ""] {
            assert!(!holds_message_id(name), "{name}");
        }
    }
}
