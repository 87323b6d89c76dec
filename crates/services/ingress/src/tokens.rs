//! Signed tokens seen lately: tells a provider's retry from a replay.
//!
//! Mailgun signs a token and not the event, so who has seen one request could put another event
//! under its signature. The same token with the same content is a retry; with other content it is
//! refused. Each process remembers for itself; what was posted to another one is recognised by
//! `dedupe` if it is the same event, and not at all if it is not.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use providers::{Once, Refusal};

/// A token of one source.
type Key = (usize, [u8; 16]);

/// The tokens of all sources; bounded by their age, and in number.
pub(crate) struct Tokens {
    seen: Mutex<Seen>,
    limit: usize,
}

#[derive(Default)]
struct Seen {
    content: HashMap<Key, [u8; 16]>,
    /// In the order of arrival, with the second after which they are refused anyway.
    order: VecDeque<(Key, i64)>,
}

impl Tokens {
    /// So many at most: beyond them the oldest are forgotten.
    pub(crate) fn new(limit: usize) -> Self {
        Self { seen: Mutex::default(), limit: limit.max(1) }
    }

    /// Remembers a token at this unix second; refuses one that came with other content.
    pub(crate) fn judge(&self, source: usize, once: &Once, now: i64) -> Result<(), Refusal> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (source, once.token);
        if let Some(content) = seen.content.get(&key) {
            return if *content == once.content { Ok(()) } else { Err(Refusal::Replayed) };
        }
        while let Some(&(oldest, expires_at)) = seen.order.front()
            && (expires_at < now || seen.order.len() >= self.limit)
        {
            seen.content.remove(&oldest);
            seen.order.pop_front();
        }
        seen.content.insert(key, once.content);
        seen.order.push_back((key, once.expires_at));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn once(token: u8, content: u8, expires_at: i64) -> Once {
        Once { token: [token; 16], content: [content; 16], expires_at }
    }

    #[test]
    fn a_retry_is_taken_and_a_replay_is_refused() {
        let tokens = Tokens::new(10);
        assert_eq!(tokens.judge(0, &once(1, 1, 100), 0), Ok(()));
        assert_eq!(tokens.judge(0, &once(1, 1, 100), 50), Ok(()));
        assert_eq!(tokens.judge(0, &once(1, 2, 100), 100), Err(Refusal::Replayed));
        assert_eq!(tokens.judge(1, &once(1, 2, 100), 0), Ok(()), "another source's");
        assert_eq!(tokens.judge(0, &once(1, 1, 100), 100), Ok(()), "still the first content");
    }

    #[test]
    fn what_is_too_old_anyway_is_forgotten_and_so_is_the_oldest_of_too_many() {
        let tokens = Tokens::new(3);
        for token in 0..3 {
            tokens.judge(0, &once(token, 0, 100), 0).unwrap();
        }
        tokens.judge(0, &once(3, 0, 200), 0).unwrap();
        assert_eq!(tokens.judge(0, &once(1, 1, 100), 0), Err(Refusal::Replayed), "kept");
        assert_eq!(tokens.seen.lock().unwrap().content.len(), 3, "the first made room");
        tokens.judge(0, &once(4, 0, 200), 101).unwrap();
        let seen = tokens.seen.lock().unwrap();
        assert_eq!((seen.content.len(), seen.order.len()), (2, 2), "those of second 100 are gone");
    }
}
