use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::{on_path, run};

/// If the engine does not answer within this time, there is none.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether a Docker engine answers. The first call asks it, which can take two seconds.
pub fn docker_answers() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        if on_path("docker").is_none() {
            return false;
        }
        let log = std::env::temp_dir().join(format!("docker-info-{}.log", std::process::id()));
        let mut command = Command::new("docker");
        command.arg("info");
        let answers = run(command, Stdio::null(), &log, PATIENCE, || {}).is_ok();
        let _ = std::fs::remove_file(log);
        answers
    })
}
