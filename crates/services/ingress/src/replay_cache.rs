//! Remembers signed tokens, to tell a provider's retry from a replayed signature.
//!
//! Mailgun signs a token but not the event, so anyone who has seen one request could send another
//! event with its signature. The same token with the same content is a retry; with other content it
//! is rejected. Each process has its own cache. If two processes get the same token, `dedupe` drops
//! the second event if it is the same, but nothing detects a different event.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use metrics::{Gauge, gauge};
use providers::{Rejection, SingleUseToken};

/// The index of a source, and a digest of the token.
type Key = (usize, [u8; 16]);

/// The tokens of all sources. A token is removed when its signature has expired, or when the cache
/// is full and the token is the oldest.
pub(crate) struct ReplayCache {
    seen: Mutex<SeenTokens>,
    max_tokens: usize,
    /// The age of the oldest token in seconds. If it is less than the tolerance of the signatures
    /// while the cache is full, an older token can be replayed.
    oldest_age: Gauge,
}

#[derive(Default)]
struct SeenTokens {
    /// A digest of the content that came with each token.
    content: HashMap<Key, [u8; 16]>,
    /// The tokens in the order of arrival.
    order: VecDeque<Seen>,
}

struct Seen {
    key: Key,
    /// The unix second at which the signature expires.
    expires_at: i64,
    /// The unix second at which the token arrived first.
    seen_at: i64,
}

impl ReplayCache {
    pub(crate) fn new(max_tokens: usize) -> Self {
        let oldest_age = gauge!("mailpulse_ingress_replay_cache_oldest_token_seconds");
        Self { seen: Mutex::default(), max_tokens: max_tokens.max(1), oldest_age }
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
        while let Some(oldest) = seen.order.front()
            && (oldest.expires_at < now || seen.order.len() >= self.max_tokens)
            && let Some(oldest) = seen.order.pop_front()
        {
            seen.content.remove(&oldest.key);
        }
        seen.content.insert(key, once.content);
        seen.order.push_back(Seen { key, expires_at: once.expires_at, seen_at: now });
        let oldest = seen.order.front().map_or(now, |oldest| oldest.seen_at);
        self.oldest_age.set((now - oldest) as f64);
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
