//! Stands in for `tls` and `authority` where the feature `tls` is off: nobody has an identity,
//! which the types say, as there are no values of them.

use rustls_pki_types::CertificateDer;

use crate::{
    config::federation::TlsConfig,
    model::{
        Fingerprint, PeerUrl,
        error::{Error, Result},
    },
};

/// This peer's certificate with its key, of which there is none.
#[derive(Debug)]
pub(crate) enum Identity {}

/// How this peer would answer those who connect to it.
pub(crate) type ServerConfig = Identity;

impl Identity {
    /// Refuses a configuration that names one.
    pub(crate) fn load(config: &TlsConfig) -> Result<Option<Self>> {
        match (&config.certificate, &config.key) {
            (None, None) => Ok(None),
            _ => Err(Error::Config(TlsConfig::NEEDS_FEATURE.to_owned())),
        }
    }

    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        match *self {}
    }

    pub(crate) fn server(&self) -> Result<ServerConfig> {
        match *self {}
    }
}

/// Authorities that vouch for a peer, of which there are none.
#[derive(Debug)]
pub(crate) enum Authority {}

impl Authority {
    pub(crate) fn new(_: &PeerUrl, _: &str) -> Result<Self, String> {
        Err(TlsConfig::NEEDS_FEATURE.to_owned())
    }

    pub(crate) fn names_peer(&self, _: &CertificateDer<'_>) -> bool {
        match *self {}
    }

    pub(crate) fn verify_client(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
    ) -> Result<()> {
        match *self {}
    }
}
