//! Tests the units in `deploy/systemd`: their settings fit the services and the reference configuration, and systemd's
//! own tool accepts them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use service::{ServiceSettings, Settings};
use support::{binaries, read, root};

const UNITS: &str = "deploy/systemd";

/// The greatest exposure that `systemd-analyze security` may report, from 0 (best) to 100.
const GREATEST_EXPOSURE: u32 = 20;

/// The keys of a unit file in their order, as `Section.Key` and value.
fn keys(path: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in read(&format!("{UNITS}/{path}")).lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if !line.is_empty() && !line.starts_with('#') {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{path}: {line}"));
            keys.push((format!("{section}.{key}"), value.to_owned()));
        }
    }
    keys
}

fn all<'k>(keys: &'k [(String, String)], key: &str) -> Vec<&'k str> {
    keys.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).collect()
}

fn one<'k>(keys: &'k [(String, String)], key: &str) -> &'k str {
    let found = all(keys, key);
    assert_eq!(found.len(), 1, "{key}");
    found[0]
}

/// Reads a time as the settings write it, such as `5s`.
fn seconds(text: &str) -> Duration {
    Duration::from_secs(text.trim_end_matches('s').parse().unwrap())
}

#[test]
fn the_time_to_stop_fits_the_settings_and_a_stopped_service_starts_again() {
    let unit = keys("mailpulse@.service");
    let settings = Settings::load(None, std::iter::empty()).unwrap();
    let ingress: toml::Table = settings.section("ingress").unwrap();
    let drain = ["drain_delay", "drain_timeout"].map(|key| seconds(ingress[key].as_str().unwrap()));
    let needed = drain.iter().sum::<Duration>() + Duration::from_secs(5);
    let stop = seconds(one(&unit, "Service.TimeoutStopSec"));
    assert!(stop >= needed, "{stop:?} is less than {needed:?}");
    assert_eq!(one(&unit, "Service.Type"), "exec");
    assert_eq!(one(&unit, "Service.Restart"), "always");
    assert_eq!(one(&unit, "Unit.StartLimitIntervalSec"), "0", "it must not give up");
    assert_eq!(one(&unit, "Service.KillSignal"), "SIGTERM");
}

#[test]
fn the_settings_of_every_service_are_valid_and_its_state_is_in_its_own_directory() {
    let unit = keys("mailpulse@.service");
    for service in binaries() {
        let expand = |text: &str| {
            text.replace("%i", &service).replace("%S", "/var/lib").replace("%H", "host-1")
        };
        let state = format!("/var/lib/{}", expand(one(&unit, "Service.StateDirectory")));
        assert_eq!(expand(one(&unit, "Service.WorkingDirectory")), state);
        let environment = all(&unit, "Service.Environment").into_iter().map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), expand(value))
        });
        let settings = Settings::load(None, environment).unwrap();
        for (section, key) in [("ingress", "spool_directory"), ("dedupe", "directory")] {
            let table: toml::Table = settings.section(section).unwrap();
            let path = Path::new(table[key].as_str().unwrap());
            assert!(path.starts_with(&state) && path != Path::new(&state), "{}", path.display());
        }
        let own: ServiceSettings = settings.section("service").unwrap();
        assert_eq!(own.instance, "host-1");
        let start = expand(one(&unit, "Service.ExecStart"));
        let expected = format!("/usr/local/bin/{service} --config /etc/mailpulse/mailpulse.toml");
        assert_eq!(start, expected);
        assert_eq!(expand(one(&unit, "Service.ExecStartPre")), format!("{expected} --check"));
    }
}

#[test]
fn a_service_can_write_only_its_state_and_secrets_are_credentials() {
    let unit = keys("mailpulse@.service");
    assert_eq!(one(&unit, "Service.ProtectSystem"), "strict");
    assert_eq!(one(&unit, "Service.ReadOnlyPaths"), "/etc/mailpulse");
    assert!(all(&unit, "Service.ReadWritePaths").is_empty());
    assert_eq!(one(&unit, "Service.CapabilityBoundingSet"), "");
    assert_eq!(one(&unit, "Service.NoNewPrivileges"), "true");
    assert_eq!(one(&unit, "Service.UMask"), "0077");
    let (_, secrets) = one(&unit, "Service.LoadCredential").split_once(':').unwrap();
    let created = read(&format!("{UNITS}/mailpulse.tmpfiles"));
    assert!(created.lines().any(|line| line == format!("d {secrets} 0700 root root")), "{created}");
    let user = one(&unit, "Service.User");
    let users = read(&format!("{UNITS}/mailpulse.sysusers"));
    assert!(users.lines().any(|line| line.starts_with(&format!("u {user} "))), "{users}");
}

/// Only the ingress handles SIGHUP.
#[test]
fn only_the_ingress_can_be_reloaded() {
    assert!(all(&keys("mailpulse@.service"), "Service.ExecReload").is_empty());
    let reload = keys("mailpulse@ingress.service.d/reload.conf");
    assert_eq!(one(&reload, "Service.ExecReload"), "/bin/kill -HUP $MAINPID");
    let handles = |service: &str| {
        let folder = root().join(format!("crates/services/{service}/src"));
        let files = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
        let mut files = files.filter(|path| path.extension().is_some_and(|it| it == "rs"));
        files.any(|path| std::fs::read_to_string(path).unwrap().contains("SignalKind::hangup()"))
    };
    for service in binaries() {
        assert_eq!(handles(&service), service == "ingress", "{service}");
    }
}

/// Runs systemd's checks if the tool is installed.
#[test]
fn systemd_accepts_every_unit() {
    let analyze = || Command::new("systemd-analyze");
    if !analyze().arg("--version").output().is_ok_and(|output| output.status.success()) {
        return; // The other tests check the files without systemd.
    }
    let home = tempfile::tempdir().unwrap();
    let bin = home.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let template = read(&format!("{UNITS}/mailpulse@.service"));
    let template = template.replace("/usr/local/bin/", &format!("{}/", bin.display()));
    let target = home.path().join("mailpulse.target");
    std::fs::copy(root().join(UNITS).join("mailpulse.target"), target).unwrap();
    for service in binaries() {
        // The tool looks for the programs.
        let program = bin.join(&service);
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let unit = home.path().join(format!("mailpulse@{service}.service"));
        std::fs::write(&unit, &template).unwrap();
        let folder = root().join(UNITS).join(format!("mailpulse@{service}.service.d"));
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let copy = home.path().join(format!("mailpulse@{service}.service.d"));
            std::fs::create_dir_all(&copy).unwrap();
            std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        // Lines about units of the machine are not ours.
        let output = analyze().args(["verify", "--man=no"]).arg(&unit).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let ours: Vec<&str> = text.lines().filter(|line| line.contains("mailpulse")).collect();
        assert!(ours.is_empty(), "{text}");
        let threshold = format!("--threshold={GREATEST_EXPOSURE}");
        let command = ["security", "--offline=true", "--no-pager", &threshold];
        let output = analyze().args(command).arg(&unit).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
