//! The table `audit`: who changed or read personal data.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use crate::database::{Database, literal};

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry<'e> {
    /// Such as `erase`.
    pub(crate) command: &'static str,
    /// The digest of the recipient, or an empty text.
    pub(crate) subject: &'e str,
    /// The rows that were changed or read, by table.
    pub(crate) counts: &'e BTreeMap<String, u64>,
    pub(crate) is_done: bool,
    /// What was left. It contains no address.
    pub(crate) detail: &'e str,
}

impl Entry<'_> {
    /// Writes the row.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or has no table `audit`.
    pub(crate) fn write(&self, database: &Database) -> anyhow::Result<()> {
        let counts: Vec<String> =
            self.counts.iter().map(|(table, rows)| format!("{}, {rows}", literal(table))).collect();
        let counts = if counts.is_empty() {
            "map()".to_owned()
        } else {
            format!("map({})", counts.join(", "))
        };
        let result = if self.is_done { "done" } else { "incomplete" };
        self.insert(database, result, &counts)
    }

    /// Writes a row before anything is read, so that a reader who ends the command early is in the table too.
    ///
    /// # Errors
    /// See [`Self::write`].
    pub(crate) fn write_start(&self, database: &Database) -> anyhow::Result<()> {
        self.insert(database, "started", "map()")
    }

    fn insert(&self, database: &Database, result: &str, counts: &str) -> anyhow::Result<()> {
        database.execute(&format!(
            "INSERT INTO audit (who, command, subject, counts, result, detail) SETTINGS async_insert = 0 \
             SELECT {}, {}, {}, {counts}, {}, {}",
            literal(&who()),
            literal(self.command),
            literal(self.subject),
            literal(result),
            literal(self.detail),
        ))?;
        Ok(())
    }
}

/// The kernel's value of `loginuid` for a process without a login.
const NO_LOGIN: u32 = u32::MAX;

/// Returns the user who logged in, the host, and the name in the environment: `uid 1000@ops-1 (ada)`. Users can set their
/// environment, but not the number of their login.
pub(crate) fn who() -> String {
    let login = std::fs::read_to_string("/proc/self/loginuid").ok();
    let login = login.and_then(|text| text.trim().parse().ok()).filter(|&uid| uid != NO_LOGIN);
    let uid = login.or_else(|| std::fs::metadata("/proc/self").ok().map(|it| it.uid()));
    let uid = uid.map_or_else(|| "unknown".to_owned(), |uid: u32| format!("uid {uid}"));
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("SUDO_USER").or_else(|| variable("USER")).or_else(|| variable("LOGNAME"));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{uid}@{} ({})", host.trim(), user.as_deref().unwrap_or("no name"))
}
