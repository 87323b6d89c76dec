//! Network namespaces for servers, so that a test can cut one off: its connections stay open and no packet arrives, as
//! with a broken switch. They need Linux, root and `ip` of iproute2; see network_namespaces(7).
//!
//! Names contain the id of this process. What a killed process has left behind is removed when the next one starts.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Error;

/// How names begin. The kernel allows 15 characters.
const NAME: &str = "mp";

/// A bridge of this host with namespaces. Dropping it removes them.
#[derive(Debug)]
pub(crate) struct Network {
    process: u32,
    namespaces: usize,
}

/// A place for a server on a [`Network`].
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    name: String,
    /// The end of the cable on this host.
    cable: String,
    /// The address of the server.
    pub(crate) address: String,
}

impl Network {
    /// Creates a network, or returns `None` if this machine does not allow it.
    pub(crate) fn create() -> Option<Self> {
        remove_old();
        let network = Self { process: std::process::id(), namespaces: 0 };
        let bridge = network.bridge();
        let host = format!("{}/24", network.host());
        let is_created = ip(&["link", "add", &bridge, "type", "bridge"]).is_ok()
            && ip(&["addr", "add", &host, "dev", &bridge]).is_ok()
            && ip(&["link", "set", &bridge, "up"]).is_ok();
        is_created.then_some(network)
    }

    /// Returns the address of this host on the network.
    pub(crate) fn host(&self) -> String {
        self.address(1)
    }

    /// Adds a namespace that is connected.
    ///
    /// # Errors
    /// [`Error::CommandFailed`].
    pub(crate) fn add(&mut self) -> Result<Namespace, Error> {
        self.namespaces += 1;
        let (process, number) = (self.process, self.namespaces);
        let name = format!("{NAME}{process}n{number}");
        let (cable, end) =
            (format!("{NAME}{process}h{number}"), format!("{NAME}{process}e{number}"));
        let address = self.address(10 + number);
        let with_mask = format!("{address}/24");
        ip(&["netns", "add", &name])?;
        ip(&["link", "add", &cable, "type", "veth", "peer", "name", &end, "netns", &name])?;
        ip(&["link", "set", &cable, "master", &self.bridge(), "up"])?;
        ip(&["-n", &name, "addr", "add", &with_mask, "dev", &end])?;
        ip(&["-n", &name, "link", "set", &end, "up"])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        Ok(Namespace { name, cable, address })
    }

    fn bridge(&self) -> String {
        format!("{NAME}{}b", self.process)
    }

    /// Addresses of 10.192.0.0/10, which differ for processes that run at the same time.
    fn address(&self, host: usize) -> String {
        let [.., high, low] = self.process.to_be_bytes();
        format!("10.{}.{low}.{host}", 192 + high % 64)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(self.process);
    }
}

impl Namespace {
    /// Returns the command that runs `program` in the namespace, with the same process id.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Cuts the namespace off, or connects it again.
    ///
    /// # Errors
    /// [`Error::CommandFailed`].
    pub(crate) fn set_connected(&self, is_connected: bool) -> Result<(), Error> {
        ip(&["link", "set", &self.cable, if is_connected { "up" } else { "down" }])
    }
}

fn ip(arguments: &[&str]) -> Result<(), Error> {
    let command = || format!("ip {}", arguments.join(" "));
    let failed =
        |outcome: String, tail: String| Error::CommandFailed { command: command(), outcome, tail };
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(error.to_string(), String::new()))?;
    if output.status.success() {
        return Ok(());
    }
    let tail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(output.status.to_string(), tail))
}

/// Removes what a process has created. Removing a bridge or a namespace that does not exist does nothing.
fn remove(process: u32) {
    let _ = ip(&["link", "del", &format!("{NAME}{process}b")]);
    for name in names().filter(|name| process_of(name) == Some(process)) {
        // The cables end with it.
        let _ = ip(&["netns", "del", &name]);
    }
}

/// Removes what processes that have ended have left.
fn remove_old() {
    let old = names().filter_map(|name| process_of(&name));
    for process in old.filter(|process| !Path::new(&format!("/proc/{process}")).exists()) {
        remove(process);
    }
}

/// Returns the names of all namespaces.
fn names() -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Returns the process that created a namespace.
fn process_of(name: &str) -> Option<u32> {
    let (process, number) = name.strip_prefix(NAME)?.split_once('n')?;
    number.parse::<u32>().ok()?;
    process.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_namespaces_are_recognised() {
        assert_eq!(process_of("mp123n1"), Some(123));
        for other in ["mp123", "mpn1", "mp123nx", "xmp123n1", "default"] {
            assert_eq!(process_of(other), None, "{other}");
        }
    }
}
