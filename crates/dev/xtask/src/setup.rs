//! Installs the tools that are missing, after a question if somebody sits at the terminal.

use std::io::{BufRead, Write};

use fetch::{Permission, Tool};

/// Installs the missing tools. Returns whether the user has agreed, by `--yes` or by an answer.
pub(crate) fn install_missing(tools: &[&'static Tool], yes: bool) -> Result<bool, String> {
    let missing: Vec<&Tool> = tools.iter().copied().filter(|tool| tool.find().is_none()).collect();
    if missing.is_empty() {
        return Ok(yes);
    }
    eprintln!("==> missing on this machine:");
    let mut commands = Vec::new();
    for tool in &missing {
        eprintln!("    {}, needed {}", tool.name, tool.why);
        let command = fetch::plan(tool).map_err(|error| error.to_string())?;
        if !commands.contains(&command) {
            commands.push(command);
        }
    }
    eprintln!("    cargo xtask installs them with apt-get. Debian may start them as services.");
    commands.iter().for_each(|command| eprintln!("      {command}"));
    let agreed = yes || Permission::of_this_process() == Permission::Ask;
    if !yes && agreed && !confirm()? {
        return Err("nothing was installed; install the tools yourself and try again".to_owned());
    }
    fetch::install(&missing).map_err(|error| error.to_string())?;
    match missing.iter().find(|tool| tool.find().is_none()) {
        Some(tool) => Err(format!("{} is still missing after the installation", tool.name)),
        None => Ok(agreed),
    }
}

fn confirm() -> Result<bool, String> {
    eprint!("    Install them now? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| format!("cannot read the answer: {error}"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
