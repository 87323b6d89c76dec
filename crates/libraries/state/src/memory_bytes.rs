//! The bytes of a [`MessageMemory`], in the files and in the changelog.
//!
//! | bytes | content |
//! |---|---|
//! | 1 | the format, 0xf3 |
//! | v | `since`, hours since the epoch |
//! | v | which times are known, see [`TIMES`] |
//! | v | what counted once: bits in the order of `contributions::ONCE` |
//! | v | which kinds of events there were: bits by `memory::slot` |
//! | 1 | bits 0 to 4: the dimensions that have a digest; 5: there are digests; 6: the mailbox provider reports complaints |
//! | z each | the known times: milliseconds after the beginning of `since` |
//! | v each | the ordinals of those kinds |
//! | 2 each | the digests, big-endian |
//! | v | the links of the latest run of clicks, if its time is known |
//!
//! v is an unsigned number in groups of seven bits, the lowest first; the high bit tells that another
//! group follows (LEB128). z is such a number whose lowest bit is the sign.
//!
//! Earlier releases wrote 25 bytes, or 5 bytes that lack the times and links: the hour of the first open
//! or click (4, big-endian), bits (1: opened 1, clicked 2, by a machine 4 and 8), the time of the delivery
//! (8, microseconds), the start of the latest run of clicks (8, microseconds), the links in that run (4).
//! Their first byte is at most 0x98, because no hour is greater.

use event::{Counter, CounterSet, DimensionDigests, OccurredAt};

use crate::Hour;
use crate::contributions::ONCE;
use crate::memory::{MORE_BOUNCES, MessageMemory, SLOTS};
use crate::time::Time;

/// Distinguishes this format from those of earlier releases.
const FORMAT: u8 = 0xf3;
/// The lengths of values in the formats of earlier releases.
pub(crate) const LENGTH_V1: usize = 4 + 1;
pub(crate) const LENGTH_V2: usize = LENGTH_V1 + 8 + 8 + 4;
/// The value of a time that is not known, in the format of earlier releases.
const NO_TIME: i64 = i64::MIN;

const TIMES: usize = 9 + MORE_BOUNCES;
const HAS_DIGESTS: u8 = 1 << 5;
const REPORTS_COMPLAINTS: u8 = 1 << 6;
const MILLIS_PER_HOUR: i64 = 3_600_000;

/// No value is longer: a number of 32 bits has up to 5 groups, one of 64 bits up to 10.
pub(crate) const MAX_LENGTH: usize = 1 + 4 * 5 + 1 + 10 * TIMES + 3 * SLOTS + 2 * 5 + 5;
const _: () = assert!(MAX_LENGTH <= u8::MAX as usize, "the length has one byte in the changelog");

/// The bytes of one memory.
pub(crate) struct MemoryBytes {
    bytes: [u8; MAX_LENGTH],
    length: usize,
}

impl MemoryBytes {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn push_number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.push(number as u8);
    }

    fn push_signed(&mut self, number: i64) {
        self.push_number((number << 1 ^ number >> 63).cast_unsigned());
    }
}

impl MessageMemory {
    pub(crate) fn to_bytes(self) -> MemoryBytes {
        let mut out = MemoryBytes { bytes: [0; MAX_LENGTH], length: 0 };
        let times = self.times();
        let digests = self.digests.unwrap_or_default().0;
        out.push(FORMAT);
        out.push_number(self.since.0.into());
        out.push_number(mask(times, Time::is_known));
        out.push_number(mask(ONCE, |counter| self.once.contains(counter)));
        out.push_number(mask(self.ordinals, |ordinal| ordinal > 0));
        let mut flags = mask(digests, |digest| digest != DimensionDigests::ABSENT) as u8;
        flags |= if self.digests.is_some() { HAS_DIGESTS } else { 0 };
        flags |= if self.reports_complaints { REPORTS_COMPLAINTS } else { 0 };
        out.push(flags);
        for time in times.into_iter().filter(|time| time.is_known()) {
            out.push_signed(time.0.wrapping_sub(start_of(self.since)));
        }
        for ordinal in self.ordinals.into_iter().filter(|&ordinal| ordinal > 0) {
            out.push_number(ordinal.into());
        }
        for digest in digests.into_iter().filter(|&digest| digest != DimensionDigests::ABSENT) {
            digest.to_be_bytes().into_iter().for_each(|byte| out.push(byte));
        }
        if self.run_start.is_known() {
            out.push_number(self.links.into());
        }
        out
    }

