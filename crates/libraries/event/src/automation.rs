use serde::{Deserialize, Serialize};

/// Why an open or click is held to be a machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutomationReason {
    /// Apple Mail Privacy Protection fetched it: the provider says so, or its user agent does.
    AppleMpp,
    /// The provider names an image proxy or prefetcher.
    Proxy,
    /// The provider flags it as a bot without saying which.
    Bot,
    /// The user agent is a link scanner's, a crawler's or a program's.
    Scanner,
    /// The address is in a data centre, where no people sit.
    DataCentre,
    /// It came within moments of the delivery.
    Immediate,
    /// Many different links of one message were followed within moments.
    LinkBurst,
}

impl AutomationReason {
    /// Every reason.
    pub const ALL: &'static [Self] = &[
        Self::AppleMpp,
        Self::Proxy,
        Self::Bot,
        Self::Scanner,
        Self::DataCentre,
        Self::Immediate,
        Self::LinkBurst,
    ];

    /// The stable snake-case name: JSON value and ClickHouse value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AppleMpp => "apple_mpp",
            Self::Proxy => "proxy",
            Self::Bot => "bot",
            Self::Scanner => "scanner",
            Self::DataCentre => "data_centre",
            Self::Immediate => "immediate",
            Self::LinkBurst => "link_burst",
        }
    }
}

/// A machine, not a person, opened or clicked. Such events are kept and counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Automation {
    /// Why we think so.
    pub reason: AutomationReason,
    /// How sure we are, from 0 to 1.
    pub confidence: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_json_values() {
        for &reason in AutomationReason::ALL {
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(json, format!("\"{}\"", reason.as_str()));
        }
    }
}
