//! TLS over a byte stream: whom we trust, who we are, and what ALPN picks.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls_platform_verifier::Verifier;
use tokio_rustls::TlsConnector;

use crate::connect::ByteStream;
use crate::{Error, ErrorKind, Origin, Protocol, TlsConfig};

/// One client configuration per ALPN offer, so that session tickets are reused.
pub(crate) struct TlsClients {
    provider: Arc<CryptoProvider>,
    extra_roots: Vec<CertificateDer<'static>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// Built at the first handshake: reading the platform's roots takes milliseconds and may fail, neither of which
    /// should bother a pool that only speaks plaintext.
    built: OnceLock<Result<Built, Error>>,
}

struct Built {
    h2_or_http1: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

impl TlsClients {
    pub(crate) fn new(config: &TlsConfig) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut extra_roots = Vec::new();
        for (index, pem) in config.extra_roots_pem.iter().enumerate() {
            let n_before = extra_roots.len();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                extra_roots.push(
                    certificate.map_err(|error| unreadable(format_args!("extra root {index}"), error))?,
                );
            }
            if extra_roots.len() == n_before {
                let message = format!("extra root {index} holds no PEM certificate (BEGIN CERTIFICATE)");
                return Err(Error::unsent(ErrorKind::Tls, message));
            }
        }
        let identity = match &config.client_identity_pem {
            None => None,
            Some((chain, key)) => {
                let chain = CertificateDer::pem_slice_iter(chain)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|error| unreadable("the client certificate", error))?;
                if chain.is_empty() {
                    let message = "the client certificate holds no PEM certificate (BEGIN CERTIFICATE)";
                    return Err(Error::unsent(ErrorKind::Tls, message));
                }
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|error| unreadable("the client certificate's key", error))?;
                Some((chain, key))
            }
        };
        let clients = Self { provider, extra_roots, identity, built: OnceLock::new() };
        if clients.identity.is_some() || !clients.extra_roots.is_empty() {
            // Somebody clearly wants TLS: say now what is wrong with it.
            clients.built()?;
        }
        Ok(clients)
    }

    /// Shakes hands and tells which protocol ALPN picked. A peer without ALPN speaks HTTP/1.1.
    pub(crate) async fn handshake(
        &self,
        origin: &Origin,
        stream: Box<dyn ByteStream>,
        offer_http2: bool,
    ) -> Result<(Box<dyn ByteStream>, Protocol), Error> {
        let built = self.built()?;
        let config = if offer_http2 { &built.h2_or_http1 } else { &built.http1 };
        let name = ServerName::try_from(origin.server_name().to_owned()).map_err(|error| {
            let message = format!("`{}` is neither a DNS name nor an address", origin.server_name());
            Error::unsent(ErrorKind::Tls, message).caused_by(error)
        })?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(|error| {
            Error::unsent(ErrorKind::Tls, format!("TLS with {origin} failed: {error}")).caused_by(error)
        })?;
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        Ok((Box::new(stream), protocol))
    }

    fn built(&self) -> Result<&Built, Error> {
        self.built.get_or_init(|| self.build()).as_ref().map_err(Error::shared)
    }

    fn build(&self) -> Result<Built, Error> {
        let failed = |what: &str, error: rustls::Error| {
            Error::unsent(ErrorKind::Tls, format!("{what}: {error}")).caused_by(error)
        };
        let provider = || Arc::clone(&self.provider);
        let verifier = Verifier::new_with_extra_roots(self.extra_roots.iter().cloned(), provider())
            .map_err(|error| failed("the trusted roots cannot be read", error))?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| failed("the TLS versions cannot be set up", error))?
            .dangerous() // The verifier is the platform's; rustls calls any that is not its own dangerous.
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((chain, key)) => config
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|error| failed("the client certificate cannot be used", error))?,
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = Arc::new(config.clone());
        config.alpn_protocols.insert(0, b"h2".to_vec());
        Ok(Built { h2_or_http1: Arc::new(config), http1 })
    }
}

fn unreadable(what: impl fmt::Display, error: rustls_pki_types::pem::Error) -> Error {
    Error::unsent(ErrorKind::Tls, format!("{what} is not readable PEM: {error}")).caused_by(error)
}
