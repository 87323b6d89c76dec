//! Properties of every parser of untrusted bytes.
//!
//! Each fuzz target has a module with a function `check`, which panics if a property does not hold.
//! The targets in `fuzz_targets/` call it with libFuzzer's inputs, and the test below with the
//! files in `seeds/`, on any compiler. `docs/fuzzing.md` describes how to run the targets and what
//! they found.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a check panics if a property does not hold"
)]

pub mod changelog;
pub mod headers;
pub mod parse;
pub mod pseudonyms;
pub mod settings;
pub mod split;
pub mod spool_recovery;
pub mod spool_segment;
pub mod verify;

use event::Provider;

/// The current time for all targets, in unix seconds.
pub const NOW: i64 = 1_795_255_200;

/// The name of a target, the folder of its seeds, and its check.
pub type Target = (&'static str, &'static str, fn(&[u8]));

pub const TARGETS: [Target; 10] = [
    ("split", "bodies", split::check),
    ("parse", "bodies", parse::check),
    ("parse_newer", "bodies", parse::check_newer),
    ("pseudonyms", "bodies", pseudonyms::check),
    ("verify", "requests", verify::check),
    ("spool_segment", "segments", spool_segment::check),
    ("spool_recovery", "segments", spool_recovery::check),
    ("headers", "headers", headers::check),
    ("changelog", "changelog", changelog::check),
    ("settings", "settings", settings::check),
];

/// Splits off the first byte, which chooses the provider.
pub(crate) fn provider_and_rest(data: &[u8]) -> Option<(Provider, &[u8])> {
    let (&choice, rest) = data.split_first()?;
    Some((Provider::ALL[usize::from(choice) % Provider::ALL.len()], rest))
}

/// The name and the value of a line `name: value`.
pub(crate) type Line<'a> = (&'a [u8], &'a [u8]);

/// Reads lines up to an empty one. Returns them and the bytes after the empty line.
pub(crate) fn head_and_body(data: &[u8]) -> (Vec<Line<'_>>, &[u8]) {
    let mut head = Vec::new();
    let mut rest = data;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        head.push((&line[..colon], value.strip_prefix(b" ").unwrap_or(value)));
    }
    (head, rest)
}

/// Returns the paths and bytes of the seeds in a folder.
#[cfg(test)]
fn seeds(folder: &str) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_passes_with_every_seed() {
        for (target, folder, check) in TARGETS {
            let seeds = seeds(folder);
            assert!(seeds.len() > 3, "{target} has seeds");
            for (path, seed) in seeds {
                assert!(std::panic::catch_unwind(|| check(&seed)).is_ok(), "{target} {path:?}");
            }
        }
    }
}
