//! Listeners that require TLS: one with SASL, one with a certificate of the client.

use std::path::PathBuf;

use super::tokens::TokenIssuer;
use super::{Jit, Kafka, Roles, Server};
use crate::process::free_port;
use crate::{Authority, Dirs, Error, Identity};

/// The user of the listener for SASL, for SCRAM and PLAIN.
pub const SCRAM_USER: &str = "mailpulse";
/// The user's password. It has characters that an environment variable, TOML and JAAS must not change.
pub const SCRAM_PASSWORD: &str = "tulip=Marsh $7 river";

/// Whom a broker trusts.
#[derive(Clone, Copy)]
pub(super) struct Security<'a> {
    pub(super) authority: &'a Authority,
    pub(super) issuer: Option<&'a TokenIssuer>,
}

/// The ports of the secured listeners, and the files of the broker.
#[derive(Debug, Clone)]
pub(super) struct SecuredListeners {
    /// SASL_SSL with SCRAM and PLAIN, and with OAUTHBEARER if there are keys.
    pub(super) scram_port: u16,
    /// SSL with a certificate of the client.
    pub(super) mutual_port: u16,
    pub(super) server: Identity,
    /// The authority whose clients are accepted.
    pub(super) ca_file: PathBuf,
    /// The keys of the tokens that are accepted.
    pub(super) token_keys: Option<PathBuf>,
}

impl SecuredListeners {
    pub(super) fn new(security: Security<'_>) -> Result<Self, Error> {
        let Security { authority, issuer } = security;
        Ok(Self {
            scram_port: free_port()?,
            mutual_port: free_port()?,
            server: authority.server()?,
            ca_file: authority.ca_file().to_owned(),
            token_keys: issuer.map(|issuer| issuer.keys_file().to_owned()),
        })
    }

    /// The arguments of `kafka-storage format` that create [`SCRAM_USER`].
    pub(super) fn format_arguments(&self) -> impl Iterator<Item = String> + use<> {
        ["SCRAM-SHA-512", "SCRAM-SHA-256"].into_iter().flat_map(|mechanism| {
            let user = format!("{mechanism}=[name={SCRAM_USER},password={SCRAM_PASSWORD}]");
            ["--add-scram".to_owned(), user]
        })
    }

    /// The argument of Java without which Kafka reads no keys of tokens.
    pub(super) fn java_argument(&self) -> Option<String> {
        let keys = self.token_keys.as_ref()?;
        Some(format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://{}", keys.display()))
    }
}

impl Kafka {
    /// Starts a broker that is its own controller as a child process, with three listeners: the plain
    /// one of [`bootstrap`](Self::bootstrap), [`sasl_ssl`](Self::sasl_ssl) and [`ssl`](Self::ssl). Their
    /// certificate is signed by `authority`.
    ///
    /// # Errors
    /// As [`start_own`](Self::start_own), and [`Error::Certificate`].
    pub fn start_secured(dirs: &Dirs, authority: &Authority) -> Result<Self, Error> {
        let security = Security { authority, issuer: None };
        Self::launch_with(dirs, Roles::Combined, Jit::Quick, None, Some(security))
    }

    /// Like [`start_secured`](Self::start_secured), and the broker accepts tokens of `issuer` too.
    ///
    /// # Errors
    /// As [`start_secured`](Self::start_secured).
    pub fn start_with_tokens(
        dirs: &Dirs,
        authority: &Authority,
        issuer: &TokenIssuer,
    ) -> Result<Self, Error> {
        let security = Security { authority, issuer: Some(issuer) };
        Self::launch_with(dirs, Roles::Combined, Jit::Quick, None, Some(security))
    }

    /// Returns the address of the listener for SASL over TLS, for [`SCRAM_USER`] with
    /// [`SCRAM_PASSWORD`] by SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN, of a broker that was
    /// [started with it](Self::start_secured).
    pub fn sasl_ssl(&self) -> Option<String> {
        self.secured().map(|listeners| format!("127.0.0.1:{}", listeners.scram_port))
    }

    /// Returns the address of the listener for mutual TLS, for clients with a certificate of the
    /// authority, of a broker that was [started with it](Self::start_secured).
    pub fn ssl(&self) -> Option<String> {
        self.secured().map(|listeners| format!("127.0.0.1:{}", listeners.mutual_port))
    }

    fn secured(&self) -> Option<&SecuredListeners> {
        let Server::Child(cluster) = &self.server else { return None };
        cluster.secured.as_ref()
    }
}
