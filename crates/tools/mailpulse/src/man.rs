//! `mailpulse man`: pages for `man`, made of the same table of commands as the help texts.

use std::io::{self, Write};
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::args::Cli;
use crate::{InputError, Outcome};

/// Prints one page, or writes all of them.
///
/// # Errors
/// If there is no such command, or a page cannot be written.
pub(crate) fn run(words: &[String], directory: Option<&Path>) -> anyhow::Result<Outcome> {
    let mut tool = Cli::command();
    // Gives every command its options and its full name.
    tool.build();
    if let Some(directory) = directory {
        return write_all(&tool, "mailpulse", directory);
    }
    let mut command = &tool;
    let mut name = "mailpulse".to_owned();
    for word in words {
        let text = || InputError(format!("there is no command `{}`; see --help", words.join(" ")));
        command = command.find_subcommand(word).ok_or_else(text)?;
        name = format!("{name}-{}", command.get_name());
    }
    io::stdout().write_all(&page(command, &name)?)?;
    Ok(Outcome::Done)
}

/// Returns a page in the format roff.
fn page(command: &Command, name: &str) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    // The name of a page has no spaces: `man mailpulse-dead-letters-ls`.
    Man::new(command.clone().display_name(name)).render(&mut page)?;
    Ok(page)
}

fn write_all(command: &Command, name: &str, directory: &Path) -> anyhow::Result<Outcome> {
    let path = directory.join(format!("{name}.1"));
    std::fs::write(&path, page(command, name)?)
        .map_err(|error| InputError(format!("{} cannot be written: {error}", path.display())))?;
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        write_all(inner, &format!("{name}-{}", inner.get_name()), directory)?;
    }
    Ok(Outcome::Done)
}
