use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! metrics {
    ($($(#[$doc:meta])+ $variant:ident => $name:literal, $display:literal;)+) => {
        /// The rate that a rule compares with its thresholds. The denominator of the rate is the volume
        /// that a rule requires. [`fraction`](crate::fraction) defines both.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Metric {
            $($(#[$doc])+ $variant,)+
        }

        impl Metric {
            /// Every metric.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the stable name, as in JSON and TOML.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl fmt::Display for Metric {
            /// Writes the name as used in summaries, such as `hard bounce rate`.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $display),+ })
            }
        }
    };
}

metrics! {
    /// Bounces that were not late ÷ sent.
    Bounce => "bounce", "bounce rate";
    /// Hard bounces ÷ sent.
    HardBounce => "hard_bounce", "hard bounce rate";
    /// Soft bounces ÷ sent.
    SoftBounce => "soft_bounce", "soft bounce rate";
    /// Bounces because of the sender ÷ sent.
    BlockBounce => "block_bounce", "block bounce rate";
    /// Bounces of an unknown cause ÷ sent.
    UndeterminedBounce => "undetermined_bounce", "undetermined bounce rate";
    /// Bounces after the delivery ÷ delivered.
    LateBounce => "late_bounce", "late bounce rate";
    /// Messages deferred ÷ messages that a server has judged at least once.
    Deferral => "deferral", "deferral rate";
    /// Messages that the recipient's server accepted ÷ sent.
    Delivery => "delivery", "delivery rate";
    /// Complaints ÷ accepted, at mailbox providers that report complaints.
    Complaint => "complaint", "complaint rate";
    /// Complaints ÷ accepted.
    PlainComplaint => "plain_complaint", "plain complaint rate";
    /// Unsubscribes ÷ accepted.
    Unsubscribe => "unsubscribe", "unsubscribe rate";
    /// Messages opened by people ÷ accepted.
    Open => "open", "open rate";
    /// Messages opened by people or machines ÷ accepted.
    OpenWithMachines => "open_with_machines", "open rate with machines";
    /// Messages clicked by people ÷ accepted.
    Click => "click", "click rate";
    /// Messages opened or clicked by people ÷ accepted.
    Engagement => "engagement", "engagement";
    /// Messages injected of which nothing else is known ÷ injected.
    InjectionLoss => "injection_loss", "injection loss";
}

/// The side of the threshold on which a rate is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// A rate above the threshold is bad.
    Over,
    /// A rate below the threshold is bad.
    Under,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_json_values() {
        for metric in Metric::ALL {
            let json = serde_json::to_string(&metric).unwrap();
            assert_eq!(json, format!("\"{}\"", metric.as_str()));
        }
    }
}
