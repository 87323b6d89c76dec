use std::path::{Path, PathBuf};

use crate::{DEFAULT_PATH, Settings, SettingsError};

/// The configuration file that this process was started with, to read it again.
#[derive(Debug, Clone, Default)]
pub struct ConfigFile {
    /// The option `--config`.
    config: Option<PathBuf>,
}

impl ConfigFile {
    pub(crate) fn new(config: Option<PathBuf>) -> Self {
        Self { config }
    }

    /// Returns its path. There need not be such a file if none was named.
    pub fn path(&self) -> &Path {
        self.config.as_deref().unwrap_or_else(|| Path::new(DEFAULT_PATH))
    }

    /// Reads the settings again, with the environment of this process.
    ///
    /// # Errors
    /// As [`Settings::discover`].
    pub fn load(&self) -> Result<Settings, SettingsError> {
        Settings::discover(self.config.as_deref())
    }
}
