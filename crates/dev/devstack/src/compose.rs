//! The services of the repository's `docker-compose.yml`, where a Docker engine answers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::process::{self, tail};
use crate::{Dirs, Error, dirs, notice};

/// How long the engine may take to answer before we do without it.
const ENGINE_PATIENCE: Duration = Duration::from_secs(2);
/// The first start pulls images.
const START_PATIENCE: Duration = Duration::from_secs(600);

/// Brings a service up and returns where it listens on this machine, as `127.0.0.1:PORT`.
///
/// `None` when there is no Docker engine or no Compose file, and also (with a notice) when the
/// service does not come up: the caller has another way.
pub(crate) fn start(service: &str, container_port: u16, dirs: &Dirs) -> Option<String> {
    let file = dirs::workspace().join("docker-compose.yml");
    let logs = dirs.part("compose").ok()?;
    if !file.is_file() || !engine_answers(&logs.join("info.log")) {
        return None;
    }
    match up(service, container_port, &file, &logs) {
        Ok(address) => Some(address),
        Err(error) => {
            notice(&format!("Docker Compose does not give us {service}, fetching it: {error}"));
            None
        }
    }
}

/// Asked once per process: the answer costs up to two seconds.
fn engine_answers(log: &Path) -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let mut command = Command::new("docker");
        command.arg("info");
        process::run(command, log, ENGINE_PATIENCE, || {}).is_ok()
    })
}

fn up(service: &str, port: u16, file: &Path, logs: &Path) -> Result<String, Error> {
    notice(&format!("starting {service} with Docker Compose"));
    let run = |words: &[&str], log: &PathBuf| {
        let mut command = Command::new("docker");
        command.args(["compose", "-f"]).arg(file).args(words);
        process::run(command, log, START_PATIENCE, || {})
    };
    run(&["up", "--detach", "--wait", service], &logs.join("up.log"))?;
    let log = logs.join("port.log");
    run(&["port", service, &port.to_string()], &log)?;
    let printed = tail(&log, 20);
    // Warnings about the file may stand around the answer.
    printed.lines().find_map(published_address).ok_or_else(|| Error::CommandFailed {
        command: format!("docker compose port {service} {port}"),
        outcome: "no published port".into(),
        tail: printed.clone(),
    })
}

/// `0.0.0.0:9092` (what Compose prints) as `127.0.0.1:9092`.
fn published_address(line: &str) -> Option<String> {
    let (_, port) = line.trim().rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    (port != 0).then(|| format!("127.0.0.1:{port}"))
}

#[cfg(test)]
mod tests {
    use super::published_address;

    #[test]
    fn the_published_port_is_reached_through_the_loopback() {
        let local = |port: u16| Some(format!("127.0.0.1:{port}"));
        assert_eq!(published_address("0.0.0.0:9092"), local(9092));
        assert_eq!(published_address("[::]:8123\n"), local(8123));
        assert_eq!(published_address("0.0.0.0:0"), None, "not published");
        assert_eq!(published_address("no such service: kafka"), None);
    }
}
