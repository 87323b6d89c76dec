//! Listeners that require TLS: one with SASL, one with a certificate of the client.

use std::path::PathBuf;

use super::{Jit, Kafka, Roles, Server};
use crate::process::free_port;
use crate::{Authority, Dirs, Error, Identity};

/// The user of the listener for SASL.
pub const SCRAM_USER: &str = "mailpulse";
/// The user's password. It has characters that an environment variable, TOML and JAAS must not change.
pub const SCRAM_PASSWORD: &str = "tulip=Marsh $7 river";

/// The ports of the secured listeners, and the files of the broker.
#[derive(Debug, Clone)]
pub(super) struct SecuredListeners {
    /// SASL_SSL with SCRAM-SHA-512.
    pub(super) scram_port: u16,
    /// SSL with a certificate of the client.
    pub(super) mutual_port: u16,
    pub(super) server: Identity,
    /// The authority whose clients are accepted.
    pub(super) ca_file: PathBuf,
}

impl SecuredListeners {
    pub(super) fn new(authority: &Authority) -> Result<Self, Error> {
        Ok(Self {
            scram_port: free_port()?,
            mutual_port: free_port()?,
            server: authority.server()?,
            ca_file: authority.ca_file().to_owned(),
        })
    }

    /// The arguments of `kafka-storage format` that create [`SCRAM_USER`].
    pub(super) fn format_arguments(&self) -> [String; 2] {
        let user = format!("SCRAM-SHA-512=[name={SCRAM_USER},password={SCRAM_PASSWORD}]");
        ["--add-scram".to_owned(), user]
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
        Self::launch_with(dirs, Roles::Combined, Jit::Quick, None, Some(authority))
    }

    /// Returns the address of the listener for SASL over TLS, for [`SCRAM_USER`] with
    /// [`SCRAM_PASSWORD`] by SCRAM-SHA-512, of a broker that was
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