    /// Reads a value of this format or of an earlier one. Returns `None` for other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&FORMAT, rest) => Self::from_current(rest),
            _ => Self::from_earlier(bytes),
        }
    }

    /// Returns only the hour of the latest event.
    pub(crate) fn since_from_bytes(bytes: &[u8]) -> Option<Hour> {
        match bytes.split_first()? {
            (&FORMAT, rest) => Reader(rest).number().map(Hour),
            _ => bytes.first_chunk().map(|hour| Hour(u32::from_be_bytes(*hour))),
        }
    }

    fn from_current(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Reader(bytes);
        let since = Hour(bytes.number()?);
        let known_times = bytes.mask(TIMES)?;
        let once = bytes.mask(ONCE.len())?;
        let kinds = bytes.mask(SLOTS)?;
        let flags = bytes.byte()?;
        let mut times = [Time::UNKNOWN; TIMES];
        for time in members(&mut times, known_times) {
            *time = Time(bytes.signed()?.wrapping_add(start_of(since)));
            time.is_known().then_some(())?;
        }
        let mut ordinals = [0; SLOTS];
        for ordinal in members(&mut ordinals, kinds) {
            *ordinal = bytes.number()?.try_into().ok()?;
        }
        let mut digests = DimensionDigests::default();
        for digest in members(&mut digests.0, u32::from(flags & 0x1f)) {
            *digest = u16::from_be_bytes([bytes.byte()?, bytes.byte()?]);
        }
        let has_digests = flags & HAS_DIGESTS != 0;
        let is_valid = flags & 0x80 == 0 && (has_digests || flags & 0x1f == 0);
        let mut memory = Self { since, ordinals, ..Self::UNKNOWN }.with_times(times);
        memory.once =
            ONCE.into_iter().enumerate().fold(CounterSet::EMPTY, |set, (bit, counter)| {
                set.with_if(once & 1 << bit != 0, counter)
            });
        memory.reports_complaints = flags & REPORTS_COMPLAINTS != 0;
        memory.digests = has_digests.then_some(digests);
        if memory.run_start.is_known() {
            memory.links = bytes.number()?;
        }
        (is_valid && bytes.0.is_empty()).then_some(memory)
    }

    fn from_earlier(bytes: &[u8]) -> Option<Self> {
        let (hour, rest) = bytes.split_first_chunk()?;
        let (&bits, rest) = rest.split_first()?;
        let since = Hour(u32::from_be_bytes(*hour));
        let mut memory = Self { since, ..Self::UNKNOWN }.with_engagements(bits);
        if rest.is_empty() {
            return Some(memory);
        }
        let (delivered, rest) = rest.split_first_chunk()?;
        let (run_start, links) = rest.split_first_chunk()?;
        let time = |micros: &[u8; 8]| match i64::from_be_bytes(*micros) {
            NO_TIME => Time::UNKNOWN,
            micros => Time::of(OccurredAt(micros)),
        };
        memory.delivered = time(delivered);
        memory.run_start = time(run_start);
        memory.links = u32::from_be_bytes(links.try_into().ok()?);
        if memory.delivered.is_known() {
            memory.ordinals[0] = 1;
            memory.sent = memory.delivered;
            // Nothing tells which scopes the delivery counted in.
            memory.digests = Some(DimensionDigests([DimensionDigests::RESERVED; 5]));
        }
        Some(memory)
    }

    /// Sets what earlier releases remembered of opens and clicks.
    fn with_engagements(mut self, bits: u8) -> Self {
        use Counter::{Clicked, Engaged, MachineClicked, MachineOpened, Opened};
        let counters = [Opened, Clicked, MachineOpened, MachineClicked];
        let slots = [1, 4, 2, 5];
        for (bit, (counter, slot)) in counters.into_iter().zip(slots).enumerate() {
            if bits & 1 << bit != 0 {
                self.once = self.once.with(counter);
                self.ordinals[slot] = 1;
            }
        }
        self.once = self.once.with_if(bits & 3 != 0, Engaged);
        self
    }

    fn times(&self) -> [Time; TIMES] {
        let [hard, block, undetermined, soft] = self.bounced;
        let [more0, more1, more2, more3] = self.more_bounces;
        [
            self.delivered,
            self.sent,
            self.run_start,
            self.deferred,
            self.marked_late,
            hard,
            block,
            undetermined,
            soft,
            more0,
            more1,
            more2,
            more3,
        ]
    }

    fn with_times(self, times: [Time; TIMES]) -> Self {
        let [delivered, sent, run_start, deferred, marked_late, rest @ ..] = times;
        let [hard, block, undetermined, soft, more_bounces @ ..] = rest;
        let bounced = [hard, block, undetermined, soft];
        Self { delivered, sent, run_start, deferred, marked_late, bounced, more_bounces, ..self }
    }
}

