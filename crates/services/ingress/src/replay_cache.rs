//! Remembers signed tokens, to tell a provider's retry from a replayed signature.
//!
//! Mailgun signs a token but not the event, so anyone who has seen one request could send another
//! event with its signature. The same token with the same content is a retry; with other content it
//! is rejected. Each process has its own cache. If two processes get the same token, `dedupe` drops
//! the second event if it is the same, but nothing detects a different event.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use providers::{Rejection, SingleUseToken};

/// The index of a source, and a digest of the token.
type Key = (usize, [u8; 16]);

/// The tokens of all sources. A token is removed when its signature has expired, or when the cache
/// is full and the token is the oldest.
pub(crate) struct ReplayCache {
    seen: Mutex<SeenTokens>,
    max_tokens: usize,
}

#[derive(Default)]
struct SeenTokens {
    /// A digest of the content that came with each token.
    content: HashMap<Key, [u8; 16]>,
    /// The tokens in the order of arrival, with the unix second at which their signature expires.
    order: VecDeque<(Key, i64)>,
}

impl ReplayCache {
    pub(crate) fn new(max_tokens: usize) -> Self {
        Self { seen: Mutex::default(), max_tokens: max_tokens.max(1) }
    }

    /// Remembers a token. `now` is in unix seconds.
    ///
    /// # Errors
    /// Returns [`Rejection::Replayed`] if the token came with other content before.
    pub(crate) fn check(
        &self,
        source: usize,
        once: &SingleUseToken,
        now: i64,
    ) -> Result<(), Rejection> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (source, once.token);
        if let Some(content) = seen.content.get(&key) {
            return if *content == once.content { Ok(()) } else { Err(Rejection::Replayed) };
        }
        while let Some(&(oldest, expires_at)) = seen.order.front()
            && (expires_at < now || seen.order.len() >= self.max_tokens)
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

    const fn once(token: u8, content: u8, expires_at: i64) -> SingleUseToken {
        SingleUseToken { token: [token; 16], content: [content; 16], expires_at }
    }

    #[test]
    fn a_retry_is_accepted_and_a_replay_is_rejected() {
        let cache = ReplayCache::new(10);
        assert_eq!(cache.check(0, &once(1, 1, 100), 0), Ok(()));
        assert_eq!(cache.check(0, &once(1, 1, 100), 50), Ok(()));
        assert_eq!(cache.check(0, &once(1, 2, 100), 100), Err(Rejection::Replayed));
        assert_eq!(cache.check(1, &once(1, 2, 100), 0), Ok(()), "sources have separate tokens");
        assert_eq!(cache.check(0, &once(1, 1, 100), 100), Ok(()), "the first content is kept");
    }

    #[test]
    fn expired_tokens_and_the_oldest_of_too_many_are_removed() {
        let cache = ReplayCache::new(3);
        for token in 0..3 {
            cache.check(0, &once(token, 0, 100), 0).unwrap();
        }
        cache.check(0, &once(3, 0, 200), 0).unwrap();
        assert_eq!(cache.check(0, &once(1, 1, 100), 0), Err(Rejection::Replayed), "still cached");
        assert_eq!(cache.seen.lock().unwrap().content.len(), 3, "the oldest was removed");
        cache.check(0, &once(4, 0, 200), 101).unwrap();
        let seen = cache.seen.lock().unwrap();
        assert_eq!((seen.content.len(), seen.order.len()), (2, 2), "expired tokens were removed");
    }
}
