//! Which roots a server's certificate is checked against: Mozilla's, those that the environment names, and the system's where
//! they are asked for.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The certificates that were named besides Mozilla's, and the files and directories that gave none.
pub(super) struct ExtraRoots {
    certificates: Vec<CertificateDer<'static>>,
    pub(super) unreadable: Vec<PathBuf>,
}

impl ExtraRoots {
    pub(super) fn read(extra_roots: &[PathBuf], has_system_roots: bool) -> Self {
        let mut roots = Self { certificates: Vec::new(), unreadable: Vec::new() };
        for path in extra_roots {
            // A directory can be opened as a file, and a file may hold anything.
            let read = if path.is_dir() { in_directory(path) } else { in_file(path) };
            if RootCertStore::empty().add_parsable_certificates(read.iter().cloned()).0 == 0 {
                roots.unreadable.push(path.clone());
            }
            roots.certificates.extend(read);
        }
        if has_system_roots {
            roots.certificates.extend(rustls_native_certs::load_native_certs().certs);
        }
        roots
    }

    pub(super) fn verifier(self, provider: Arc<CryptoProvider>) -> Option<Arc<dyn ServerCertVerifier>> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        roots.add_parsable_certificates(self.certificates.iter().cloned());
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
        Some(Arc::new(Verifier { webpki, extra: self.certificates }))
    }
}

fn in_file(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).map_or_else(|_| Vec::new(), |read| read.filter_map(Result::ok).collect())
}

/// Those of all PEM files in a directory, whatever their names: OpenSSL wants hashes for names, people forget them.
fn in_directory(path: &Path) -> Vec<CertificateDer<'static>> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()).filter(|path| path.is_file()));
    files.flat_map(|file| in_file(&file)).collect()
}

/// webpki's verifier, but for one case that Node allows: a certificate that was named as trusted, and that the server itself
/// uses, may be a CA's. That is what `openssl req -x509` makes.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    extra: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // webpki has looked at its dates before it finds this, and not yet at its names.
            Err(error) if is_of_authority(&error) && self.extra.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Whether the only fault of a server's certificate so far is that it is a CA's.
pub(super) fn is_of_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) = error else { return false };
    matches!(cause.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}
