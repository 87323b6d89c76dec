//! Servers of the repository's `docker-compose.yml`, if a Docker engine answers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fetch::notice;

use crate::process::{self, tail};
use crate::{Dirs, Error};

/// The first start pulls images.
const START_PATIENCE: Duration = Duration::from_secs(600);

/// Starts a Compose service and returns its address on this machine, as `127.0.0.1:PORT`.
///
/// Returns `None` without a Docker engine or a Compose file, and also (with a notice) if the service
/// does not start: the caller then starts a child process.
pub(crate) fn start(service: &str, container_port: u16, dirs: &Dirs) -> Option<String> {
    let file = fetch::workspace().join("docker-compose.yml");
    if !file.is_file() || !fetch::docker_answers() {
        return None;
    }
    let logs = dirs.subdirectory("compose").ok()?;
    match up(service, container_port, &file, &logs) {
        Ok(address) => Some(address),
        Err(error) => {
            notice(&format!(
                "Docker Compose cannot start {service}; starting a child process instead: {error}"
            ));
            None
        }
    }
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
    // Compose may print warnings about the file before or after the address.
    printed.lines().find_map(published_address).ok_or_else(|| Error::CommandFailed {
        command: format!("docker compose port {service} {port}"),
        outcome: "no published port".into(),
        tail: printed.clone(),
    })
}

/// Returns `127.0.0.1:9092` for `0.0.0.0:9092`, which is how Compose prints it.
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
