use serde::{Deserialize, Serialize};

use crate::{Counts, PaneStart, Scope, WindowResult};

/// What one commit of the fold step adds to one pane of one scope: the value of `mail.panes`,
/// keyed by [`Scope::key`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaneDelta {
    /// Whose events.
    #[serde(flatten)]
    pub scope: Scope,
    /// When they happened.
    pub pane: PaneStart,
    /// How many of what.
    pub counts: Counts,
}

/// One window of one scope: the value of `mail.rates`, keyed by [`Scope::key`].
///
/// The same scope, width and end can come several times; the greatest revision holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScopeRate {
    /// Whose events.
    #[serde(flatten)]
    pub scope: Scope,
    /// The window and what it holds.
    #[serde(flatten)]
    pub window: WindowResult,
}

#[cfg(test)]
mod tests {
    use event::{OccurredAt, Provider};

    use super::*;
    use crate::Width;

    #[test]
    fn the_topics_values_read_as_documented() {
        let scope = Scope::MailboxProvider {
            provider: Provider::Ses,
            source: "acme".into(),
            mailbox_provider: "gmail".into(),
        };
        let counts = Counts { accepted: 4, bounced_soft: 1, ..Counts::default() };
        let delta =
            PaneDelta { scope: scope.clone(), pane: PaneStart::of(OccurredAt(20_000_007)), counts };
        let json = r#"{"scope":"mailbox_provider","provider":"ses","source":"acme","mailbox_provider":"gmail","pane":20000000,"counts":{"accepted":4,"bounced_soft":1}}"#;
        assert_eq!(serde_json::to_string(&delta).unwrap(), json);
        assert_eq!(serde_json::from_str::<PaneDelta>(json).unwrap(), delta);

        let rate = ScopeRate { scope, window: WindowResult::new(Width::M5, 30_000_000, counts, 2) };
        let json = r#"{"scope":"mailbox_provider","provider":"ses","source":"acme","mailbox_provider":"gmail","width":"5m","end":30000000,"revision":2,"counts":{"accepted":4,"bounced_soft":1},"rates":{"sent":4,"accepted_by_recipient":0,"bounce":0.25,"hard_bounce":0.0,"complaint":null,"unsubscribe":null,"open":null,"click":null,"engagement":null}}"#;
        assert_eq!(serde_json::to_string(&rate).unwrap(), json);
        assert_eq!(serde_json::from_str::<ScopeRate>(json).unwrap(), rate);
    }
}
