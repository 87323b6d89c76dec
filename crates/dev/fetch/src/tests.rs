use std::thread;

use super::*;

/// An artefact of one line. Each fetch adds a line to the file `fetches` beside it.
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
fn a_complete_fetch_is_kept() {
    let cache = tempfile::tempdir().unwrap();
    let dir = FAKE.obtain(cache.path()).unwrap();
    assert_eq!(FAKE.obtain(cache.path()).unwrap(), dir);
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "whole\n");
    assert_eq!(fetches(cache.path()), 1);
    assert!(!cache.path().join("fake-1.partial").exists());
}

#[test]
fn an_interrupted_fetch_is_repeated() {
    let cache = tempfile::tempdir().unwrap();
    // A fetch that was interrupted while the client ran leaves its directory.
    fs::create_dir(cache.path().join("fake-1.partial")).unwrap();
    fs::write(cache.path().join("fake-1.partial/file"), "wh").unwrap();
    fs::write(cache.path().join("fake-1.partial/junk"), "junk").unwrap();
    // A copy made by hand has no marker.
    fs::create_dir(cache.path().join("fake-1")).unwrap();
    fs::write(cache.path().join("fake-1/file"), "who").unwrap();

    let dir = FAKE.obtain(cache.path()).unwrap();
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "whole\n");
    assert!(!dir.join("junk").exists(), "nothing of the interrupted fetch is used");
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

    let newer = Artefact { manifests: &[("manifest", "fake 1, changed\n")], ..FAKE };
    newer.obtain(cache.path()).unwrap();
    assert_eq!(fetches(cache.path()), 3);
}

#[test]
fn an_incomplete_fetch_is_an_error_and_never_used() {
    let cache = tempfile::tempdir().unwrap();
    let short = Artefact { client: |dir| Ok(shell(dir, "echo who >file")), ..FAKE };
    for _ in 0..2 {
        assert_eq!(short.obtain(cache.path()).unwrap_err().code(), "incomplete_fetch");
        assert!(!cache.path().join("fake-1").exists());
    }
    FAKE.obtain(cache.path()).unwrap();
}

#[test]
fn the_error_quotes_the_output_of_a_failing_client() {
    let cache = tempfile::tempdir().unwrap();
    let broken = Artefact { client: |dir| Ok(shell(dir, "echo no route >&2; exit 1")), ..FAKE };
    let error = broken.obtain(cache.path()).unwrap_err();
    assert_eq!(error.code(), "command_failed");
    assert!(error.to_string().contains("no route"), "{error}");
}

#[test]
fn only_one_of_many_threads_fetches() {
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
