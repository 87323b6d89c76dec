use std::fmt;
use std::ops::{Add, AddAssign, Index, Neg, Sub, SubAssign};

use event::{Counter, CounterSet};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

const COUNTERS: usize = Counter::ALL.len();

/// The name of [`Counter::Injected`] in earlier releases.
const OLD_INJECTED: &str = "accepted";

/// The counts of a pane, a window or a delta, by [`Counter`]. Those of a delta can be negative,
/// because an event can take back what an earlier one counted for.
///
/// The JSON form is an object without zeros. Its keys are the names of the counters. Names that this
/// release does not know are ignored. Addition and subtraction wrap around, so they are exact inverses
/// in any order: a running sum is zero after every pane was subtracted again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([i64; COUNTERS]);

impl Counts {
    /// Returns counts with these numbers and zeros otherwise.
    pub fn of<const N: usize>(numbers: [(Counter, i64); N]) -> Self {
        let mut counts = Self::default();
        numbers.into_iter().for_each(|(counter, number)| counts.increase(counter, number));
        counts
    }

    /// Returns true if all counts are 0.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }

    /// Returns the count, or 0 if it is negative.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize].max(0).cast_unsigned()
    }

    /// Returns the sum of the counts of these counters.
    pub fn sum(&self, counters: &[Counter]) -> u64 {
        counters.iter().map(|&counter| self.get(counter)).fold(0, u64::saturating_add)
    }

    /// Adds to one counter.
    pub fn increase(&mut self, counter: Counter, number: i64) {
        let count = &mut self.0[counter as usize];
        *count = count.wrapping_add(number);
    }

    /// Adds 1 to each counter of the set.
    pub fn add_each(&mut self, counters: CounterSet) {
        counters.iter().for_each(|counter| self.increase(counter, 1));
    }

    /// Returns the counters that are not 0, in numeric order.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, i64)> {
        let all = Counter::ALL.iter().copied().zip(self.0);
        all.filter(|&(_, count)| count != 0)
    }
}

impl Index<Counter> for Counts {
    type Output = i64;

    fn index(&self, counter: Counter) -> &i64 {
        &self.0[counter as usize]
    }
}

impl AddAssign<&Self> for Counts {
    fn add_assign(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count = count.wrapping_add(more);
        }
    }
}

impl SubAssign<&Self> for Counts {
    fn sub_assign(&mut self, other: &Self) {
        for (count, less) in self.0.iter_mut().zip(other.0) {
            *count = count.wrapping_sub(less);
        }
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += &other;
        self
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(mut self, other: Self) -> Self {
        self -= &other;
        self
    }
}

impl Neg for Counts {
    type Output = Self;

    fn neg(self) -> Self {
        Self::default() - self
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (counter, count) in self.iter() {
            map.serialize_entry(counter.as_str(), &count)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Names)
    }
}

/// Reads an object of names and numbers.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Counts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of counters")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Counts, A::Error> {
        let mut counts = Counts::default();
        while let Some(Name(counter)) = map.next_key()? {
            match counter {
                Some(counter) => counts.0[counter as usize] = map.next_value()?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(counts)
    }
}

/// The name of a counter. It is read without a copy of its text.
struct Name(Option<Counter>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a counter")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(Name(match name {
                    OLD_INJECTED => Some(Counter::Injected),
                    name => Counter::from_name(name),
                }))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The counts of a stored pane. They are never below 0, and most of them are 0, so only the others are
/// stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaneCounts {
    /// Bit n is set if the counter with the number n is stored.
    stored: u32,
    /// The stored counts, in numeric order of their counters. One pane never counts more than 2^32.
    numbers: Box<[u32]>,
}

/// What was really added to a pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) counts: Counts,
    /// The number of subtractions that had nothing to subtract from.
    pub(crate) without_count: u64,
}

impl PaneCounts {
    /// Returns all counts.
    pub fn to_counts(&self) -> Counts {
        let mut counts = Counts::default();
        let mut numbers = self.numbers.iter();
        for (index, count) in counts.0.iter_mut().enumerate() {
            if self.stored & 1 << index != 0 {
                *count = numbers.next().copied().unwrap_or_default().into();
            }
        }
        counts
    }

