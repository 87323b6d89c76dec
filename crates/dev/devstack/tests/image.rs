//! Tests `deploy/Dockerfile` without a Docker engine: what it copies, builds and sets. The test of the ingress
//! `image.rs` executes its entrypoint.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use service::{ServiceSettings, Settings};
use support::{binaries, members, read, root};

/// One instruction of a Dockerfile, with continued lines joined.
struct Instruction {
    name: String,
    words: Vec<String>,
}

/// Returns the instructions of every stage.
fn stages() -> Vec<Vec<Instruction>> {
    let text = read("deploy/Dockerfile");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let mut stages: Vec<Vec<Instruction>> = Vec::new();
    for line in joined.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        let instruction = Instruction { name: words.next().unwrap(), words: words.collect() };
        if instruction.name == "FROM" {
            stages.push(Vec::new());
        }
        stages.last_mut().unwrap().push(instruction);
    }
    stages
}

/// Returns the words of the only instruction of this name in a stage.
fn only<'s>(stage: &'s [Instruction], name: &str) -> &'s [String] {
    let found: Vec<_> = stage.iter().filter(|it| it.name == name).collect();
    assert_eq!(found.len(), 1, "{name}");
    &found[0].words
}

fn environment(stage: &[Instruction]) -> BTreeMap<String, String> {
    let pairs = only(stage, "ENV").iter().map(|word| word.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn images_that_it_builds_on_have_a_version() {
    let versions: Vec<String> =
        stages().iter().map(|stage| only(stage, "FROM")[0].clone()).collect();
    for image in &versions {
        let (_, tag) = image.split_once(':').unwrap();
        assert!(tag != "latest" && !tag.is_empty(), "{image}");
    }
    let toolchain: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let version = toolchain["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert_eq!(versions[0], format!("rust:{version}-bookworm"));
}

#[test]
fn the_user_is_a_number_and_owns_only_the_directory_of_state() {
    let stages = stages();
    let last = stages.last().unwrap();
    let (user, group) = only(last, "USER")[0].split_once(':').unwrap();
    let (user, group): (u32, u32) = (user.parse().unwrap(), group.parse().unwrap());
    assert!(user > 0 && group > 0);
    let run = only(last, "RUN").join(" ");
    assert!(run.contains(&format!("--uid {user} ")), "{run}");
    assert_eq!(only(last, "VOLUME"), ["/var/lib/mailpulse"]);
    assert!(run.contains("install -d -o mailpulse -g mailpulse /var/lib/mailpulse"), "{run}");
    // Instructions behind USER do not write.
    let position = last.iter().position(|it| it.name == "USER").unwrap();
    assert!(last[position..].iter().all(|it| !["RUN", "COPY", "ADD"].contains(&it.name.as_str())));
}

#[test]
fn its_environment_is_valid_and_has_absolute_directories_and_logs_for_machines() {
    let stages = stages();
    let last = stages.last().unwrap();
    let environment = environment(last);
    let settings = Settings::load(None, environment.into_iter()).unwrap();
    let service: ServiceSettings = settings.section("service").unwrap();
    assert_eq!(format!("{:?}", service.log_format).to_lowercase(), "json");
    let state = format!("{}/", only(last, "VOLUME")[0]);
    let mut directories = BTreeSet::new();
    for (section, key) in [("ingress", "spool_directory"), ("dedupe", "directory")] {
        let section: toml::Table = settings.section(section).unwrap();
        let path = section[key].as_str().unwrap();
        assert!(path.starts_with(&state), "{path} is not in {state}");
        assert!(directories.insert(path.to_owned()), "two services share {path}");
    }
    // No other setting of a directory is relative to the working directory, which is read-only.
    let reference = read("deploy/mailpulse.toml");
    let relative =
        reference.lines().filter(|line| !line.starts_with('#') && line.contains("\".mailpulse"));
    assert_eq!(relative.count(), directories.len(), "another setting has a directory by default");
}

#[test]
fn every_binary_is_built_with_the_features_of_the_workspace_and_copied() {
    let stages = stages();
    let build = only(&stages[0], "RUN").join(" ");
    for option in ["cargo build", "--release", "--locked", "--bins", "--workspace"] {
        assert!(build.contains(option), "{option}: {build}");
    }
    // One command with the whole workspace unifies features, so that every documented one is in each binary.
    assert!(!build.contains("--no-default-features") && !build.contains(" -p "), "{build}");
    let excluded: BTreeSet<&str> = build
        .split("--exclude ")
        .skip(1)
        .map(|rest| rest.split_whitespace().next().unwrap())
        .collect();
    for member in members() {
        let name = member.file_name().unwrap().to_str().unwrap();
        let is_for_development = member.parent().unwrap().ends_with("dev");
        let has_binary = member.join("src/main.rs").is_file() || member.join("src/bin").is_dir();
        if has_binary {
            assert_eq!(excluded.contains(name), is_for_development, "{name}");
        }
    }
    let last = stages.last().unwrap();
    let copies: Vec<String> =
        last.iter().filter(|it| it.name == "COPY").map(|it| it.words.join(" ")).collect();
    assert!(copies.contains(&"--from=build /out/ /usr/local/bin/".to_owned()), "{copies:?}");
    assert!(build.contains("/out"), "{build}");
    for copy in copies.iter().filter(|copy| !copy.contains("--from")) {
        let source = copy.split(' ').find(|word| !word.starts_with("--")).unwrap();
        assert!(root().join(source).exists(), "{copy}");
    }
    let features: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let rdkafka = &features["workspace"]["dependencies"]["rdkafka"]["features"];
    for feature in ["ssl", "curl", "zstd"] {
        let has = rdkafka.as_array().unwrap().iter().any(|it| it.as_str() == Some(feature));
        assert!(has, "rdkafka is built without {feature}");
    }
    // What these features link is installed.
    let run = only(last, "RUN").join(" ");
    for package in ["ca-certificates", "libcurl4", "libssl3", "zlib1g"] {
        assert!(run.split(' ').any(|word| word == package), "{package}");
    }
}

/// Runs the step behind the compiler in a folder that looks like its output.
#[test]
fn the_step_behind_the_compiler_copies_the_programs_and_nothing_else() {
    let stages = stages();
    let build = only(&stages[0], "RUN").join(" ");
    let home = tempfile::tempdir().unwrap();
    let release = home.path().join("target/release");
    std::fs::create_dir_all(release.join("deps")).unwrap();
    let write = |path: &Path, mode| {
        std::fs::write(path, "").unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    let programs: BTreeSet<String> =
        binaries().into_iter().chain(["mailpulse".to_owned()]).collect();
    for program in &programs {
        write(&release.join(program), 0o755);
        write(&release.join(format!("{program}.d")), 0o644);
        write(&release.join("deps").join(format!("{program}-0a1b")), 0o755);
    }
    write(&release.join("libchdb.so"), 0o755);
    let step = build.split_once("&& mkdir /out").unwrap().1;
    let out = home.path().join("out");
    let step = format!("mkdir /out {step}").replace("/out", &out.display().to_string());
    let status = Command::new("sh").args(["-ec", &step]).current_dir(home.path()).status().unwrap();
    assert!(status.success(), "{step}");
    let entries = std::fs::read_dir(out).unwrap().flatten();
    let copied: BTreeSet<String> =
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(copied, programs);
}

#[test]
fn the_entrypoint_names_every_service() {
    let script = read("deploy/compose/entrypoint.sh");
    let list = script.lines().find(|line| line.starts_with("archive |")).unwrap();
    let named: BTreeSet<String> =
        list.trim_end_matches(')').split('|').map(|name| name.trim().to_owned()).collect();
    assert_eq!(named, binaries());
    let stages = stages();
    let entrypoint = only(stages.last().unwrap(), "ENTRYPOINT").join(" ");
    let name = entrypoint.trim_matches(['[', ']', '"']);
    let copy = stages.last().unwrap().iter().find(|it| it.words.iter().any(|w| w.ends_with(name)));
    let copy = copy.unwrap();
    assert_eq!((copy.name.as_str(), copy.words[0].as_str()), ("COPY", "--chmod=755"));
}
