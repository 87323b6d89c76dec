//! The `[monitor.incidents]` section.

use std::time::Duration;

use alerting::IncidentSettings;
use serde::Deserialize;

/// The keys are explained in `deploy/mailpulse.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IncidentsSection {
    join_sources: u32,
    #[serde(with = "service::units::duration")]
    join_within: Duration,
    #[serde(with = "service::units::duration")]
    join_wait: Duration,
    #[serde(with = "service::units::duration")]
    join_wait_page: Duration,
    join_share: Share,
    join_share_ours: Share,
    notifications_per_hour: NotificationsPerHour,
    #[serde(with = "service::units::duration")]
    remind: Duration,
    #[serde(with = "service::units::duration")]
    remind_page: Duration,
    #[serde(with = "service::units::duration")]
    update_every: Duration,
    #[serde(with = "service::units::duration")]
    keep_ended: Duration,
    max_open: usize,
    max_ended: usize,
    max_episodes: usize,
    max_all_episodes: usize,
}

impl IncidentsSection {
    /// Returns the settings of the incidents.
    pub(crate) fn settings(&self) -> IncidentSettings {
        IncidentSettings {
            join_sources: self.join_sources,
            join_within: micros(self.join_within),
            join_wait: micros(self.join_wait),
            join_wait_page: micros(self.join_wait_page),
            join_share: self.join_share.0,
            join_share_ours: self.join_share_ours.0,
            notifications_per_hour: self.notifications_per_hour.0,
            remind: micros(self.remind),
            remind_page: micros(self.remind_page),
            update_every: micros(self.update_every),
            keep_ended: micros(self.keep_ended),
            max_open: self.max_open,
            max_ended: self.max_ended,
            max_episodes: self.max_episodes,
            max_all_episodes: self.max_all_episodes,
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A number from 0 to 1.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct Share(f64);

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&share) {
            Ok(Self(share))
        } else {
            Err(format!("{share} is not a share; write a number from 0.0 to 1.0"))
        }
    }
}

/// A number from 1 to 60.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "usize")]
struct NotificationsPerHour(usize);

impl TryFrom<usize> for NotificationsPerHour {
    type Error = String;

    fn try_from(number: usize) -> Result<Self, String> {
        if (1..=60).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!(
                "{number} notifications an hour are not possible; write a number from 1 to 60"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of `[monitor.incidents]` in `deploy/mailpulse.toml`, without its comments.
    const DEFAULTS: &str = r#"{
        "join_sources": 3, "join_within": "15m", "join_wait": "60s", "join_wait_page": "2s",
        "join_share": 0.5, "join_share_ours": 0.8, "notifications_per_hour": 6,
        "remind": "24h", "remind_page": "4h", "update_every": "10s", "keep_ended": "14d",
        "max_open": 2000, "max_ended": 2000, "max_episodes": 200, "max_all_episodes": 100000
    }"#;

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let section: IncidentsSection = serde_json::from_str(DEFAULTS).unwrap();
        assert_eq!(section.settings(), IncidentSettings::default());
    }

    #[test]
    fn values_that_make_no_sense_are_rejected() {
        for (good, wrong) in [
            ("\"join_share\": 0.5", "\"join_share\": 1.5"),
            ("\"notifications_per_hour\": 6", "\"notifications_per_hour\": 0"),
            ("\"remind\": \"24h\"", "\"remind\": \"24\""),
            ("\"max_open\": 2000", "\"max_opened\": 2000"),
        ] {
            let text = DEFAULTS.replace(good, wrong);
            assert!(serde_json::from_str::<IncidentsSection>(&text).is_err(), "{wrong}");
        }
    }
}
