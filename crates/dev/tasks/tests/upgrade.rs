//! Starts the services of this checkout on every recorded installation of an earlier release, on a
//! Kafka and a ClickHouse of its own. See `crates/dev/tasks/recordings/README.md`.
#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::process::Command;

/// The program finds the services beside itself, and fails with an instruction if one is missing.
#[test]
fn recorded_installations_continue_after_an_upgrade() {
    let program = env!("CARGO_BIN_EXE_tasks");
    let output = Command::new(program).arg("upgrade").output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{report}\n{errors}", output.status);
    // The program must have compared the rows of at least one recording.
    assert!(report.contains("rows of the recorded release"), "{report}\n{errors}");
}
