//! Who is a member of which segment: `mail.segments`.

use event::{EventId, IdBuilder};
use serde::{Deserialize, Serialize};

use crate::{Action, ActionRecord};

/// Stands for a recipient in state and in `mail.segments`, so that these name nobody.
pub type RecipientDigest = EventId;

/// Returns the digest of a recipient by the key of its events.
pub fn recipient_digest(key: &[u8]) -> RecipientDigest {
    IdBuilder::new("recipient").part(key).finish()
}

/// A member of a segment: the value of `mail.segments`, whose key is `segment|digest`. A record without a value tells
/// that the recipient is no member any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Since when: UTC microseconds.
    pub since: i64,
    /// The rule that made the recipient a member.
    pub rule: String,
    /// The action.
    pub action_id: EventId,
}

/// Returns the key of a member.
pub fn segment_key(segment: &str, recipient: RecipientDigest) -> String {
    format!("{segment}|{recipient}")
}

/// Reads the key of a member. Returns `None` for any other text.
pub fn read_segment_key(key: &[u8]) -> Option<(&str, RecipientDigest)> {
    let (segment, recipient) = std::str::from_utf8(key).ok()?.rsplit_once('|')?;
    Some((segment, recipient.parse().ok()?))
}

/// Returns the key and value of the record that an action about a segment becomes, and `None` for other actions.
///
/// # Errors
/// Fails if the value cannot be written as JSON, which would be a defect.
pub fn segment_record(
    action: &Action,
    record: &ActionRecord,
    recipient: RecipientDigest,
) -> serde_json::Result<Option<(String, Option<Vec<u8>>)>> {
    let (segment, membership) = match action {
        Action::SegmentAdd(segment) => {
            let (rule, action_id) = (record.rule.clone(), record.action_id);
            (segment, Some(Membership { since: record.at, rule, action_id }))
        }
        Action::SegmentRemove(segment) => (segment, None),
        _ => return Ok(None),
    };
    let value = membership.as_ref().map(serde_json::to_vec).transpose()?;
    Ok(Some((segment_key(segment, recipient), value)))
}
