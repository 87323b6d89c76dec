use std::thread;

use super::*;

/// An artefact of one line, whose fetch also counts itself in a file beside.
const FAKE: Artefact = Artefact {
    title: "a fake",
    dir: "fake-1",
    manifests: &[("manifest", "fake 1\n")],
    client: |dir| {
        let mut command = Command::new("sh");
        command.current_dir(dir).args(["-c", "echo x >>../fetches; sleep 0.2; echo whole >file"]);
        Ok(command)
    },
    check: |dir| match fs::read_to_string(dir.join("file")) {
        Ok(text) if text == "whole\n" => Ok(()),
        _ => Err("no whole file".into()),
    },
};

fn fetches(cache: &Path) -> usize {
    fs::read_to_string(cache.join("fetches")).map_or(0, |text| text.lines().count())
}

#[test]
fn a_whole_fetch_is_kept() {
    let cache = tempfile::tempdir().unwrap();
    let dir = FAKE.obtain(cache.path()).unwrap();
    assert_eq!(FAKE.obtain(cache.path()).unwrap(), dir);
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "whole\n");
    assert_eq!(fetches(cache.path()), 1);
    assert!(!cache.path().join("fake-1.partial").exists());
}

#[test]
fn a_cut_off_fetch_is_redone() {
    let cache = tempfile::tempdir().unwrap();
    // Cut off while the client ran: the directory beside is left.
    fs::create_dir(cache.path().join("fake-1.partial")).unwrap();
    fs::write(cache.path().join("fake-1.partial/file"), "wh").unwrap();
    fs::write(cache.path().join("fake-1.partial/junk"), "junk").unwrap();
    // And one in the final place without a marker, as a hand-made copy would be.
    fs::create_dir(cache.path().join("fake-1")).unwrap();
    fs::write(cache.path().join("fake-1/file"), "who").unwrap();

    let dir = FAKE.obtain(cache.path()).unwrap();
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "whole\n");
    assert!(!dir.join("junk").exists(), "nothing of the cut-off fetch is used");
    assert_eq!(fetches(cache.path()), 1);
}

#[test]
fn a_damaged_or_outdated_directory_is_fetched_again() {
    let cache = tempfile::tempdir().unwrap();
    let dir = FAKE.obtain(cache.path()).unwrap();
    fs::write(dir.join("file"), "whol").unwrap();
    FAKE.obtain(cache.path()).unwrap();
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "whole\n");
    assert_eq!(fetches(cache.path()), 2);

    let newer = Artefact { manifests: &[("manifest", "fake 1, mended\n")], ..FAKE };
    newer.obtain(cache.path()).unwrap();
    assert_eq!(fetches(cache.path()), 3);
}

#[test]
fn a_fetch_that_is_not_whole_is_refused_and_never_used() {
    let cache = tempfile::tempdir().unwrap();
    let short = Artefact { client: |dir| Ok(shell(dir, "echo who >file")), ..FAKE };
    for _ in 0..2 {
        assert_eq!(short.obtain(cache.path()).unwrap_err().code(), "incomplete_fetch");
        assert!(!cache.path().join("fake-1").exists());
    }
    FAKE.obtain(cache.path()).unwrap();
}

#[test]
fn a_failing_client_is_quoted() {
    let cache = tempfile::tempdir().unwrap();
    let broken = Artefact { client: |dir| Ok(shell(dir, "echo no route >&2; exit 1")), ..FAKE };
    let error = broken.obtain(cache.path()).unwrap_err();
    assert_eq!(error.code(), "command_failed");
    assert!(error.to_string().contains("no route"), "{error}");
}

#[test]
fn only_one_of_many_fetches() {
    let cache = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| FAKE.obtain(cache.path()).unwrap());
        }
    });
    assert_eq!(fetches(cache.path()), 1);
}

#[test]
fn directory_names_carry_the_versions_of_the_manifests() {
    let [(_, pom)] = KAFKA.manifests else { panic!("one manifest") };
    let pinned = "<artifactId>kafka_2.13</artifactId>\n      <version>4.3.0</version>";
    assert!(pom.contains(pinned), "KAFKA names 4.3.0, pom.xml does not");
    for (name, content) in LIBCHDB.manifests {
        assert!(content.contains("\"@chdb/lib-linux-x64-gnu\": \"26.7.3-stable.1\""), "{name}");
    }
}

fn shell(dir: &Path, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.current_dir(dir).args(["-c", script]);
    command
}
