//! `cargo xtask dist` packs everything that is installed, the same bytes each time, with a list of all components.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const PROGRAMS: [&str; 11] = [
    "archive",
    "automate",
    "console",
    "dedupe",
    "enrich",
    "forward",
    "ingress",
    "mailpulse",
    "monitor",
    "notify",
    "suppress",
];

/// A tool that prints completions and writes a page.
const TOOL: &str = r#"#!/bin/sh
case $1 in
completions) echo "for $2" ;;
man) echo page > "$3/mailpulse.1" ;;
esac
"#;

fn root() -> &'static Path {
    devstack::fetch::workspace()
}

fn write_programs(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    for program in PROGRAMS {
        let path = directory.join(program);
        std::fs::write(&path, if program == "mailpulse" { TOOL } else { "#!/bin/sh\n" }).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn dist(home: &Path, output: &str, umask: &str) -> (bool, String, PathBuf) {
    let output = home.join(output);
    let command = format!("umask {umask}; exec \"$0\" dist --binaries \"$1\" --output \"$2\"");
    let run = Command::new("sh")
        .args(["-c", &command, env!("CARGO_BIN_EXE_tasks")])
        .args([&home.join("bin"), &output])
        .env("SOURCE_DATE_EPOCH", "1795255200")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    let archive = std::fs::read_dir(&output).into_iter().flatten().flatten().next();
    (run.status.success(), text.into_owned(), archive.map(|it| it.path()).unwrap_or_default())
}

/// Returns the files below a directory, as paths from it.
fn files(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            found.extend(files(&entry.path()).into_iter().map(|path| format!("{name}/{path}")));
        } else {
            found.insert(name);
        }
    }
    found
}

/// Unpacks an archive, and returns its only directory.
fn unpack(archive: &Path, home: &Path) -> PathBuf {
    let tar = home.join("archive.tar");
    let packed = std::fs::File::open(archive).unwrap();
    zstd::stream::copy_decode(packed, std::fs::File::create(&tar).unwrap()).unwrap();
    let to = home.join("unpacked");
    std::fs::create_dir(&to).unwrap();
    let status = Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&to).status().unwrap();
    assert!(status.success());
    let listed = Command::new("tar")
        .args(["--list", "--verbose", "--numeric-owner", "-f"])
        .arg(&tar)
        .output();
    for line in String::from_utf8(listed.unwrap().stdout).unwrap().lines() {
        assert!(line.contains(" 0/0 "), "{line}");
        assert!(line.starts_with("drwxr-xr-x") || line.starts_with("-rw"), "{line}");
    }
    let mut entries = std::fs::read_dir(to).unwrap().flatten();
    let only = entries.next().unwrap().path();
    assert!(entries.next().is_none());
    only
}

#[test]
fn an_archive_is_complete_and_has_the_same_bytes_each_time() {
    let home = tempfile::tempdir().unwrap();
    write_programs(&home.path().join("bin"));
    let (done, text, first) = dist(home.path(), "first", "022");
    assert!(done, "{text}");
    // Files written later and by somebody with another umask.
    write_programs(&home.path().join("bin"));
    let (done, text, second) = dist(home.path(), "second", "077");
    assert!(done, "{text}");
    assert!(std::fs::read(&first).unwrap() == std::fs::read(&second).unwrap(), "the bytes differ");
    assert_eq!(first.file_name(), second.file_name());

    let unpacked = unpack(&first, home.path());
    let packed = files(&unpacked);
    let mut expected: BTreeSet<String> =
        PROGRAMS.iter().map(|name| format!("bin/{name}")).collect();
    let completions = ["mailpulse.bash", "_mailpulse", "mailpulse.fish"];
    expected.extend(completions.iter().map(|name| format!("completions/{name}")));
    expected.extend(
        ["man/man1/mailpulse.1", "LICENSE", "README.md", "CHANGELOG.md", "sbom.cdx.json"]
            .map(str::to_owned),
    );
    expected.extend(["config/mailpulse.toml", "prometheus/rules.yml"].map(str::to_owned));
    for (from, to) in [
        ("deploy/systemd", "systemd"),
        ("deploy/grafana/dashboards", "grafana/dashboards"),
        ("deploy/helm/mailpulse", "helm/mailpulse"),
        ("schemas", "schemas"),
        ("docs", "docs"),
    ] {
        let of_it = files(&root().join(from));
        assert!(!of_it.is_empty());
        expected.extend(of_it.into_iter().map(|path| format!("{to}/{path}")));
    }
    let others: BTreeSet<String> =
        packed.iter().filter(|path| !path.starts_with("licences/")).cloned().collect();
    assert_eq!(others, expected);
    for service in PROGRAMS {
        let mode =
            std::fs::metadata(unpacked.join("bin").join(service)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{service} can be executed");
    }
    assert_components(&unpacked, &packed);
}

/// Asserts that the list of components has exactly the crates that cargo builds into the programs.
fn assert_components(unpacked: &Path, packed: &BTreeSet<String>) {
    let text = std::fs::read(unpacked.join("sbom.cdx.json")).unwrap();
    let sbom: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&sbom["bomFormat"], &sbom["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let components: BTreeMap<(String, String), &Value> = sbom["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| ((text(&it["name"]), text(&it["version"])), it))
        .collect();
    let mut tree = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    tree.current_dir(root()).args([
        "tree",
        "--locked",
        "--edges=normal,build",
        "--prefix=none",
        "--format={p}",
    ]);
    for program in PROGRAMS {
        tree.args(["--package", program]);
    }
    let output = tree.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let built: BTreeSet<(String, String)> = tree
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, rest) = line.split_once(" v").unwrap();
            (name.to_owned(), rest.split(' ').next().unwrap().to_owned())
        })
        .collect();
    assert!(built.len() > 100, "{built:?}");
    let listed: BTreeSet<(String, String)> = components.keys().cloned().collect();
    assert_eq!(built.difference(&listed).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
    // Every crate of a registry has the digest of Cargo.lock, a licence and its text where the crate has one.
    let lock: toml::Table =
        toml::from_str(&std::fs::read_to_string(root().join("Cargo.lock")).unwrap()).unwrap();
    for locked in lock["package"].as_array().unwrap() {
        let of = |key: &str| {
            locked.get(key).and_then(toml::Value::as_str).unwrap_or_default().to_owned()
        };
        let Some(component) = components.get(&(of("name"), of("version"))) else { continue };
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        if !of("checksum").is_empty() {
            assert_eq!(component["hashes"][0]["content"], of("checksum"), "{component}");
            assert!(text(&component["purl"]).starts_with(&format!("pkg:cargo/{}@", of("name"))));
        }
    }
    let references: BTreeSet<String> = components.values().map(|it| text(&it["bom-ref"])).collect();
    assert_eq!(references.len(), components.len());
    for dependency in sbom["dependencies"].as_array().unwrap() {
        assert!(references.contains(&text(&dependency["ref"])));
        for on in dependency["dependsOn"].as_array().unwrap() {
            assert!(references.contains(&text(on)), "{on}");
        }
    }
    assert!(packed.iter().any(|path| path.starts_with("licences/serde-")), "{packed:?}");
}

#[test]
fn a_missing_program_is_an_error_that_names_it() {
    let home = tempfile::tempdir().unwrap();
    write_programs(&home.path().join("bin"));
    std::fs::remove_file(home.path().join("bin/forward")).unwrap();
    let (done, text, archive) = dist(home.path(), "output", "022");
    assert!(!done && text.contains("bin/forward"), "{text}");
    assert_eq!(archive, PathBuf::new(), "no archive is left");
}
