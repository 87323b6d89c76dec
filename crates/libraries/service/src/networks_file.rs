//! Networks in files, to which `allow_ips` of a source refers as `file:PATH`.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;

use ipnet::IpNet;
use toml::{Table, Value};

/// The key of a `[[source]]` with its networks.
pub(crate) const KEY: &str = "allow_ips";
/// The longest file, in bytes.
const MAX_BYTES: u64 = 4 << 20;
/// The greatest number of networks in a file.
const MAX_NETWORKS: usize = 100_000;

/// Replaces every `file:PATH` in the list of a source by the networks of the file.
///
/// # Errors
/// Returns the position in the list, and the fault and the fix.
pub(crate) fn read_into(options: &mut Table) -> Result<(), (usize, String)> {
    let Some(Value::Array(listed)) = options.get_mut(KEY) else { return Ok(()) };
    let mut networks = Vec::new();
    for (index, entry) in listed.drain(..).enumerate() {
        match entry.as_str().and_then(|entry| entry.strip_prefix("file:")) {
            None => networks.push(entry),
            Some(path) => {
                let read = read(path).map_err(|problem| (index, problem))?;
                networks.extend(read.into_iter().map(Value::String));
            }
        }
    }
    *listed = networks;
    Ok(())
}

/// Returns the networks of a file: one on each line, with comments from `#` to the end of the line.
fn read(path: &str) -> Result<Vec<String>, String> {
    let unreadable =
        |error: std::io::Error| format!("the file {path} cannot be read: {error}; create it");
    let mut text = Vec::new();
    // Opening a pipe would wait for somebody who writes.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(format!("{path} is not a file; write the networks into a file"));
    }
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("the file {path} has more than {MAX_BYTES} bytes; shorten it"));
    }
    let text = String::from_utf8(text)
        .map_err(|_| format!("the file {path} is not UTF-8; write networks and comments only"))?;
    let mut networks = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let network = line.split('#').next().unwrap_or_default().trim();
        if network.is_empty() {
            continue;
        }
        if network.parse::<IpNet>().is_err() && network.parse::<IpAddr>().is_err() {
            let line = number + 1;
            return Err(format!(
                "line {line} of the file {path} is not a network such as 192.0.2.0/24; correct it"
            ));
        }
        if networks.len() == MAX_NETWORKS {
            return Err(format!(
                "the file {path} has more than {MAX_NETWORKS} networks; join networks that are adjacent"
            ));
        }
        networks.push(network.to_owned());
    }
    // An empty list would allow every address.
    if networks.is_empty() {
        return Err(format!(
            "the file {path} has no network, which must not mean that all addresses are allowed; write \
             one network on each line, or remove the entry"
        ));
    }
    Ok(networks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(file: &str) -> Result<Vec<String>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("networks");
        std::fs::write(&path, file).unwrap();
        read(path.to_str().unwrap())
    }

    #[test]
    fn a_file_has_one_network_on_each_line_and_comments() {
        let file = "# Postmark\n192.0.2.0/24\r\n\n  2001:db8::/32 # v6\n198.51.100.7";
        assert_eq!(networks(file).unwrap(), ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"]);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_an_error_with_the_line_or_the_limit() {
        let error = |file: &str| networks(file).unwrap_err();
        assert!(error("192.0.2.0/24\nexample.com\n").contains("line 2 "));
        assert!(error("192.0.2.0/33\n").contains("line 1 "));
        assert!(error("# nothing\n\n").contains("has no network"));
        assert!(networks(&"192.0.2.7\n".repeat(MAX_NETWORKS)).is_ok());
        assert!(error(&"192.0.2.7\n".repeat(MAX_NETWORKS + 1)).contains("more than 100000"));
        assert!(networks(&format!("192.0.2.7{}", " ".repeat((4 << 20) - 9))).is_ok());
        assert!(
            error(&format!("192.0.2.7{}", " ".repeat((4 << 20) - 8))).contains("4194304 bytes")
        );
        assert!(read("/nonexistent").unwrap_err().contains("/nonexistent cannot be read"));
    }
}
