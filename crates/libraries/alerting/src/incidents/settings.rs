const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3600 * SECOND;

/// When incidents are joined, and when people are notified. Times are microseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct IncidentSettings {
    /// How many sources must break one family at a mailbox provider, or at an ESP, so that this is one
    /// incident. 0 joins nothing across sources.
    pub join_sources: u32,
    /// Within what time they must break it.
    pub join_within: i64,
    /// How long the notification about a source waits if other sources have just broken the same
    /// family, so that they can be joined. The first source never waits.
    pub join_wait: i64,
    /// The same, if the severity is page.
    pub join_wait_page: i64,
    /// The share of the active sources of an ESP that must break a family to be one incident.
    pub join_share: f64,
    /// The share of all active sources that must break a family so that the cause is probably ours.
    pub join_share_ours: f64,
    /// How many notifications an hour a group has, apart from escalations.
    pub notifications_per_hour: usize,
    /// After what time people are reminded of an open incident, unless its rule has a time of its own.
    pub remind: i64,
    /// The same, if the severity is page.
    pub remind_page: i64,
    /// How often an open incident is published again while only its text changes. During the first such
    /// time of an incident every change is published, so that its page knows the cause.
    pub update_every: i64,
    /// How long an incident that is over can still be judged.
    pub keep_ended: i64,
    /// The greatest number of open incidents. Further ones are one incident.
    pub max_open: usize,
    /// The greatest number of incidents that are over and can still be judged.
    pub max_ended: usize,
    /// The greatest number of episodes of an incident whose alerts are kept. Further ones are counted.
    pub max_episodes: usize,
    /// The greatest number of open episodes. The alerts of further ones are dropped.
    pub max_all_episodes: usize,
}

impl Default for IncidentSettings {
    fn default() -> Self {
        Self {
            join_sources: 3,
            join_within: 15 * 60 * SECOND,
            join_wait: 60 * SECOND,
            join_wait_page: 2 * SECOND,
            join_share: 0.5,
            join_share_ours: 0.8,
            notifications_per_hour: 6,
            remind: 24 * HOUR,
            remind_page: 4 * HOUR,
            update_every: 10 * SECOND,
            keep_ended: 14 * 24 * HOUR,
            max_open: 2_000,
            max_ended: 2_000,
            max_episodes: 200,
            max_all_episodes: 100_000,
        }
    }
}
