//! Validation of `[tls]`, `[peers]` and `[proxy]`, without reading the files they name.

use super::{
    federation::{Proxy, TlsConfig},
    settings::Config,
};
use crate::model::{Fingerprint, Grant, PeerUrl};

impl Config {
    /// The proxy in front of this peer, if there is one.
    pub(crate) fn proxy(&self) -> Result<Option<Proxy>, String> {
        let proxy = self.proxy.address;
        let proxy = proxy.map(|address| Proxy::new(address, &self.proxy.header));
        proxy.transpose()
    }

    /// Whether this peer is in open mode: it has neither `[tls]` nor `[peers]`.
    pub(crate) fn is_open(&self) -> bool {
        self.tls.certificate.is_none() && self.tls.key.is_none() && self.peers.is_empty()
    }

    /// The faults of `[tls]`, `[peers]` and `[proxy]`.
    pub(super) fn federation_faults(&self) -> Vec<String> {
        const TLS: &str = "[tls] certificate = \"NAME.pem\", key = \"NAME.key\" (--new-certificate NAME makes them)";
        const PEERS: &str = "[peers.NAME] url = \"https://...\", certificates = [\"sha256:...\"], allow = [\"queue/action\"]";
        let local = self.is_open() && self.proxy.address.is_none();
        if !local && cfg!(not(feature = "tls")) {
            return vec![TlsConfig::NEEDS_FEATURE.to_owned()];
        }
        if self.is_open() && self.proxy.address.is_some() {
            return vec![format!(
                "[proxy] passes on the certificates of senders, but no peers are configured; add {TLS} and {PEERS}"
            )];
        }
        if self.is_open() {
            // No sender has an identity that could be checked, so only the loopback may connect.
            return match self.bind().ip().is_loopback() {
                true => Vec::new(),
                false => vec![format!(
                    "without [tls] and [peers] this peer serves the loopback only; set bind = \"127.0.0.1:PORT\" (FRESTQ_BIND), or add {TLS} and {PEERS}"
                )],
            };
        }
        let mut faults = Vec::new();
        if let Err(why) = self.proxy() {
            faults.push(format!("proxy.header: {why}"));
        }
        if self.tls.certificate.is_none() || self.tls.key.is_none() {
            faults.push(format!(
                "peers are identified by their certificates, and this one needs its own; add {TLS}"
            ));
        }
        let own = self.root_url().ok();
        if own.as_ref().is_some_and(|url| !url.is_https()) {
            faults.push("root_url must start with https:// if [tls] is set".to_owned());
        }
        let mut urls: Vec<(PeerUrl, &str)> = Vec::new();
        for (name, peer) in &self.peers {
            let mut fault = |what: String| faults.push(format!("peers.{name}.{what}"));
            match peer.url.as_deref().map(str::parse::<PeerUrl>) {
                None => fault("url is missing".to_owned()),
                Some(Err(error)) => fault(format!("url: {error}")),
                Some(Ok(url)) if !url.is_https() => {
                    fault("url must start with https://".to_owned());
                }
                Some(Ok(url)) if Some(&url) == own.as_ref() => {
                    fault("url is this peer's own root_url".to_owned());
                }
                Some(Ok(url)) => {
                    if let Some((_, other)) = urls.iter().find(|(known, _)| *known == url) {
                        fault(format!("url is the same as that of peers.{other}"));
                    }
                    urls.push((url, name));
                }
            }
            if peer.certificates.is_empty() && peer.ca.is_none() {
                fault("certificates: at least one is required, or ca".to_owned());
            }
            for pin in &peer.certificates {
                if let Some(Err(why)) = Fingerprint::read(pin) {
                    fault(format!("certificates: {why}"));
                }
            }
            for grant in &peer.allow {
                if let Err(why) = grant.parse::<Grant>() {
                    fault(format!("allow: {why}"));
                }
            }
        }
        faults
    }
}
