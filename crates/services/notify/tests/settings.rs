//! `[notify]`: the reference file works, and errors name the key and the fix.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::Command;

use notify::channel::Target;
use notify::settings::NotifySettings;
use service::Settings;
use support::{channels, settings};

fn error(list: &str) -> String {
    let settings = settings(list);
    match NotifySettings::read(&settings) {
        Err(error) => error.to_string(),
        Ok(own) => own.channels(&settings).unwrap_err().to_string(),
    }
}

#[test]
fn the_reference_file_has_a_log_channel() {
    let settings = Settings::load(None, std::iter::empty()).unwrap();
    let own = NotifySettings::read(&settings).unwrap();
    assert_eq!(own.admin.port(), 9106);
    let retry = own.retry();
    assert_eq!((retry.min.as_millis(), retry.max.as_secs()), (500, 30));
    assert_eq!(retry.give_up_after.as_secs(), 24 * 3600);
    let channels = own.channels(&settings).unwrap();
    assert_eq!((channels.len(), channels[0].name.as_str()), (1, "log"));
    assert!(matches!(channels[0].target, Target::Log));
}

/// People uncomment the channels in comments.
#[test]
fn the_examples_in_the_reference_file_are_valid() {
    let mut file: String = service::REFERENCE
        .lines()
        .skip_while(|line| !line.starts_with("# [[notify.channel]]"))
        .take_while(|line| !line.starts_with("# The console"))
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| !line.starts_with('#'))
        .fold(String::new(), |file, line| file + line + "\n");
    for (variable, secret) in [
        ("MAILPULSE_HOOK_SECRET", "whsec_YW4gaW52ZW50ZWQga2V5IG9mIDMyIGJ5dGVzLi4uLi4="),
        ("PAGERDUTY_ROUTING_KEY", "0123456789abcdef0123456789abcdef"),
        ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T0/B0/x"),
        ("TEAMS_WORKFLOW_URL", "https://example.logic.azure.com/workflows/x"),
        ("SMTP_PASSWORD", "an invented password"),
    ] {
        file = file.replace(&format!("env:{variable}"), secret);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mailpulse.toml");
    std::fs::write(&path, &file).unwrap();
    let settings = Settings::load(Some(&path), std::iter::empty()).expect(&file);
    let channels = NotifySettings::read(&settings).unwrap().channels(&settings).unwrap();
    let names: Vec<_> = channels.iter().map(|channel| channel.name.as_str()).collect();
    for name in ["alertmanager", "hook"] {
        assert!(names.contains(&name), "{file}");
    }
}

