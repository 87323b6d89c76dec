//! The values of `mail.panes` and `mail.rates`.

use serde::{Deserialize, Serialize};

use crate::{Counts, PaneStart, Scope, WindowResult};

/// The counts that one batch of the fold stage adds to one pane of one scope. The value of
/// `mail.panes`, keyed by [`Scope::key`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaneDelta {
    /// The scope of the events.
    #[serde(flatten)]
    pub scope: Scope,
    /// The pane in which the events happened.
    pub pane: PaneStart,
    /// The counts to add to the pane.
    pub counts: Counts,
}

/// One window of one scope. The value of `mail.rates`, keyed by [`Scope::key`].
///
/// The same scope, width and end can be published several times. The greatest revision is the valid
/// one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScopeRate {
    /// The scope of the events.
    #[serde(flatten)]
    pub scope: Scope,
    /// The window with its counts and rates.
    #[serde(flatten)]
    pub window: WindowResult,
}

#[cfg(test)]
mod tests {
    use event::{OccurredAt, Provider};

    use super::*;
    use crate::Width;

    #[test]
    fn the_values_have_the_documented_json_form() {
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
