//! Who is who by raw public keys: no certificates, no names, no dates.

use std::sync::Arc;

use manyhands_proto::frame::Role;
use quinn::Connection;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::ALPN;
use crate::keys::{KEY, Token};

/// What precedes an Ed25519 seed in PKCS#8 (RFC 8410).
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// What precedes an Ed25519 public key as a SubjectPublicKeyInfo (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0];

pub(super) fn server(token: &Token, admits: &[Role]) -> Arc<QuicServerConfig> {
    let provider = provider();
    let verifier = Arc::new(Peers::new(token, admits, &provider));
    let resolver = Arc::new(AlwaysResolvesServerRawPublicKeys::new(key(token)));
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Every connection proves its key anew.
    config.send_tls13_tickets = 0;
    Arc::new(QuicServerConfig::try_from(config).expect("the provider has QUIC's first cipher"))
}

pub(super) fn client(token: &Token, server: Role) -> Arc<QuicClientConfig> {
    let provider = provider();
    let verifier = Arc::new(Peers::new(token, &[server], &provider));
    let resolver = Arc::new(AlwaysResolvesClientRawPublicKeys::new(key(token)));
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(resolver);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_sni = false;
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(QuicClientConfig::try_from(config).expect("the provider has QUIC's first cipher"))
}

/// The public key that the other side has proved to have.
pub(super) fn of(connection: &Connection) -> Option<[u8; KEY]> {
    let identity = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    raw(identity.first()?)
}

fn raw(info: &[u8]) -> Option<[u8; KEY]> {
    info.strip_prefix(&SPKI)?.try_into().ok()
}

/// AES-128 first: it is the fastest where there are instructions for it, and safe.
fn provider() -> Arc<CryptoProvider> {
    use ring::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    let suites =
        vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    Arc::new(CryptoProvider { cipher_suites: suites, ..ring::default_provider() })
}

fn key(token: &Token) -> Arc<CertifiedKey> {
    let private = [&PKCS8[..], token.seed()].concat();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(private));
    let signer = ring::sign::any_eddsa_type(match &private {
        PrivateKeyDer::Pkcs8(key) => key,
        _ => unreachable!("made above"),
    })
    .expect("a seed of 32 bytes makes a key");
    let public = [&SPKI[..], token.public(token.role())].concat();
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(public)], signer))
}

/// The keys that are welcome on the other side.
#[derive(Debug)]
struct Peers {
    welcome: Vec<[u8; KEY]>,
    provider: Arc<CryptoProvider>,
}

impl Peers {
    fn new(token: &Token, roles: &[Role], provider: &Arc<CryptoProvider>) -> Peers {
        let welcome = roles.iter().map(|&role| *token.public(role)).collect();
        Peers { welcome, provider: provider.clone() }
    }

    fn check(&self, info: &[u8]) -> Result<(), Error> {
        // Public keys: nothing is told by how long a comparison takes.
        match raw(info) {
            None => Err(CertificateError::BadEncoding.into()),
            Some(key) if self.welcome.contains(&key) => Ok(()),
            Some(_) => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        info: &[u8],
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let info = SubjectPublicKeyInfoDer::from(info);
        verify_tls13_signature_with_raw_key(message, &info, signature, algorithms)
    }
}

impl ServerCertVerifier for Peers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("QUIC needs TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Peers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("QUIC needs TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An opener with any key that pins any server.
    pub(in super::super) fn client_with(token: &Token, server: [u8; KEY]) -> Arc<QuicClientConfig> {
        let provider = provider();
        let verifier = Arc::new(Peers { welcome: vec![server], provider: provider.clone() });
        let resolver = Arc::new(AlwaysResolvesClientRawPublicKeys::new(key(token)));
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(resolver);
        config.alpn_protocols = vec![ALPN.to_vec()];
        Arc::new(config.try_into().unwrap())
    }

    /// An opener without a key.
    pub(in super::super) fn client_without(server: [u8; KEY]) -> Arc<QuicClientConfig> {
        let provider = provider();
        let verifier = Arc::new(Peers { welcome: vec![server], provider: provider.clone() });
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Arc::new(config.try_into().unwrap())
    }
}
