//! Reads the files that the command line names. `-` is standard input.

use std::io::{self, Read};
use std::path::Path;

use crate::InputError;

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, InputError> {
    let bytes = if path == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    bytes.map_err(|error| InputError(format!("{} cannot be read: {error}", path.display())))
}

/// Reads a secret. Editors append a line end, which is not part of it.
pub(crate) fn read_secret(path: &Path) -> Result<String, InputError> {
    let text = String::from_utf8(read(path)?).map_err(|_| {
        InputError(format!(
            "the secret in {} is not text: encode it as hex or base64 and give \
             --secret-encoding",
            path.display()
        ))
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
