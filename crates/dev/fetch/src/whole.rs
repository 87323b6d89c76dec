//! Checks whether a client fetched everything.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::tools::output;

/// Where Maven copies the jars, in the artefact's directory.
pub(crate) const JARS: &str = "lib";
/// Where npm unpacks the shared library, in the artefact's directory.
pub(crate) const LIBRARY: &str = "node_modules/@chdb/lib-linux-x64-gnu/libchdb.so";
/// The interpreter of the virtual environment, in the artefact's directory.
pub(crate) const PYTHON: &str = "venv/bin/python";

/// The program, in the artefact's directory.
pub(crate) const HELM: &str = "helm";

/// Kafka 4.3.0 has 45 dependencies; a resolution with far fewer is wrong.
const FEWEST_JARS: usize = 40;
/// libchdb 26.7.3 is 566 MB.
const SMALLEST_LIBRARY: u64 = 100_000_000;

/// Checks that there are enough jars and that each of them is a complete zip file.
pub(crate) fn jars(dir: &Path) -> Result<(), String> {
    let lib = dir.join(JARS);
    let entries = fs::read_dir(&lib).map_err(|error| format!("no {}: {error}", lib.display()))?;
    let mut count = 0;
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !is_zip(&path).map_err(|error| format!("{name}: {error}"))? {
            return Err(format!("{name} is not a complete zip file"));
        }
        count += 1;
    }
    if count <= FEWEST_JARS {
        return Err(format!("only {count} jars"));
    }
    Ok(())
}

/// Checks that the library exists and is as long as its header claims.
pub(crate) fn libchdb(dir: &Path) -> Result<(), String> {
    let path = dir.join(LIBRARY);
    let size = fs::metadata(&path).map_err(|error| format!("no {LIBRARY}: {error}"))?.len();
    let whole = is_whole_elf(&path).map_err(|error| format!("{LIBRARY}: {error}"))?;
    if size < SMALLEST_LIBRARY || !whole {
        return Err(format!("{LIBRARY} is truncated at {size} bytes"));
    }
    Ok(())
}

/// Checks that the interpreter finds clickhouse-connect.
pub(crate) fn clickhouse_connect(dir: &Path) -> Result<(), String> {
    python_package(dir, "clickhouse_connect")
}

/// Checks that the interpreter finds aiosmtpd.
pub(crate) fn aiosmtpd(dir: &Path) -> Result<(), String> {
    python_package(dir, "aiosmtpd")
}

/// Checks that Helm runs and is the version that its directory names.
pub(crate) fn helm(dir: &Path) -> Result<(), String> {
    match output(&dir.join(HELM), &["version", "--template", "{{.Version}}"]) {
        Some(version) if version.trim().starts_with("v3.22") => Ok(()),
        Some(version) => Err(format!("helm is {}", version.trim())),
        None => Err("helm does not run".to_owned()),
    }
}

fn python_package(dir: &Path, name: &str) -> Result<(), String> {
    match output(&dir.join(PYTHON), &["-B", "-c", &format!("import {name}")]) {
        Some(_) => Ok(()),
        None => Err(format!("Python cannot import {name}")),
    }
}

/// Whether a file ends in a zip "end of central directory" record that fits the file.
///
/// PKWARE APPNOTE.TXT 6.3, section 4.3.16, describes the record. It is the last part of the file, so a
/// truncated file has none.
fn is_zip(path: &Path) -> io::Result<bool> {
    const RECORD: u64 = 22;
    const LONGEST_COMMENT: u64 = 0xFFFF;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(RECORD + LONGEST_COMMENT);
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.read_to_end(&mut end)?;
    let Some(at) = end.windows(4).rposition(|bytes| bytes == b"PK\x05\x06") else {
        return Ok(false);
    };
    let (Some(size), Some(offset)) = (u32_at(&end, at + 12), u32_at(&end, at + 16)) else {
        return Ok(false);
    };
    Ok(u64::from(offset) + u64::from(size) <= start + at as u64)
}

/// Whether a 64-bit little-endian ELF file contains all of its section header table, which linkers
/// write last. The offsets of the header's fields are in elf(5), `Elf64_Ehdr`.
fn is_whole_elf(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut header = [0; 64];
    if length < header.len() as u64 {
        return Ok(false);
    }
    file.read_exact(&mut header)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Ok(false);
    }
    let (offset, rest) = (u64_at(&header, 0x28), (u16_at(&header, 0x3A), u16_at(&header, 0x3C)));
    let (Some(offset), (Some(size), Some(count))) = (offset, rest) else { return Ok(false) };
    Ok(offset.checked_add(u64::from(size) * u64::from(count)).is_some_and(|end| end <= length))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty zip file consists of the end record alone.
    const EMPTY_ZIP: [u8; 22] = *b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

    #[test]
    fn a_truncated_zip_is_detected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jar");
        fs::write(&path, EMPTY_ZIP).unwrap();
        assert!(is_zip(&path).unwrap());
        fs::write(&path, &EMPTY_ZIP[..18]).unwrap();
        assert!(!is_zip(&path).unwrap());
        // A central directory that claims to be longer than the bytes before the record.
        let mut long = EMPTY_ZIP;
        long[12] = 1;
        fs::write(&path, long).unwrap();
        assert!(!is_zip(&path).unwrap());
    }

    #[test]
    fn one_bad_jar_or_too_few_jars_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let lib = dir.path().join(JARS);
        fs::create_dir(&lib).unwrap();
        for n in 0..40 {
            fs::write(lib.join(format!("{n}.jar")), EMPTY_ZIP).unwrap();
        }
        assert_eq!(jars(dir.path()), Err("only 40 jars".into()));
        fs::write(lib.join("40.jar"), EMPTY_ZIP).unwrap();
        assert_eq!(jars(dir.path()), Ok(()));
        fs::write(lib.join("7.jar"), b"PK").unwrap();
        assert_eq!(jars(dir.path()), Err("7.jar is not a complete zip file".into()));
    }

    #[test]
    fn a_truncated_library_is_detected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("short");
        let program = fs::read(std::env::current_exe().unwrap()).unwrap();
        fs::write(&path, &program).unwrap();
        assert!(is_whole_elf(&path).unwrap());
        fs::write(&path, &program[..program.len() - 100]).unwrap();
        assert!(!is_whole_elf(&path).unwrap());
    }
}
