use std::borrow::Cow;

use crate::names;

/// A record that carries time through the log, so that time also passes without events.
///
/// Each ingress writes one to every partition of `mail.raw.*` about once a second. `enrich` merges those
/// of all raw partitions of a number, and `dedupe` passes the result on to `mail.events`. A time record
/// has no key and an empty value. It is not an event: no stage counts it, stores it or makes a dead
/// letter of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRecord<'a> {
    /// UTC microseconds. Every event that the writer received before this time precedes the record,
    /// in its partition and in all others that the writer publishes to.
    pub time: i64,
    /// The id of the ingress process. `None` behind `enrich`, whose time is that of all of them.
    pub id: Option<&'a str>,
    /// Whether the ingress writes no further one.
    pub is_last: bool,
}

impl<'a> TimeRecord<'a> {
    /// The longest id in bytes. Longer ones are not read.
    pub const MAX_ID_BYTES: usize = 32;

    /// Reads the headers through a look-up by name. Returns `None` if they are not those of a time record.
    pub fn read(headers: &impl Fn(&str) -> Option<&'a [u8]>) -> Option<Self> {
        let time = std::str::from_utf8(headers(names::TIME)?).ok()?.parse().ok()?;
        let id = match headers(names::TIME_ID) {
            Some(id) => Some(std::str::from_utf8(id).ok().filter(|id| Self::is_id(id))?),
            None => None,
        };
        Some(Self { time, id, is_last: headers(names::TIME_END).is_some() })
    }

    /// Returns the headers as names and values.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, Cow<'a, [u8]>)> + use<'a> {
        let time = (names::TIME, Cow::Owned(self.time.to_string().into_bytes()));
        let id = self.id.map(|id| (names::TIME_ID, Cow::Borrowed(id.as_bytes())));
        let end = self.is_last.then_some((names::TIME_END, Cow::Borrowed(&b""[..])));
        std::iter::once(time).chain(id).chain(end)
    }

    /// Returns whether a text can be an id: 1 to [`Self::MAX_ID_BYTES`] letters, digits, dots, hyphens and
    /// underscores. `enrich` keeps ids in the metadata of its offsets, where other characters separate.
    pub fn is_id(text: &str) -> bool {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        (1..=Self::MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(is_allowed)
    }
}

/// Returns the time of a time record, UTC microseconds, and `None` for every other record. `headers` looks
/// a header up by its name.
pub fn time_record<'a>(headers: &impl Fn(&str) -> Option<&'a [u8]>) -> Option<i64> {
    TimeRecord::read(headers).map(|record| record.time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &'static [u8])]) -> Option<TimeRecord<'static>> {
        TimeRecord::read(&|name| headers.iter().find(|(key, _)| *key == name).map(|it| it.1))
    }

    #[test]
    fn time_records_are_read_as_they_were_written() {
        for id in [None, Some("host-1.example_0a1b")] {
            for is_last in [false, true] {
                let record = TimeRecord { time: 1_795_255_200_000_000, id, is_last };
                let written: Vec<_> = record.headers().collect();
                let look_up = |name: &str| {
                    written.iter().find(|(key, _)| *key == name).map(|(_, value)| &value[..])
                };
                assert_eq!(TimeRecord::read(&look_up), Some(record));
                assert_eq!(time_record(&look_up), Some(record.time));
            }
        }
    }

    #[test]
    fn other_records_are_not_time_records() {
        assert_eq!(read(&[("received-at", b"5"), ("provider", b"ses")]), None);
        assert_eq!(read(&[("time", b"yesterday")]), None);
        for id in [&b""[..], b"a@b", b"a b", b"\xff", &[b'a'; TimeRecord::MAX_ID_BYTES + 1]] {
            assert_eq!(read(&[("time", b"5"), ("time-id", id)]), None, "{id:?}");
        }
        let longest: &[u8] = &[b'a'; TimeRecord::MAX_ID_BYTES];
        assert!(read(&[("time", b"5"), ("time-id", longest)]).is_some());
    }
}
