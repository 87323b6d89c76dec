use crate::SplitBody;

/// How much one body may make the ingress publish. Every recipient of an event gets a record with the
/// whole event, so a short body can become millions of records or gigabytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitLimits {
    /// The largest number of records, one per event and recipient.
    pub events: usize,
    /// The largest number of recipients of one event.
    pub recipients: usize,
    /// The largest sum of all keys and values, in bytes.
    pub published_bytes: usize,
}

/// A body exceeds one of the [`SplitLimits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverLimit {
    /// The body has too many events.
    #[error("the body has at least {found} events, more than `ingress.max_events` = {limit}")]
    Events {
        /// One per event and recipient. A body with more than [`SplitLimits::MAX_EVENTS`] is not read to
        /// its end.
        found: usize,
        /// The setting.
        limit: usize,
    },
    /// An event has too many recipients.
    #[error("an event has {found} recipients, more than `ingress.max_recipients` = {limit}")]
    Recipients {
        /// Of the event with the most recipients.
        found: usize,
        /// The setting.
        limit: usize,
    },
    /// The body would become too many bytes.
    #[error(
        "the body would be published as {found} bytes, more than `ingress.max_published_bytes` = \
         {limit}"
    )]
    PublishedBytes {
        /// The sum of all keys and values.
        found: usize,
        /// The setting.
        limit: usize,
    },
}

impl OverLimit {
    /// Returns the name of the limit, for metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Events { .. } => "events",
            Self::Recipients { .. } => "recipients",
            Self::PublishedBytes { .. } => "published_bytes",
        }
    }
}

impl SplitLimits {
    /// The largest value of [`Self::events`]. It bounds the memory of a body before the limit can be
    /// compared with it.
    pub const MAX_EVENTS: usize = 100_000;

    /// Checks a body before any of its events is published.
    ///
    /// # Errors
    /// The first limit that the body exceeds.
    pub fn check(&self, split: &SplitBody<'_>) -> Result<(), OverLimit> {
        let limit = self.events.min(Self::MAX_EVENTS);
        if split.len() > limit {
            return Err(OverLimit::Events { found: split.len(), limit });
        }
        let (mut bytes, mut most, mut recipients) = (0_usize, 0, 0);
        let mut last: Option<&[u8]> = None;
        for event in split.events() {
            bytes += event.raw.len() + event.recipient.len();
            // The recipients of one event follow one another and share its bytes.
            let is_same = last.is_some_and(|last| std::ptr::eq(last, event.raw));
            recipients = if is_same { recipients + 1 } else { 1 };
            most = most.max(recipients);
            last = Some(event.raw);
        }
        if most > self.recipients {
            return Err(OverLimit::Recipients { found: most, limit: self.recipients });
        }
        if bytes > self.published_bytes {
            let limit = self.published_bytes;
            return Err(OverLimit::PublishedBytes { found: bytes, limit });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use event::Kind;

    use super::*;

    const LIMITS: SplitLimits = SplitLimits { events: 4, recipients: 3, published_bytes: 60 };

    #[test]
    fn each_limit_is_the_largest_accepted_value() {
        let body = [b'x'; 18];
        let to = |recipients: usize| {
            let recipients = vec![Cow::Borrowed("a@"); recipients];
            LIMITS.check(&SplitBody::per_recipient(&body, Kind::Opened, &recipients))
        };
        assert_eq!(to(3), Ok(()), "3 x (18 + 2) bytes");
        assert_eq!(to(4), Err(OverLimit::Recipients { found: 4, limit: 3 }));
        assert_eq!(to(5), Err(OverLimit::Events { found: 5, limit: 4 }));
        let tight = SplitLimits { published_bytes: 59, ..LIMITS };
        let split = SplitBody::per_recipient(&body, Kind::Opened, &vec![Cow::Borrowed("a@"); 3]);
        let error = tight.check(&split).unwrap_err();
        assert_eq!(error, OverLimit::PublishedBytes { found: 60, limit: 59 });
        assert!(error.to_string().contains("60 bytes"), "{error}");
    }

    #[test]
    fn different_events_are_not_recipients_of_one() {
        let body = b"{}{}{}{}";
        let mut split = SplitBody::new(body);
        for raw in body.chunks(2) {
            split.push(Kind::Other, "", raw);
        }
        assert_eq!(LIMITS.check(&split), Ok(()));
    }
}
