//! With the encrypted disk of `deploy/clickhouse`, no file of ClickHouse contains what a row says.

use std::path::Path;
use std::process::Command;

use devstack::{ClickHouse, Dirs};
use harness::Database;

use crate::records::event;
use crate::stack::{Stack, record};

/// Returns the shipped configuration with a key and with its path in a directory.
fn configuration(directory: &Path) -> String {
    let shipped =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../deploy/clickhouse/encrypted-disk.xml");
    let shipped = std::fs::read_to_string(shipped).unwrap();
    let path = format!("{}/encrypted/", directory.display());
    let key = format!("<key_hex>{}</key_hex>", "0123456789abcdef".repeat(4));
    let with_key = shipped.replace(r#"<key_hex from_env="CLICKHOUSE_DISK_KEY"/>"#, &key);
    assert_ne!(with_key, shipped);
    with_key.replace("/var/lib/clickhouse/encrypted/", &path)
}

/// Returns the number of files in a directory that contain a text.
fn files_with(directory: &Path, text: &str) -> usize {
    let found = Command::new("grep").args(["-rlF", text]).arg(directory).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().count()
}

/// Archives an event on a server, and returns the number of files that name its recipient.
fn archive_on(server: &ClickHouse, files: &Path) -> usize {
    let stack = Stack::on(server.url());
    let archive = stack.start();
    let named =
        String::from_utf8(event(5)).unwrap().replace("u5@example.com", "quentina@example.com");
    stack.produce(&[record(&stack.cluster.topics.events, 0, named.as_bytes(), &[])], 1);
    stack.database.await_count("events", 1);
    drop(archive);
    let database: &Database = &stack.database;
    let recipient: String = database.one("SELECT recipient FROM events");
    assert_eq!(recipient, "quentina@example.com");
    files_with(files, "quentina")
}

#[test]
fn rows_are_unreadable_on_the_encrypted_disk() {
    let dirs = Dirs::new().unwrap();
    let plain = tempfile::tempdir().unwrap();
    let server = ClickHouse::start_on(&dirs, plain.path()).unwrap();
    assert!(archive_on(&server, plain.path()) > 0, "the search works");
    drop(server);

    let files = tempfile::tempdir().unwrap();
    let config = files.path().join("config.xml");
    std::fs::write(&config, configuration(files.path())).unwrap();
    let server = ClickHouse::start_configured(&dirs, &files.path().join("data"), &config).unwrap();
    assert_eq!(archive_on(&server, files.path()), 0);
    assert!(files.path().join("encrypted/store").is_dir(), "the tables are on that disk");
}
