//! `mailpulse sign`: a request as the provider would post it, to test an endpoint with.
//!
//! The signers are those of `testkit`, which share nothing with the verifiers: what one gets wrong
//! the other does not agree with.

mod generate;
mod keys;
mod request;
mod scheme;

use std::io::{self, Write};

use jiff::Timestamp;
use providers::Options;

use crate::args::Sign;
use crate::{Outcome, Unusable, input};

/// Signs a body and prints the request.
pub(crate) fn run(how: &Sign) -> anyhow::Result<Outcome> {
    // Refuses what no source could be configured with.
    let _: Options = how
        .scheme
        .options()
        .try_into()
        .map_err(|error: toml::de::Error| Unusable(error.message().to_owned()))?;
    let secrets = match &how.generate_key {
        Some(directory) => generate::keys(how.provider, &how.scheme, directory)?,
        None => {
            let files = how.scheme.secret_files.iter();
            files.map(|path| input::read_secret(path)).collect::<Result<Vec<_>, _>>()?
        }
    };
    let Some(body) = &how.body else { return Ok(Outcome::Done) };
    let body = input::read(body)?;
    let now = how.at.unwrap_or_else(Timestamp::now).as_second();
    let sealed = scheme::seal(how, &secrets, body, now)?;
    let place = request::Place::new(how);
    let text =
        if how.curl { request::curl(&place, &sealed)? } else { request::http(&place, &sealed) };
    io::stdout().write_all(&text)?;
    Ok(Outcome::Done)
}
