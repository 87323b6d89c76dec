//! Tests the pages of the documentation: links lead somewhere, the book has every page, and the pages
//! name only files that exist.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use support::root;

/// Returns all Markdown files below a folder, as paths from the root of the repository.
fn markdown(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join(folder)).unwrap() {
        let path = folder.join(entry.unwrap().file_name());
        if root().join(&path).is_dir() {
            found.extend(markdown(&path));
        } else if is_markdown(&path) {
            found.push(path);
        }
    }
    found
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

fn pages() -> Vec<PathBuf> {
    let files = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name());
    let top = files.map(PathBuf::from).filter(|path| is_markdown(path));
    top.chain(markdown(Path::new("docs"))).chain(markdown(Path::new("schemas"))).collect()
}

fn read(page: &Path) -> String {
    std::fs::read_to_string(root().join(page)).unwrap()
}

/// Returns the targets of the links `[text](target)` of a page, without web addresses.
fn links(page: &Path) -> Vec<String> {
    let text = read(page);
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let targets = targets.map(|(target, _)| target.to_owned());
    targets.filter(|target| !target.contains("://") && !target.contains(' ')).collect()
}

#[test]
fn links_between_pages_resolve() {
    let mut broken = Vec::new();
    for page in pages() {
        // The summary of the book is copied to the root.
        let is_summary = page.ends_with("SUMMARY.md");
        let folder = if is_summary { Path::new("") } else { page.parent().unwrap() };
        for link in links(&page) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { page.clone() } else { folder.join(path) };
            let exists = root().join(&target).exists();
            if !exists || (!anchor.is_empty() && !support::anchors(&read(&target)).contains(anchor))
            {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn the_book_has_every_page() {
    let summary = links(Path::new("docs/book/SUMMARY.md"));
    let listed: BTreeSet<PathBuf> = summary.iter().map(PathBuf::from).collect();
    let missing: Vec<_> = pages()
        .into_iter()
        .filter(|page| !page.ends_with("SUMMARY.md") && !listed.contains(page))
        .collect();
    assert!(missing.is_empty(), "pages that docs/book/SUMMARY.md does not list: {missing:?}");
}

/// Paths of tests and sources that the README and ARCHITECTURE.md name must exist.
#[test]
fn named_files_exist() {
    let mut missing = Vec::new();
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = read(Path::new(page));
        let named = text.split('`').skip(1).step_by(2);
        let groups = ["services/", "libraries/", "tools/", "dev/"];
        for path in named.filter(|text| groups.iter().any(|group| text.starts_with(group))) {
            let is_pattern = path.contains(['<', '{', '*', ' ']);
            if !is_pattern && !root().join("crates").join(path).exists() {
                missing.push(format!("{page}: {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "named files that do not exist:\n{}", missing.join("\n"));
}

#[test]
fn the_picture_shows_every_service_and_topic() {
    for file in ["docs/images/event-flow.dot", "docs/images/event-flow.svg"] {
        let text = read(Path::new(file));
        let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&#45;", "-");
        let topics = record::Topics::new("");
        let shown = [
            "mail.raw.<kind>",
            &topics.enriched,
            &topics.events,
            &topics.panes,
            &topics.rates,
            &topics.alerts,
            &topics.incidents,
            &topics.dead_letters,
        ];
        let services = ["ingress", "enrich", "dedupe", "monitor", "archive", "notify"];
        for name in shown.into_iter().chain(services) {
            assert!(text.contains(name), "{file} does not show {name}");
        }
    }
}
