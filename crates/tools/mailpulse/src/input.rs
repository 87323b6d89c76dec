//! Files that the command line names; `-` is standard input.

use std::io::{self, Read};
use std::path::Path;

use crate::Unusable;

/// All of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Unusable> {
    let bytes = if path == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    bytes.map_err(|error| Unusable(format!("{} cannot be read: {error}", path.display())))
}

/// A secret: text, without the line end that editors put behind it.
pub(crate) fn read_secret(path: &Path) -> Result<String, Unusable> {
    let text = String::from_utf8(read(path)?).map_err(|_| {
        Unusable(format!(
            "the secret in {} is not text: write it in hex or base64 and say so with \
             --secret-encoding",
            path.display()
        ))
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
