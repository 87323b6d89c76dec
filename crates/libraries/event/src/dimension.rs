use std::fmt;

use crate::Event;

/// A property of an event by which rates are grouped, besides its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Dimension {
    MailboxProvider,
    Campaign,
    SenderDomain,
    /// The sending address, or the stream if no address is known.
    SendingIp,
    Tenant,
}

impl Dimension {
    /// Every dimension, in numeric order.
    pub const ALL: [Self; 5] =
        [Self::MailboxProvider, Self::Campaign, Self::SenderDomain, Self::SendingIp, Self::Tenant];

    /// The stable name in record headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MailboxProvider => "mailbox_provider",
            Self::Campaign => "campaign",
            Self::SenderDomain => "sender_domain",
            Self::SendingIp => "sending_ip",
            Self::Tenant => "tenant",
        }
    }

    /// Returns the value that an event has.
    pub fn of<'e>(self, event: &'e Event<'_>) -> Option<&'e str> {
        let value = match self {
            Self::MailboxProvider => &event.mailbox_provider,
            Self::Campaign => &event.campaign,
            Self::SenderDomain => &event.sender_domain,
            Self::SendingIp if event.sending_ip.is_some() => &event.sending_ip,
            Self::SendingIp => &event.stream,
            Self::Tenant => &event.tenant,
        };
        value.as_deref()
    }
}

/// A set of dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DimensionSet(u8);

impl DimensionSet {
    /// The set of all dimensions.
    pub const ALL: Self = Self(0b1_1111);

    /// Returns the set with the dimension added.
    #[must_use]
    pub const fn with(self, dimension: Dimension) -> Self {
        Self(self.0 | 1 << dimension as u8)
    }

    pub const fn contains(self, dimension: Dimension) -> bool {
        self.0 & 1 << dimension as u8 != 0
    }

    /// Reads names that are separated by commas. Returns `None` if one is not a dimension.
    pub fn from_names(names: &str) -> Option<Self> {
        let mut names = names.split(',').filter(|name| !name.is_empty());
        names.try_fold(Self::default(), |set, name| {
            let dimension = Dimension::ALL.into_iter().find(|it| it.as_str() == name)?;
            Some(set.with(dimension))
        })
    }
}

impl fmt::Display for DimensionSet {
    /// Writes the names, separated by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Dimension::ALL.into_iter().filter(|&it| self.contains(it));
        let names: Vec<_> = names.map(Dimension::as_str).collect();
        f.write_str(&names.join(","))
    }
}

/// Digests of an event's values, one for each dimension, in the order of [`Dimension::ALL`]. They tell
/// whether two events of a message belong to the same scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DimensionDigests(pub [u16; Dimension::ALL.len()]);

impl DimensionDigests {
    /// The digest of a missing value.
    pub const ABSENT: u16 = 0;
    /// No value has this digest.
    pub const RESERVED: u16 = u16::MAX;

    pub fn of(event: &Event<'_>) -> Self {
        Self(Dimension::ALL.map(|dimension| dimension.of(event).map_or(Self::ABSENT, digest)))
    }

    /// Returns the bytes in a record header, big-endian.
    pub fn to_bytes(self) -> [u8; 2 * Dimension::ALL.len()] {
        let mut bytes = [0; 2 * Dimension::ALL.len()];
        for (bytes, digest) in bytes.chunks_exact_mut(2).zip(self.0) {
            bytes.copy_from_slice(&digest.to_be_bytes());
        }
        bytes
    }

    /// Reads the bytes of a record header. Returns `None` if there are not as many as expected.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 2 * Dimension::ALL.len()] = bytes.try_into().ok()?;
        let mut digests = Self::default();
        for (digest, bytes) in digests.0.iter_mut().zip(bytes.chunks_exact(2)) {
            *digest = u16::from_be_bytes([bytes[0], bytes[1]]);
        }
        Some(digests)
    }
}

/// Returns 16 bits of the FNV-1a hash, neither absent nor reserved. State on disk contains the digests,
/// so the function must not change.
fn digest(value: &str) -> u16 {
    let hash = value.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let folded = hash ^ hash >> 32;
    let [low, high, ..] = (folded ^ folded >> 16).to_le_bytes();
    u16::from_le_bytes([low, high]).clamp(1, DimensionDigests::RESERVED - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_digests_round_trip() {
        let set = DimensionSet::default().with(Dimension::Campaign).with(Dimension::Tenant);
        assert_eq!(set.to_string(), "campaign,tenant");
        assert_eq!(DimensionSet::from_names("campaign,tenant"), Some(set));
        assert_eq!(
            DimensionSet::from_names(&DimensionSet::ALL.to_string()),
            Some(DimensionSet::ALL)
        );
        assert_eq!(DimensionSet::from_names("colour"), None);
        let digests = DimensionDigests([1, 2, 3, 0, 0xfffe]);
        assert_eq!(DimensionDigests::from_bytes(&digests.to_bytes()), Some(digests));
        assert_eq!(DimensionDigests::from_bytes(&[0; 9]), None);
    }

    #[test]
    fn digests_never_change() {
        assert_eq!([digest("gmail"), digest("")], [11114, 61457]);
    }
}
