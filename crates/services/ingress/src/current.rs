//! A value that is replaced while it is in use.

use std::sync::{Arc, PoisonError, RwLock};

/// Who loads the value keeps what was loaded, whatever replaces it.
#[derive(Debug)]
pub(crate) struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    pub(crate) fn load(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn replace(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_loaded_stays_as_it_is() {
        let current = Current::new(1);
        let loaded = current.load();
        current.replace(2);
        assert_eq!((*loaded, *current.load()), (1, 2));
    }
}
