//! A certificate authority for tests, and a TLS front for a server that speaks plain HTTP.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::dirs::RunDir;
use crate::{Dirs, Error};

/// A certificate authority that no other program trusts. Its files are in the run directory.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
    ca_file: PathBuf,
    _run: Arc<RunDir>,
}

/// A certificate with its private key, in PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key, PKCS #8.
    pub key: PathBuf,
    /// Both in one file, which Kafka calls a key store.
    pub both: PathBuf,
}

impl Authority {
    /// Creates an authority with a new key.
    ///
    /// # Errors
    /// [`Error::Certificate`] if the key or the certificate cannot be made, [`Error::Io`] if a file
    /// cannot be written.
    pub fn new(dirs: &Dirs) -> Result<Self, Error> {
        let dir = dirs.subdirectory("authority")?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "Mailpulse test authority");
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let ca_file = dir.join("ca.pem");
        write(&ca_file, &certificate.pem())?;
        let issuer = Issuer::new(params, key);
        Ok(Self { issuer, dir, ca_file, _run: dirs.owner.clone() })
    }

    /// Returns the file with the authority's certificate, which a client must trust.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Returns an identity of a server on this machine: `localhost` and 127.0.0.1.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn server(&self) -> Result<Identity, Error> {
        self.server_named(&["localhost", "127.0.0.1"])
    }

    /// Returns an identity of a server with these names and addresses.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn server_named(&self, names: &[&str]) -> Result<Identity, Error> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        self.issue("server", CertificateParams::new(names)?, &[ExtendedKeyUsagePurpose::ServerAuth])
    }

    /// Returns an identity of a client. `name` is its common name.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn client(&self, name: &str) -> Result<Identity, Error> {
        self.issue(name, CertificateParams::default(), &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// Returns an identity of a node of a cluster, which is the server of some connections and the client of
    /// others. `name` is its common name, `addresses` are its names and addresses.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn node(&self, name: &str, addresses: &[String]) -> Result<Identity, Error> {
        let usages = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(name, CertificateParams::new(addresses)?, &usages)
    }

    fn issue(
        &self,
        name: &str,
        mut params: CertificateParams,
        usages: &[ExtendedKeyUsagePurpose],
    ) -> Result<Identity, Error> {
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let key = key.serialize_pem();
        let file = |extension: &str| self.dir.join(format!("{name}.{extension}"));
        let identity = Identity { certificate: file("crt"), key: file("key"), both: file("pem") };
        write(&identity.certificate, &certificate)?;
        write(&identity.key, &key)?;
        write(&identity.both, &format!("{key}{certificate}"))?;
        Ok(identity)
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::io(format!("write {}", path.display())))
}

/// Accepts TLS connections on a port of 127.0.0.1 and passes their bytes to a plain server. Dropping it
/// closes the port and all connections.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TlsFront {
    /// Starts a front with the certificate of `identity` before the server at `upstream` (`host:port`).
    ///
    /// # Errors
    /// [`Error::Tls`] if the identity cannot be used, [`Error::Io`] if no port is free.
    pub fn start(upstream: &str, identity: &Identity) -> Result<Self, Error> {
        Self::launch(upstream, server_config(identity, None)?)
    }

    /// Starts a front that also requires a certificate of the authority `clients` from each client.
    ///
    /// # Errors
    /// As [`TlsFront::start`].
    pub fn start_mutual(
        upstream: &str,
        identity: &Identity,
        clients: &Authority,
    ) -> Result<Self, Error> {
        Self::launch(upstream, server_config(identity, Some(clients))?)
    }

    fn launch(upstream: &str, config: ServerConfig) -> Result<Self, Error> {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::io("create a runtime"))?;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::io("find a free port"))?;
        let address = listener.local_addr().map_err(Error::io("find the port"))?;
        listener.set_nonblocking(true).map_err(Error::io("prepare the port"))?;
        let (stop, stopped) = oneshot::channel();
        let upstream = upstream.to_owned();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, acceptor, upstream) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("tls-front".into())
            .spawn(serve)
            .map_err(Error::io("start a thread"))?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn server_config(identity: &Identity, clients: Option<&Authority>) -> Result<ServerConfig, Error> {
    let read = |path: &Path, why: &dyn std::fmt::Display| {
        Error::Tls(format!("cannot read {}: {why}", path.display()))
    };
    let certificate = CertificateDer::from_pem_file(&identity.certificate)
        .map_err(|why| read(&identity.certificate, &why))?;
    let key =
        PrivateKeyDer::from_pem_file(&identity.key).map_err(|why| read(&identity.key, &why))?;
    let refused = |why: tokio_rustls::rustls::Error| Error::Tls(why.to_string());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(refused)?;
    let builder = if let Some(clients) = clients {
        let authority = CertificateDer::from_pem_file(clients.ca_file())
            .map_err(|why| read(clients.ca_file(), &why))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority).map_err(refused)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier.build().map_err(|why| Error::Tls(why.to_string()))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    builder.with_single_cert(vec![certificate], key).map_err(refused)
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, upstream: String) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    // A failed accept or handshake is the client's problem; it sees the connection close.
    while let Ok((client, _)) = listener.accept().await {
        let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
        tokio::spawn(async move {
            let mut server = TcpStream::connect(upstream).await?;
            let mut client = acceptor.accept(client).await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await
        });
    }
}
