//! Settings with which `archive` keeps every row.
//!
//! Tests use fixed times, and recorded installations become old. Their rows must not expire.

/// The keys of `[archive.retention]`.
const KEYS: [&str; 11] = [
    "raw",
    "events",
    "traffic",
    "cohorts",
    "message_life",
    "rates",
    "alerts",
    "incidents",
    "actions",
    "audit",
    "dead_letters",
];

/// Returns the lines of a settings file.
pub fn keep_rows_toml() -> String {
    let keys: String = KEYS.iter().map(|key| format!("{key} = \"0s\"\n")).collect();
    format!("[archive.retention]\n{keys}")
}

/// Returns environment variables, which override a settings file.
pub fn keep_rows_environment() -> impl Iterator<Item = (String, String)> {
    KEYS.iter().map(|key| {
        (format!("MAILPULSE__ARCHIVE__RETENTION__{}", key.to_uppercase()), "0s".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_reference_file_is_set() {
        let reference: toml::Table = toml::from_str(service::REFERENCE).unwrap();
        let reference = reference["archive"]["retention"].as_table().unwrap().clone();
        let kept: toml::Table = toml::from_str(&keep_rows_toml()).unwrap();
        let kept = kept["archive"]["retention"].as_table().unwrap().clone();
        assert!(reference.keys().eq(kept.keys()));
        assert_eq!(keep_rows_environment().count(), reference.len());
    }
}
