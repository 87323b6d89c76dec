use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// A time zone by its IANA name, such as `Europe/Berlin`. Its rules are built into the program, so that an hour
/// of the week is the same on every machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// No time zone has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a time zone; write one such as Europe/Berlin or UTC")]
pub struct UnknownZone(pub String);

impl Zone {
    /// The hours of a week.
    pub const HOURS: u8 = 168;

    /// Coordinated universal time.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// Finds a zone by its IANA name.
    ///
    /// # Errors
    /// Fails if there is none of this name.
    pub fn named(name: &str) -> Result<Self, UnknownZone> {
        let zone = TimeZoneDatabase::bundled().get(name);
        zone.map(Self).map_err(|_| UnknownZone(name.to_owned()))
    }

    /// Returns the number of the week (from Monday) and the hour of the week, from 0 to 167, of a moment in UTC
    /// microseconds. A moment that the calendar does not have is in the hour 0 of the week 0.
    pub(super) fn place(&self, micros: i64) -> (i32, u8) {
        let Ok(moment) = Timestamp::from_microsecond(micros) else {
            return (0, 0);
        };
        let local = moment.to_zoned(self.0.clone()).datetime();
        let weekday = local.weekday().to_monday_zero_offset();
        // The first Monday of the epoch was its fifth day.
        let date = local.date();
        let days = date.duration_since(jiff::civil::date(1970, 1, 5)).as_hours() / 24;
        let week = i32::try_from(days.div_euclid(7)).unwrap_or(0);
        let hour = i64::from(weekday) * 24 + i64::from(local.hour());
        (week, u8::try_from(hour).unwrap_or(0))
    }
}
