//! Every dead-letter reason has a page in `docs/reason-codes`, and every page has a reason.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use record::DEAD_LETTER_REASONS;

/// Pages that are not about one reason.
const OTHER_PAGES: [&str; 2] = ["README", "problem-codes"];

/// The parts of a page.
const PARTS: [&str; 4] =
    ["**What happened.**", "**Why.**", "**See the records.**", "**What to do.**"];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/reason-codes")
}

fn codes() -> BTreeSet<String> {
    DEAD_LETTER_REASONS.iter().map(|reason| reason.code().to_owned()).collect()
}

fn page(name: &str) -> String {
    let path = directory().join(format!("{name}.md"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_reason_has_a_page_and_every_page_a_reason() {
    let files = std::fs::read_dir(directory()).unwrap();
    let pages: BTreeSet<_> = files
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| !OTHER_PAGES.contains(&name.as_str()))
        .collect();
    assert_eq!(pages, codes());
}

#[test]
fn every_page_explains_the_cause_and_the_fix() {
    for code in codes() {
        let text = page(&code);
        assert!(text.starts_with(&format!("# `{code}`\n")), "{code} has another title");
        for part in PARTS {
            assert!(text.contains(part), "{code} lacks {part}");
        }
        assert!(text.contains("mailpulse dead-letters ls"), "{code} shows no command");
    }
}

#[test]
fn the_index_links_to_every_page() {
    let index = page("README");
    for code in codes() {
        assert!(index.contains(&format!("[`{code}`]({code}.md)")), "{code} is not in the index");
    }
}
