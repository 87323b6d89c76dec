use event::Counter::{
    AutoReplies, Clicked, Complained, Deferrals, Deferred, DeferredSettled, Delivered, Dropped,
    Injected, LateBounces, MachineClicked, MachineOpened, Opened, Unsubscribed,
};
use serde::{Deserialize, Serialize};
use window::{BOUNCES, Counts, sent};

/// The weeks that a bucket keeps: the running one and the four before.
pub(super) const KEPT: usize = 5;

/// What a baseline counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Series {
    /// Everything that happens, once per message and recipient.
    Events,
    /// Deliveries.
    Delivered,
    /// Bounces that were not late.
    Bounced,
    /// Opens by people.
    Opened,
    /// Clicks by people.
    Clicked,
    /// Complaints.
    Complained,
    /// Messages that were deferred.
    Deferred,
    /// Messages that a server has judged at least once: the denominator of the deferral rate.
    Attempted,
}

impl Series {
    /// The number of series.
    pub(super) const COUNT: usize = 8;

    /// The series whose silence is looked for: all events, and three kinds.
    pub const TRACKED: [Self; 4] = [Self::Events, Self::Delivered, Self::Opened, Self::Clicked];

    const ALL: [Self; Self::COUNT] = [
        Self::Events,
        Self::Delivered,
        Self::Bounced,
        Self::Opened,
        Self::Clicked,
        Self::Complained,
        Self::Deferred,
        Self::Attempted,
    ];

    /// Returns the stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Delivered => "delivered",
            Self::Bounced => "bounced",
            Self::Opened => "opened",
            Self::Clicked => "clicked",
            Self::Complained => "complained",
            Self::Deferred => "deferred",
            Self::Attempted => "attempted",
        }
    }

    /// Returns how much of the series is in the counts.
    pub fn of(self, counts: &Counts) -> u64 {
        match self {
            Self::Events => {
                let others = [
                    Injected,
                    Delivered,
                    Deferrals,
                    LateBounces,
                    AutoReplies,
                    Dropped,
                    Opened,
                    Clicked,
                    MachineOpened,
                    MachineClicked,
                    Complained,
                    Unsubscribed,
                ];
                counts.sum(&BOUNCES).saturating_add(counts.sum(&others))
            }
            Self::Delivered => counts.get(Delivered),
            Self::Bounced => counts.sum(&BOUNCES),
            Self::Opened => counts.get(Opened),
            Self::Clicked => counts.get(Clicked),
            Self::Complained => counts.get(Complained),
            Self::Deferred => counts.get(Deferred),
            Self::Attempted => sent(counts)
                .saturating_add(counts.get(Deferred))
                .saturating_sub(counts.get(DeferredSettled)),
        }
    }
}

/// The counts of one hour of one week.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HourCounts {
    /// The number of the week.
    #[serde(rename = "w")]
    pub(super) week: i32,
    /// The start of the hour, in hours since the epoch.
    #[serde(rename = "h")]
    hour: i64,
    /// By series.
    #[serde(rename = "c")]
    pub(super) counts: [u32; Series::COUNT],
    /// The longest time without an event, in seconds.
    #[serde(rename = "g", default)]
    longest_gap: u32,
}

/// One hour of the week, over the last weeks. The JSON form is stored in the changelog.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bucket(Vec<HourCounts>);

impl HourCounts {
    /// `start` and `longest_gap` are in microseconds.
    pub(super) fn of(start: i64, week: i32, counts: &Counts, longest_gap: i64) -> Self {
        let number = |series: Series| u32::try_from(series.of(counts)).unwrap_or(u32::MAX);
        Self {
            week,
            hour: start.div_euclid(super::HOUR),
            counts: Series::ALL.map(number),
            longest_gap: u32::try_from(longest_gap / 1_000_000).unwrap_or(0).min(3600),
        }
    }

    /// Returns the start of the hour, in UTC microseconds.
    pub(super) const fn start(&self) -> i64 {
        self.hour.saturating_mul(super::HOUR)
    }
}

impl Bucket {
    /// Returns the hours of the last weeks, the latest first.
    pub(super) fn hours(&self) -> std::slice::Iter<'_, HourCounts> {
        self.0.iter()
    }

    /// Adds an hour that is later than those of the bucket.
    pub(super) fn add(&mut self, new: HourCounts) {
        let week = new.week;
        match self.0.first_mut().filter(|latest| latest.week == week) {
            // The hour that is repeated when summer time ends.
            Some(latest) => {
                latest.hour = new.hour;
                latest.longest_gap = latest.longest_gap.max(new.longest_gap);
                let both = latest.counts.iter_mut().zip(new.counts);
                both.for_each(|(count, more)| *count = count.saturating_add(more));
            }
            None => self.0.insert(0, new),
        }
        self.0.retain(|it| week.saturating_sub(it.week) < KEPT as i32);
        self.0.truncate(KEPT);
    }

    /// Returns the start of the latest hour, in UTC microseconds.
    pub(super) fn observed(&self) -> Option<i64> {
        self.0.first().map(HourCounts::start)
    }

    /// Returns the start of the oldest hour, in UTC microseconds.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.0.last().map(HourCounts::start)
    }

    /// Returns the count of a week.
    pub(super) fn count(&self, week: i32, series: Series) -> f64 {
        let found = self.0.iter().find(|it| it.week == week);
        found.map_or(0.0, |it| it.counts[series as usize].into())
    }

    /// Returns the counts of the four weeks before `week`, the latest first.
    pub(super) fn last_weeks(&self, week: i32, series: Series) -> [f64; 4] {
        [1, 2, 3, 4].map(|ago| self.count(week - ago, series))
    }

    /// Returns the longest time without an event in this hour, in the four weeks before `week`, in
    /// microseconds.
    pub(super) fn longest_gap(&self, week: i32) -> i64 {
        let weeks = self.0.iter().filter(|it| (1..=4).contains(&(week - it.week)));
        weeks.map(|it| i64::from(it.longest_gap) * 1_000_000).max().unwrap_or(0)
    }
}
