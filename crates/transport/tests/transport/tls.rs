//! TLS: whom the pool trusts, what ALPN picks, and what a failure says.

use std::sync::Arc;

use mpe_transport::{ErrorKind, Origin, PoolConfig, Protocol, Sent, TlsConfig, Wire};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::support::{
    Network, Peer, https, nothing_leaked, of, post, read_http1_request, soon, spawn_send, text,
};

/// A certificate authority of the test's own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: rustls_pki_types::CertificateDer<'static>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), pem: certificate.pem(), der: certificate.der().clone() }
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate, key)
    }

    /// What a client needs to trust it.
    fn trust(&self) -> TlsConfig {
        let mut tls = TlsConfig::default();
        tls.extra_roots_pem = vec![self.pem.clone().into_bytes()];
        tls
    }

    fn acceptor(&self, name: &str, alpn: &[&str], wants_client_certificate: bool) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if wants_client_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(self.der.clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.issue(name);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

async fn accept(network: &mut Network, acceptor: &TlsAcceptor) -> TlsStream<DuplexStream> {
    let far = network.accept().await;
    soon(acceptor.accept(far)).await.expect("a handshake")
}

#[tokio::test]
async fn alpn_picks_http2_where_both_have_it() {
    let (authority, mut network) = (Authority::new("ours"), Network::new());
    let pool = network.pool_with_tls(PoolConfig::default(), authority.trust());
    let call = spawn_send(&pool, &https(), post("x"));
    let stream = accept(&mut network, &authority.acceptor("peer.test", &["h2", "http/1.1"], false)).await;
    assert_eq!(stream.get_ref().1.server_name(), Some("peer.test"));
    let mut peer = Peer::over(stream, &[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"over h2").await;
    assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "over h2");
    nothing_leaked(&pool).await;
    let seen = of(&pool, &https());
    assert_eq!((seen.http2_exchanges, seen.http1_exchanges), (1, 0));
    assert!(seen.connect_times.tls > std::time::Duration::ZERO);
}

#[tokio::test]
async fn a_peer_without_http2_is_spoken_to_in_http1_and_remembered() {
    for alpn in [&["http/1.1"][..], &[]] {
        let (authority, mut network) = (Authority::new("ours"), Network::new());
        let acceptor = authority.acceptor("peer.test", alpn, false);
        let pool = network.pool_with_tls(PoolConfig::default(), authority.trust());
        let calls = [spawn_send(&pool, &https(), post("x")), spawn_send(&pool, &https(), post("x"))];
        let mut streams = Vec::new();
        for _ in 0..2 {
            let mut stream = accept(&mut network, &acceptor).await;
            read_http1_request(&mut stream).await;
            streams.push(stream);
        }
        for stream in &mut streams {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            stream.flush().await.unwrap();
        }
        for call in calls {
            assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "ok");
        }
        nothing_leaked(&pool).await;
        assert_eq!(of(&pool, &https()).http1_exchanges, 2);
    }
}

#[tokio::test]
async fn http2_switched_off_is_not_even_offered() {
    let (authority, mut network) = (Authority::new("ours"), Network::new());
    let mut config = PoolConfig::default();
    config.enable_http2 = false;
    let pool = network.pool_with_tls(config, authority.trust());
    let call = spawn_send(&pool, &https(), post("x"));
    let mut stream = accept(&mut network, &authority.acceptor("peer.test", &["h2", "http/1.1"], false)).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    read_http1_request(&mut stream).await;
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    let response = soon(call).await.unwrap().unwrap();
    let info = response.body().info();
    assert_eq!(info.protocol, Protocol::Http1);
    drop(response);
    nothing_leaked(&pool).await;
}

#[tokio::test]
async fn an_unknown_authority_and_a_wrong_name_are_refused_before_anything_is_sent() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("stranger"));
    for (server, name, said) in
        [(&stranger, "peer.test", "UnknownIssuer"), (&authority, "other.test", "other.test")]
    {
        let mut network = Network::new();
        let pool = network.pool_with_tls(PoolConfig::default(), authority.trust());
        let call = spawn_send(&pool, &https(), post("x"));
        let far = network.accept().await;
        let acceptor = server.acceptor(name, &["h2"], false);
        assert!(soon(acceptor.accept(far)).await.is_err());
        let mut error = soon(call).await.unwrap().expect_err("not trusted");
        assert_eq!((error.kind(), error.sent()), (ErrorKind::Tls, Sent::No));
        assert!(error.to_string().starts_with("TLS with https://peer.test failed: "), "{error}");
        assert!(error.to_string().contains(said), "{error}");
        assert!(error.take_request().is_some());
        nothing_leaked(&pool).await;
        assert_eq!(of(&pool, &https()).connect_failed, 1);
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_those_who_ask() {
    let (authority, mut network) = (Authority::new("ours"), Network::new());
    let (certificate, key) = authority.issue("client.test");
    let mut tls = authority.trust();
    tls.client_identity_pem = Some((certificate.pem().into_bytes(), key.serialize_pem().into_bytes()));
    let pool = network.pool_with_tls(PoolConfig::default(), tls);
    let call = spawn_send(&pool, &https(), post("x"));
    let stream = accept(&mut network, &authority.acceptor("peer.test", &["h2"], true)).await;
    assert_eq!(stream.get_ref().1.peer_certificates().expect("one was shown")[0], *certificate.der());
    let mut peer = Peer::over(stream, &[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"welcome").await;
    assert_eq!(text(soon(call).await.unwrap().unwrap()).await.unwrap(), "welcome");
    nothing_leaked(&pool).await;
}

#[tokio::test]
async fn another_server_name_is_asked_for_and_checked() {
    let (authority, mut network) = (Authority::new("ours"), Network::new());
    let pool = network.pool_with_tls(PoolConfig::default(), authority.trust());
    let origin = Origin::of(&http::Uri::from_static("https://10.0.0.1/"), Wire::Auto).unwrap();
    let origin = origin.with_server_name("inside.test").unwrap();
    let call = spawn_send(&pool, &origin, post("x"));
    let stream = accept(&mut network, &authority.acceptor("inside.test", &["h2"], false)).await;
    assert_eq!(stream.get_ref().1.server_name(), Some("inside.test"));
    let mut peer = Peer::over(stream, &[]).await;
    let stream = peer.request().await;
    peer.answer(stream, b"ok").await;
    text(soon(call).await.unwrap().unwrap()).await.unwrap();
    assert!(origin.with_server_name("not a name").is_err());
    nothing_leaked(&pool).await;
}

#[test]
fn unreadable_pem_is_named() {
    let said = |tls: TlsConfig| {
        mpe_transport::Pool::new(PoolConfig::default(), tls).expect_err("unreadable").to_string()
    };
    let mut tls = TlsConfig::default();
    tls.extra_roots_pem = vec![Authority::new("ours").pem.into_bytes(), b"no certificate".to_vec()];
    assert_eq!(said(tls), "extra root 1 holds no PEM certificate (BEGIN CERTIFICATE)");
    let mut tls = TlsConfig::default();
    tls.client_identity_pem = Some((Authority::new("ours").pem.into_bytes(), b"no key".to_vec()));
    assert!(said(tls).starts_with("the client certificate's key is not readable PEM: "));
}
