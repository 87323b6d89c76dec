//! Fetches server software while cargo compiles.

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use crate::needs::Needs;

type Fetch = fn(&Path) -> Result<PathBuf, fetch::Error>;

/// A running download.
type Download = JoinHandle<Result<PathBuf, fetch::Error>>;

/// Starts a thread for each download.
pub(crate) fn start(needs: &Needs) -> Vec<Download> {
    let all: [(bool, Fetch); 5] = [
        (needs.libchdb, fetch::libchdb),
        (needs.kafka_jars, fetch::kafka_jars),
        (needs.clickhouse_connect, fetch::clickhouse_connect),
        (needs.aiosmtpd, fetch::aiosmtpd),
        (needs.helm, fetch::helm),
    ];
    let needed = all.into_iter().filter(|(needed, _)| *needed);
    needed.map(|(_, fetch)| thread::spawn(move || fetch(&fetch::cache()))).collect()
}

/// Waits for all downloads.
pub(crate) fn finish(downloads: Vec<Download>) -> Result<(), String> {
    for download in downloads {
        match download.join() {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("a download panicked".to_owned()),
        }
    }
    Ok(())
}
