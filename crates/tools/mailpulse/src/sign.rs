//! `mailpulse sign`: signs a request as the provider would, to test an endpoint.
//!
//! The signers of `testkit` share no code with the verifiers, so a mistake in one of them does not
//! go unnoticed.

mod generate;
mod keys;
mod request;
mod scheme;

use std::io::{self, Write};

use providers::Options;

pub(crate) use scheme::{Signing, sign};

use crate::args::Sign;
use crate::{InputError, Outcome, input};

/// Signs a body and prints the request.
pub(crate) fn run(args: &Sign) -> anyhow::Result<Outcome> {
    // Reports invalid values.
    let mut options = args.scheme.options();
    options.retain(|key, _| Options::keys(args.provider).contains(&key));
    Options::read(args.provider, options)
        .map_err(|error| InputError(error.message().to_owned()))?;
    let secrets = match &args.generate_key {
        Some(directory) => generate::keys(args.provider, &args.scheme, directory)?,
        None => {
            let files = args.scheme.secret_files.iter();
            files.map(|path| input::read_secret(path)).collect::<Result<Vec<_>, _>>()?
        }
    };
    let Some(body) = &args.body else { return Ok(Outcome::Done) };
    let body = input::read(body)?;
    let now = args.at.unwrap_or_else(crate::now).as_second();
    let signing = Signing {
        provider: args.provider,
        scheme: &args.scheme,
        key_id: &args.key_id,
        secrets: &secrets,
    };
    let signed_body = sign(signing, body, now)?;
    let destination = request::Destination::new(args);
    let text = if args.curl {
        request::curl(&destination, &signed_body)?
    } else {
        request::http(&destination, &signed_body)
    };
    io::stdout().write_all(&text)?;
    Ok(Outcome::Done)
}
