//! Who is at the other end of a TLS connection, without trusting it: the certificates that it shows and the version that it agrees to. Sends one
//! request without credentials, and believes nothing of its answer.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use url::Url;

use super::http::{HttpError, HttpOptions};
use super::proxy::Proxies;

/// What the other end showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// `TLS 1.3`
    pub version: &'static str,
    /// DER, its own first.
    pub chain: Vec<Vec<u8>>,
}

/// Accepts everybody, and writes down who it was.
#[derive(Debug)]
struct Recorder {
    provider: Arc<CryptoProvider>,
    seen: Mutex<Peer>,
}

impl Recorder {
    fn write(&self, act: impl FnOnce(&mut Peer)) {
        act(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        self.write(|peer| peer.chain = chain.map(|certificate| certificate.to_vec()).collect());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.write(|peer| peer.version = "TLS 1.2");
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.write(|peer| peer.version = "TLS 1.3");
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Looks at the other end of a URL, by the same proxies and names as every request. What the certificates are worth is not checked here.
pub async fn look(options: &HttpOptions, url: &Url) -> Result<Peer, HttpError> {
    let setup = |error: &dyn std::fmt::Display| HttpError::Setup(format!("cannot set up TLS: {error}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let recorder = Arc::new(Recorder { provider: Arc::clone(&provider), seen: Mutex::default() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(&error))?
        .dangerous()
        .with_custom_certificate_verifier(recorder.clone())
        .with_no_client_auth();
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .user_agent(&options.user_agent)
        .connect_timeout(options.connect_timeout)
        .timeout(options.connect_timeout.saturating_mul(2))
        .tls_backend_preconfigured(config);
    let client = Proxies::set(Proxies::wanted(options), builder).build().map_err(|error| setup(&error))?;
    let sent = client.head(url.clone()).send().await;
    let peer = recorder.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // A handshake that came so far has shown what was wanted, whatever became of the request.
    match sent {
        Err(error) if peer.chain.is_empty() => Err(HttpError::Tls(super::cause::why(&error.without_url()))),
        _ => Ok(peer),
    }
}