#[test]
fn errors_name_the_key() {
    let cases = [
        (r#"[]"#, "`notify.channel`"),
        (r#"[{kind="log", name=""}]"#, "`notify.channel[0].name`"),
        (r#"[{kind="log", name="a"}, {kind="log", name="a"}]"#, "`notify.channel[1].name`"),
        (r#"[{kind="pager", name="a"}]"#, "expected one of `log`, `alertmanager`, `pagerduty`"),
        (r#"[{kind="alertmanager", name="a"}]"#, "`notify.channel[0].url` is missing"),
        (r#"[{kind="alertmanager", name="a", url="localhost"}]"#, "`notify.channel[0].url`"),
        (
            r#"[{kind="alertmanager", name="a", url="http://h", expires="1h"}]"#,
            "the nearest known key is `notify.channel[0].expires_after`",
        ),
        (
            r#"[{kind="alertmanager", name="a", url="http://h", resend="3m", expires_after="5m"}]"#,
            "`notify.channel[0].expires_after`",
        ),
        (
            r#"[{kind="alertmanager", name="a", url="http://10.0.0.1", allow_private=false}]"#,
            "10.0.0.1 is not an address of the public Internet; set allow_private = true",
        ),
        (r#"[{kind="slack", name="a", url="http://localhost/x"}]"#, "set allow_private = true"),
        (
            r#"[{kind="log", name="a", severities=["sev1"]}]"#,
            "expected one of `warning`, `critical`",
        ),
        (r#"[{kind="log", name="a", families=["x"]}]"#, "expected one of `bounces`"),
        (r#"[{kind="log", name="a", sources=["[z-a"]}]"#, "[z-a"),
        (r#"[{kind="log", name="a", max_per_minute=0}]"#, "`notify.channel[0].max_per_minute`"),
        (
            r#"[{kind="log", name="a", quiet_hours={from="22", to="07:00", zone="UTC"}}]"#,
            "write it as \"22:00\"",
        ),
        (
            r#"[{kind="webhook", name="a", url="https://h", secret="whsec_YW4gaW52ZW50ZWQga2V5IG9mIDMyIGJ5dGVzLi4uLi4=", quiet_hours={from="22:00", to="07:00", zone="UTC"}}]"#,
            "`notify.channel[0].quiet_hours`",
        ),
        (r#"[{kind="pagerduty", name="a", routing_key="short"}]"#, "must have 32 characters"),
        (r#"[{kind="email", name="a", host="h", from="a@b", to=[]}]"#, "`notify.channel[0].to`"),
        (
            r#"[{kind="email", name="a", host="h", from="nobody", to=["a@b"]}]"#,
            "write it as \"Team <team@example.com>\"",
        ),
        (
            r#"[{kind="email", name="a", host="h", from="a@b", to=["a@b"], user="u"}]"#,
            "`notify.channel[0].password`",
        ),
        (
            r#"[{kind="email", name="a", host="h", encryption="none", from="a@b", to=["a@b"], user="u", password="p"}]"#,
            "`notify.channel[0].encryption`",
        ),
        (
            r#"[{kind="email", name="a", host="h", ca_file="/none", from="a@b", to=["a@b"]}]"#,
            "`notify.channel[0].ca_file`",
        ),
        (
            r#"[{kind="webhook", name="a", url="http://h", secret="short"}]"#,
            "`notify.channel[0].secret` (MAILPULSE__NOTIFY__CHANNEL): must be whsec_",
        ),
        (
            r#"[{kind="webhook", name="a", url="http://h", secret="env:NOT_SET_ANYWHERE"}]"#,
            "NOT_SET_ANYWHERE is not set",
        ),
    ];
    for (list, expected) in cases {
        let message = error(list);
        assert!(message.contains(expected), "{list}: {message}");
        assert!(!message.contains("short\""), "a secret in: {message}");
    }
    let too_short = [("MAILPULSE__NOTIFY__RETRY_MAX".to_owned(), "1ms".to_owned())];
    let settings = Settings::load(None, too_short.into_iter()).unwrap();
    let message = NotifySettings::read(&settings).unwrap_err().to_string();
    assert!(message.contains("`notify.retry_max` (MAILPULSE__NOTIFY__RETRY_MAX)"), "{message}");
}

#[test]
fn check_reads_all_settings_and_opens_no_port() {
    assert_eq!(channels(r#"[{kind="log", name="a"}]"#).len(), 1);
    let directory = tempfile::tempdir().unwrap();
    let check = |channels: &str| {
        Command::new(env!("CARGO_BIN_EXE_notify"))
            .arg("--check")
            .env("MAILPULSE__NOTIFY__CHANNEL", channels)
            // No address of this machine: opening it would fail.
            .env("MAILPULSE__NOTIFY__ADMIN", "192.0.2.1:9")
            .current_dir(directory.path())
            .output()
            .unwrap()
    };
    let good = check(r#"[{kind="log", name="a"}]"#);
    assert!(good.status.success(), "{good:?}");
    assert_eq!(String::from_utf8_lossy(&good.stdout), "notify: settings are good\n");
    let bad = check(r#"[{kind="log", nam="a"}]"#);
    assert!(!bad.status.success());
    let message = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(message.contains("notify.channel[0].nam"), "{message}");
}