/// Returns the milliseconds from the epoch to the beginning of an hour.
fn start_of(hour: Hour) -> i64 {
    i64::from(hour.0) * MILLIS_PER_HOUR
}

/// Returns the bits of the items for which `is_set` is true.
fn mask<T, const N: usize>(items: [T; N], is_set: impl Fn(T) -> bool) -> u64 {
    let bits = items.into_iter().enumerate();
    bits.fold(0, |mask, (bit, item)| mask | u64::from(is_set(item)) << bit)
}

/// Returns the items whose bits are set.
fn members<T>(items: &mut [T], mask: u32) -> impl Iterator<Item = &mut T> {
    let bits = items.iter_mut().enumerate();
    bits.filter(move |(bit, _)| mask & 1 << bit != 0).map(|(_, item)| item)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn long_number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn number(&mut self) -> Option<u32> {
        self.long_number()?.try_into().ok()
    }

    /// Reads a set of bits, of which only `bits` may be set.
    fn mask(&mut self, bits: usize) -> Option<u32> {
        self.number().filter(|mask| mask >> bits == 0)
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.long_number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use event::Kind;
    use proptest::array::uniform;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    /// Any memory, as it could be after a very long time.
    pub(crate) fn any_memory() -> impl Strategy<Value = MessageMemory> {
        let time = || option::of(-9_000_000_000_000_000..9_000_000_000_000_000_i64);
        let times = uniform::<_, TIMES>(time());
        let digests = option::of(any::<[u16; 5]>());
        let ordinals = uniform::<_, SLOTS>(prop_oneof![3 => Just(0), 1 => any::<u16>()]);
        let once = any::<[bool; ONCE.len()]>();
        (any::<u32>(), times, digests, ordinals, once, any::<bool>(), any::<u32>()).prop_map(
            |(since, times, digests, ordinals, once, reports_complaints, links)| {
                let times = times.map(|time| time.map_or(Time::UNKNOWN, Time));
                let once = ONCE.into_iter().zip(once).filter(|(_, is_set)| *is_set);
                let once = once.map(|(counter, _)| counter).collect();
                let digests = digests.map(DimensionDigests);
                let since = Hour(since);
                let memory = MessageMemory {
                    since,
                    once,
                    reports_complaints,
                    digests,
                    ordinals,
                    ..MessageMemory::UNKNOWN
                };
                let memory = memory.with_times(times);
                MessageMemory {
                    links: if memory.run_start.is_known() { links } else { 0 },
                    ..memory
                }
            },
        )
    }

    proptest! {
        #[test]
        fn bytes_round_trip(memory in any_memory()) {
            let bytes = memory.to_bytes();
            prop_assert_eq!(MessageMemory::from_bytes(bytes.as_slice()), Some(memory));
            prop_assert_eq!(MessageMemory::since_from_bytes(bytes.as_slice()), Some(memory.since));
            for length in 0..bytes.as_slice().len() {
                let cut = MessageMemory::from_bytes(&bytes.as_slice()[..length]);
                prop_assert_eq!(cut, None, "{} bytes", length);
            }
        }

        #[test]
        fn arbitrary_bytes_that_can_be_read_can_be_written(bytes in vec(any::<u8>(), 0..60)) {
            let bytes = [&[FORMAT], &bytes[..]].concat();
            if let Some(memory) = MessageMemory::from_bytes(&bytes) {
                let again = memory.to_bytes();
                prop_assert_eq!(MessageMemory::from_bytes(again.as_slice()), Some(memory));
            }
            let _ = MessageMemory::from_bytes(&bytes[1..]);
        }
    }

    #[test]
    fn the_layout_is_as_documented() {
        let mut memory = MessageMemory {
            since: Hour(495_000),
            once: [Counter::Opened, Counter::Injected].into_iter().collect(),
            reports_complaints: true,
            digests: Some(DimensionDigests([0x0102, 0, 0, 0xffff, 0])),
            links: 5,
            ..MessageMemory::UNKNOWN
        };
        let start = 495_000 * MILLIS_PER_HOUR;
        memory.delivered = Time(start + 1);
        memory.sent = Time(start - 1);
        memory.run_start = Time(start + 64);
        memory.ordinals[slot_of(Kind::Delivered)] = 1;
        memory.ordinals[slot_of(Kind::Deferred)] = 300;
        let expected = [
            0xf3, // format
            0x98, 0x9b, 0x1e,   // hour
            0b111,  // times
            0b1001, // counted once
            0x81, 0x01,       // kinds: bits 0 and 7
            0b110_1001, // flags
            2, 1, 0x80, 0x01, // times
            1, 0xac, 0x02, // ordinals
            1, 2, 0xff, 0xff, // digests
            5,    // links
        ];
        assert_eq!(memory.to_bytes().as_slice(), expected);
        assert_eq!(MessageMemory::from_bytes(&expected), Some(memory));
        assert_eq!(MessageMemory::from_bytes(&[&expected[..], &[0]].concat()), None);
    }

    fn slot_of(kind: Kind) -> usize {
        crate::memory::slot(kind, false)
    }

    #[test]
    fn values_of_earlier_releases_are_read() {
        // A delivery at 1,783,353,600.123456 s in hour 495,376, an open by a person and a click by a
        // machine, which followed the links 0 and 1 two seconds later.
        let bytes = [
            0, 7, 0x8f, 0x10, 0b1001, 0, 6, 0x55, 0xf3, 0x5d, 0xd8, 0x22, 0x40, 0, 6, 0x55, 0xf3,
            0x5d, 0xf6, 0xa6, 0xc0, 0, 0, 0, 3,
        ];
        let memory = MessageMemory::from_bytes(&bytes).unwrap();
        assert_eq!(memory.since, Hour(495_376));
        assert_eq!(MessageMemory::since_from_bytes(&bytes), Some(Hour(495_376)));
        assert_eq!(memory.delivered, Time(1_783_353_600_123));
        assert_eq!((memory.run_start, memory.links), (Time(1_783_353_602_123), 3));
        assert_eq!(memory.sent, memory.delivered);
        let kinds = [(Kind::Delivered, false), (Kind::Opened, false), (Kind::Clicked, true)];
        assert!(kinds.into_iter().all(|(kind, machine)| memory.has(kind, machine)));
        assert!(!memory.has(Kind::Clicked, false) && !memory.has(Kind::Opened, true));
        let once = "opened,engaged,machine_clicked";
        assert_eq!(memory.counted_once().to_string(), once);
        assert_eq!(memory.digests, Some(DimensionDigests([0xffff; 5])), "not known");

        let v1 = MessageMemory::from_bytes(&bytes[..LENGTH_V1]).unwrap();
        assert_eq!((v1.since, v1.delivered), (Hour(495_376), Time::UNKNOWN));
        assert_eq!((v1.once, v1.digests), (memory.once, None));
        for length in [0, 4, 6, 24] {
            assert_eq!(MessageMemory::from_bytes(&bytes[..length]), None, "{length}");
        }
        assert_eq!(MessageMemory::from_bytes(&[&bytes[..], &[0]].concat()), None);
    }

    #[test]
    fn a_delivered_message_takes_less_than_it_did() {
        let at = OccurredAt(1_783_356_600_123_456); // 50 minutes into the hour
        let mut memory = MessageMemory::UNKNOWN;
        memory.since = Hour::of(at);
        (memory.delivered, memory.sent) = (Time::of(at), Time::of(at));
        memory.ordinals[0] = 1;
        memory.digests = Some(DimensionDigests([1, 2, 3, 0, 0]));
        assert_eq!(memory.to_bytes().as_slice().len(), 23, "it was 25");
    }
}
