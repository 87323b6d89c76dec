use serde::{Deserialize, Serialize};

/// Why an open or click is attributed to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutomationReason {
    /// Apple Mail Privacy Protection fetched it, according to the provider or the user agent.
    AppleMpp,
    /// An image proxy or a prefetcher fetched it.
    Proxy,
    /// The provider flags it as a bot and does not name the bot.
    Bot,
    /// The user agent belongs to a link scanner, a crawler or another program.
    Scanner,
    /// The address belongs to a data centre.
    DataCentre,
    /// It happened within moments of the delivery.
    Immediate,
    /// Many different links of one message were followed within moments.
    LinkBurst,
}

impl AutomationReason {
    pub const ALL: &'static [Self] = &[
        Self::AppleMpp,
        Self::Proxy,
        Self::Bot,
        Self::Scanner,
        Self::DataCentre,
        Self::Immediate,
        Self::LinkBurst,
    ];

    /// The stable name in JSON and ClickHouse.
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

/// A machine and not a person opened or clicked. Such events are kept and counted separately.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Automation {
    pub reason: AutomationReason,
    /// From 0 (a guess) to 1 (the provider states it).
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
