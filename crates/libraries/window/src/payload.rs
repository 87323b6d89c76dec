//! The values of `mail.panes` and `mail.rates`.

use serde::{Deserialize, Serialize};

use crate::{Counts, HourStart, PaneStart, Scope, WindowResult};

/// The counts that one batch of the fold stage adds to one pane of one scope, for the messages of one
/// cohort. The value of
/// `mail.panes`, keyed by [`Scope::key`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaneDelta {
    /// The scope of the events.
    #[serde(flatten)]
    pub scope: Scope,
    /// The pane of ten seconds in which the events happened.
    pub pane: PaneStart,
    /// The hour in which the messages were sent, if it is known and the scope has cohorts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort: Option<HourStart>,
    /// The counts to add to the pane and to the cohort; a negative one is a correction.
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
    use event::Counter::{BouncedHard, BouncedSoft, Delivered, Injected};
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
        let counts = Counts::of([(Delivered, 3), (BouncedSoft, 1)]);
        let mut delta = PaneDelta {
            scope: scope.clone(),
            pane: PaneStart::of(OccurredAt(20_000_007)),
            cohort: None,
            counts: counts + Counts::of([(BouncedHard, -1)]),
        };
        let json = r#"{"scope":"mailbox_provider","provider":"ses","source":"acme","mailbox_provider":"gmail","pane":20000000,"counts":{"delivered":3,"bounced_hard":-1,"bounced_soft":1}}"#;
        assert_eq!(serde_json::to_string(&delta).unwrap(), json);
        assert_eq!(serde_json::from_str::<PaneDelta>(json).unwrap(), delta);
        delta.cohort = Some(HourStart::of(OccurredAt(7_200_000_001)));
        let json = json.replace(r#""counts""#, r#""cohort":7200000000,"counts""#);
        assert_eq!(serde_json::to_string(&delta).unwrap(), json);
        assert_eq!(serde_json::from_str::<PaneDelta>(&json).unwrap(), delta);

        let rate = ScopeRate { scope, window: WindowResult::new(Width::M5, 30_000_000, counts, 2) };
        let json = r#"{"scope":"mailbox_provider","provider":"ses","source":"acme","mailbox_provider":"gmail","width":"5m","end":30000000,"revision":2,"counts":{"delivered":3,"bounced_soft":1},"rates":{"sent":4,"accepted_by_recipient":3,"bounce":0.25,"hard_bounce":0.0,"soft_bounce":0.25,"block_bounce":0.0,"undetermined_bounce":0.0,"late_bounce":0.0,"deferral":0.0,"delivery":0.75,"complaint":null,"plain_complaint":0.0,"unsubscribe":0.0,"open":0.0,"open_with_machines":0.0,"click":0.0,"engagement":0.0,"injection_loss":null}}"#;
        assert_eq!(serde_json::to_string(&rate).unwrap(), json);
        assert_eq!(serde_json::from_str::<ScopeRate>(json).unwrap(), rate);
    }

    /// The topics of running installations contain this form.
    #[test]
    fn values_of_earlier_releases_can_be_read() {
        let json = r#"{"scope":"source","provider":"ses","source":"acme","pane":20000000,"counts":{"accepted":4}}"#;
        let delta: PaneDelta = serde_json::from_str(json).unwrap();
        assert_eq!((delta.cohort, delta.counts), (None, Counts::of([(Injected, 4)])));
        let json = r#"{"scope":"source","provider":"ses","source":"acme","width":"5m","end":30000000,"revision":2,"counts":{"accepted":4,"bounced_soft":1},"rates":{"sent":4,"sent_is_estimated":true,"accepted_by_recipient":0,"bounce":0.25,"hard_bounce":0.0,"complaint":null,"unsubscribe":null,"open":null,"click":null,"engagement":null}}"#;
        let ScopeRate { window, .. } = serde_json::from_str(json).unwrap();
        assert_eq!(window.counts, Counts::of([(Injected, 4), (BouncedSoft, 1)]));
        assert_eq!((window.rates.bounce, window.rates.deferral), (Some(0.25), None));
    }
}