    /// Adds a delta, so that no count falls below 0.
    pub fn increase(&mut self, delta: &Counts) {
        let _ = self.add(delta);
    }

    /// Adds a delta. No count falls below 0.
    pub(crate) fn add(&mut self, delta: &Counts) -> Added {
        let before = self.to_counts();
        let mut without_count = 0_u64;
        let mut after = Counts::default();
        for (index, count) in after.0.iter_mut().enumerate() {
            let sum = before.0[index].saturating_add(delta.0[index]);
            without_count = without_count.saturating_add((-sum).max(0).cast_unsigned());
            *count = sum.clamp(0, u32::MAX.into());
        }
        *self = Self::from(&after);
        Added { counts: after - before, without_count }
    }
}

impl From<&Counts> for PaneCounts {
    /// Stores the counts. Negative ones become 0.
    fn from(counts: &Counts) -> Self {
        let mut stored = 0;
        let mut numbers = Vec::with_capacity(COUNTERS);
        for (counter, count) in counts.iter().filter(|(_, count)| *count > 0) {
            stored |= 1 << counter as u32;
            numbers.push(u32::try_from(count).unwrap_or(u32::MAX));
        }
        Self { stored, numbers: numbers.as_slice().into() }
    }
}

impl Serialize for PaneCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_counts().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PaneCounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Counts::deserialize(deserializer).map(|counts| Self::from(&counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Counter::{BouncedSoft, Clicked, Delivered, Injected, Opened};

    #[test]
    fn the_json_form_has_the_names_of_counters_and_no_zeros() {
        let counts = Counts::of([(Injected, 2), (BouncedSoft, -1)]);
        let json = r#"{"injected":2,"bounced_soft":-1}"#;
        assert_eq!(serde_json::to_string(&counts).unwrap(), json);
        assert_eq!(serde_json::from_str::<Counts>(json).unwrap(), counts);
        assert_eq!(serde_json::to_string(&Counts::default()).unwrap(), "{}");
        for counter in Counter::ALL {
            let json = format!(r#"{{"{}":7}}"#, counter.as_str());
            let counts = serde_json::from_str::<Counts>(&json).unwrap();
            assert_eq!(counts, Counts::of([(*counter, 7)]));
        }
    }

    /// The changelogs and topics of running installations contain this form.
    #[test]
    fn counts_of_earlier_releases_can_be_read() {
        let json = r#"{"accepted":3,"delivered":2,"machine_opened":1}"#;
        let counts: Counts = serde_json::from_str(json).unwrap();
        let expected = [(Injected, 3), (Delivered, 2), (Counter::MachineOpened, 1)];
        assert_eq!(counts, Counts::of(expected));
        let later: Counts = serde_json::from_str(r#"{"opened":1,"read_aloud":[5]}"#).unwrap();
        assert_eq!(later, Counts::of([(Opened, 1)]), "a counter of a later release is ignored");
        assert!(serde_json::from_str::<Counts>(r#"{"opened":"1"}"#).is_err());
    }

    #[test]
    fn subtraction_undoes_addition_exactly() {
        let a = Counts::of([(Injected, 3), (Clicked, 1)]);
        let b = Counts::of([(Injected, i64::MAX), (Opened, 7)]);
        assert_eq!(a + b - a, b);
        assert!((a + b - b - a).is_zero());
        assert!((a + -a).is_zero() && !a.is_zero());
    }

    #[test]
    fn a_pane_never_counts_below_zero() {
        let mut pane = PaneCounts::default();
        let two = Counts::of([(Delivered, 2), (Opened, 1)]);
        assert_eq!(pane.add(&two), Added { counts: two, without_count: 0 });
        let added = pane.add(&Counts::of([(Delivered, -3), (Opened, 4), (Clicked, -2)]));
        assert_eq!(added.counts, Counts::of([(Delivered, -2), (Opened, 4)]));
        assert_eq!(added.without_count, 3);
        assert_eq!(pane.to_counts(), Counts::of([(Opened, 5)]));
        let json = r#"{"opened":5}"#;
        assert_eq!(serde_json::to_string(&pane).unwrap(), json);
        assert_eq!(serde_json::from_str::<PaneCounts>(json).unwrap(), pane);
    }
}
