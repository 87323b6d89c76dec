//! What must hold of every reader of foreign bytes, whatever the bytes are.
//!
//! One module per fuzz target, each with a function `check` that panics when something does not
//! hold. The targets in `fuzz_targets/` call them with what libFuzzer makes up; the test below
//! calls them with `seeds/`, on any compiler. How to run and what was found: `docs/fuzzing.md`.

pub mod changelog;
pub mod headers;
pub mod parse;
pub mod settings;
pub mod split;
pub mod spool_recovery;
pub mod spool_segment;
pub mod verify;

use event::Provider;

/// A unix time in seconds for everything that has to know what time it is.
pub const NOW: i64 = 1_795_255_200;

/// A target: its name, the folder of its seeds, and what it checks.
pub type Target = (&'static str, &'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 8] = [
    ("split", "bodies", split::check),
    ("parse", "bodies", parse::check),
    ("verify", "requests", verify::check),
    ("spool_segment", "segments", spool_segment::check),
    ("spool_recovery", "segments", spool_recovery::check),
    ("headers", "headers", headers::check),
    ("changelog", "changelog", changelog::check),
    ("settings", "settings", settings::check),
];

/// The provider that the first byte chooses, and the rest.
pub(crate) fn provider_and_rest(data: &[u8]) -> Option<(Provider, &[u8])> {
    let (&choice, rest) = data.split_first()?;
    Some((Provider::ALL[usize::from(choice) % Provider::ALL.len()], rest))
}

/// A line `name: value`.
pub(crate) type Line<'a> = (&'a [u8], &'a [u8]);

/// Lines up to an empty one, and what is behind that.
pub(crate) fn head_and_body(data: &[u8]) -> (Vec<Line<'_>>, &[u8]) {
    let mut head = Vec::new();
    let mut rest = data;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let (line, behind) = (&rest[..end], &rest[end + 1..]);
        rest = behind;
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        head.push((&line[..colon], value.strip_prefix(b" ").unwrap_or(value)));
    }
    (head, rest)
}

/// The seeds in a folder, with their paths.
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
    fn everything_holds_of_every_seed() {
        for (target, folder, check) in TARGETS {
            let seeds = seeds(folder);
            assert!(seeds.len() > 3, "{target} has seeds");
            for (path, seed) in seeds {
                assert!(std::panic::catch_unwind(|| check(&seed)).is_ok(), "{target} {path:?}");
            }
        }
    }
}
