//! Parsing of certificates and fingerprints.

use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::model::Fingerprint;

/// Parses a fingerprint, or a certificate in PEM, of which it computes the fingerprint.
pub(crate) fn read_fingerprint(text: &str) -> Result<Fingerprint, String> {
    match Fingerprint::read(text.trim()) {
        Some(fingerprint) => fingerprint,
        None => CertificateDer::from_pem_slice(text.as_bytes())
            .map(|certificate| Fingerprint::of(&certificate))
            .map_err(|_| {
                let start: String = text.chars().take(30).collect();
                format!("{start:?} is neither a certificate in PEM nor sha256: and a fingerprint")
            }),
    }
}
