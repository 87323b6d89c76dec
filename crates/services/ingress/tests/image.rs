//! The entrypoint of the image runs a service with the image's environment, in a folder instead of a container.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::{Command, Output};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../..");

/// Returns the variables of `ENV` in the Dockerfile, with the directory of state below `home`.
fn environment(home: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(format!("{ROOT}/deploy/Dockerfile")).unwrap();
    let text = text.replace("\\\n", " ");
    let line = text.lines().find_map(|line| line.strip_prefix("ENV ")).unwrap();
    let state = home.join("state").display().to_string();
    let pairs = line.split_whitespace().map(|word| word.split_once('=').unwrap());
    pairs
        .map(|(name, value)| (name.to_owned(), value.replace("/var/lib/mailpulse", &state)))
        .collect()
}

/// Runs the entrypoint in `home` as the image does, with the binaries of this build in `PATH`.
fn run(home: &Path, arguments: &[&str]) -> Output {
    let binaries = Path::new(env!("CARGO_BIN_EXE_ingress")).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", binaries.display());
    // A service that starts by mistake must not run for ever.
    Command::new("timeout")
        .args(["60", "sh"])
        .arg(format!("{ROOT}/deploy/compose/entrypoint.sh"))
        .args(arguments)
        .current_dir(home)
        .env_clear()
        .env("PATH", path)
        .envs(environment(home))
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn a_missing_configuration_file_is_an_error_that_names_it() {
    let home = tempfile::tempdir().unwrap();
    for arguments in
        [&["ingress"][..], &["ingress", "--check"], &["ingress", "--config", "mailpulse.toml"]]
    {
        let output = run(home.path(), arguments);
        assert!(!output.status.success(), "{arguments:?} {}", text(&output));
        assert!(
            text(&output).contains("cannot read mailpulse.toml"),
            "{arguments:?} {}",
            text(&output)
        );
    }
    assert!(run(home.path(), &["ingress", "--version"]).status.success());
    assert!(run(home.path(), &["true"]).status.success(), "another command needs no file");
}

#[test]
fn the_settings_of_the_image_are_valid_and_its_log_is_json() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("mailpulse.toml"), "[kafka]\nbootstrap = \"kafka:9092\"\n")
        .unwrap();
    let output = run(home.path(), &["ingress", "--check"]);
    assert!(output.status.success(), "{}", text(&output));
    let log =
        String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("\"level\"")).collect();
    assert!(!lines.is_empty(), "no line of the log is JSON: {log}");
    for line in lines {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    std::fs::write(home.path().join("mailpulse.toml"), "[kafka]\nbootstrapp = \"kafka:9092\"\n")
        .unwrap();
    let output = run(home.path(), &["ingress", "--check"]);
    assert!(!output.status.success() && text(&output).contains("bootstrapp"), "{}", text(&output));
}
