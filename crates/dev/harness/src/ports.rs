//! Ports for services that need a fixed address.
//!
//! A port that was free when it was chosen can be taken before the service listens on it. Three
//! things prevent that:
//! - a lock file per port, held until this process ends, keeps other tests away from it,
//! - ports are below the range from which the kernel takes ports for outgoing connections,
//! - ports are below 10,000, the lowest port that `devstack` chooses for its servers.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const LOWEST: u16 = 2_000;
const END: u16 = 10_000;

/// Locks of the ports this process has reserved. They are released when it ends.
static RESERVED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Returns a TCP port of 127.0.0.1 that is free and reserved for this process until it ends.
///
/// # Panics
/// If no port is free.
pub fn free_port() -> u16 {
    let directory = directory();
    std::fs::create_dir_all(&directory).unwrap();
    // Programs that start at the same time begin at different ports.
    let start = uuid::Uuid::new_v4().as_u128() % u128::from(END - LOWEST);
    let start = u16::try_from(start).unwrap();
    let candidates = (0..END - LOWEST).map(|step| LOWEST + (start + step) % (END - LOWEST));
    for port in candidates {
        if let Some(lock) = reserve(&directory, port) {
            RESERVED.lock().unwrap().push(lock);
            return port;
        }
    }
    panic!("no port between {LOWEST} and {END} is free");
}

/// Returns the lock if this process now owns the port and nothing listens on it.
fn reserve(directory: &Path, port: u16) -> Option<File> {
    let path = directory.join(port.to_string());
    let lock = File::options().create(true).truncate(false).write(true).open(path).unwrap();
    lock.try_lock().ok()?;
    TcpListener::bind(("127.0.0.1", port)).ok()?;
    Some(lock)
}

fn directory() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap();
    workspace.join(".mailpulse").join("ports")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let mut ports: Vec<u16> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| [0; 20].map(|_| free_port()))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ports.iter().all(|port| (LOWEST..END).contains(port)));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 80);
    }

    #[test]
    fn a_reserved_port_and_one_in_use_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let lock = reserve(directory.path(), port).unwrap();
        assert!(reserve(directory.path(), port).is_none(), "another holds the lock");
        drop(lock);
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert!(reserve(directory.path(), port).is_none(), "somebody listens");
        drop(listener);
        assert!(reserve(directory.path(), port).is_some());
    }
}
