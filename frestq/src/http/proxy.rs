//! A proxy in front of this peer: it ends TLS, and says in a header which certificate a connection has
//! shown.
//!
//! Whoever can connect from the proxy's address is believed, so nothing else may. The proxy has to put
//! its own header in the place of one that a client sends, and to prove that the client holds the
//! certificate's key; whose certificate it is, we know ourselves.

use std::{
    io::{self, Cursor},
    net::IpAddr,
    time::Duration,
};

use axum::{
    http::{HeaderMap, HeaderName},
    serve::Listener,
};
use percent_encoding::percent_decode_str;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, Chain, Join, join},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
    time::timeout,
};

use super::{
    connection::{Connection, ConnectionLimits},
    listen::hurry,
};
use crate::config::federation::{CertificateHeader, Proxy};

/// PEM, the lines after the first indented by a tab as nginx's `$ssl_client_cert` is, or
/// percent-encoded as its `$ssl_client_escaped_cert`. What operators of original peers have set up.
const SENDER_CERTIFICATE: HeaderName =
    HeaderName::from_static(CertificateHeader::SenderCertificate.name());

/// RFC 9440: the certificate in base64 between colons.
const CLIENT_CERT: HeaderName = HeaderName::from_static(CertificateHeader::ClientCert.name());

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The longest head of a request in which lines are joined.
const LONGEST_HEAD: usize = 64 * 1024;

/// How long the head of the first request may take.
const HEAD: Duration = Duration::from_secs(60);

/// Connections of the proxy of which the first head has not come yet.
const MOST_HEADS: usize = 1024;

/// Why what the headers say is not taken for the sender's certificate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Untrusted {
    /// Somebody else than the proxy says who he is.
    NotTheProxy,
    /// The proxy says it in a way that can't be read.
    Malformed(&'static str),
}

/// The certificate that a request from `address` has by its headers; none if the proxy says that there
/// is none.
pub(crate) fn certificate(
    proxy: Option<&Proxy>,
    address: IpAddr,
    headers: &HeaderMap,
) -> Result<Option<CertificateDer<'static>>, Untrusted> {
    let Some(proxy) = proxy.filter(|proxy| proxy.address == address.to_canonical()) else {
        let forged = headers.contains_key(SENDER_CERTIFICATE) || headers.contains_key(CLIENT_CERT);
        return match forged {
            true => Err(Untrusted::NotTheProxy),
            false => Ok(None),
        };
    };
    let mut values = headers.get_all(proxy.header.name()).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return match headers.contains_key(proxy.header.name()) {
            // One of them is the client's own.
            true => Err(Untrusted::Malformed("it comes more than once")),
            false => Ok(None),
        };
    };
    let Ok(value) = value.to_str() else {
        return Err(Untrusted::Malformed("it is not text"));
    };
    let value = value.trim();
    if value.is_empty() {
        return Ok(None);
    }
    let base64 = match proxy.header {
        CertificateHeader::ClientCert => value
            .strip_prefix(':')
            .and_then(|value| value.strip_suffix(':'))
            .map(str::to_owned),
        CertificateHeader::SenderCertificate => between_markers(value),
    };
    let pem = base64.map(|base64| format!("{BEGIN}\n{base64}\n{END}\n"));
    let certificate = pem.and_then(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok());
    certificate
        .map(Some)
        .ok_or(Untrusted::Malformed("it holds no certificate"))
}

/// The base64 of the first certificate, a line each for its words.
fn between_markers(value: &str) -> Option<String> {
    let decoded = percent_decode_str(value).decode_utf8().ok()?;
    let (_, rest) = decoded.split_once(BEGIN)?;
    let (base64, _) = rest.split_once(END)?;
    Some(base64.split_whitespace().collect::<Vec<_>>().join("\n"))
}

/// Connections through the proxy, and from whoever else reaches the port.
///
/// A certificate in PEM comes as a header of many lines, which HTTP has given up and hyper refuses. So
/// the lines of the first request's head are joined here; such a connection ends after that request.
pub(crate) struct ProxyListener {
    listener: TcpListener,
    proxy: IpAddr,
    crowds: ConnectionLimits,
    heads: JoinSet<io::Result<(Stream, Connection)>>,
}

/// The joined head, then the rest of the connection.
type Stream = Join<Chain<Cursor<Vec<u8>>, OwnedReadHalf>, OwnedWriteHalf>;

impl ProxyListener {
    pub(crate) fn new(listener: TcpListener, proxy: &Proxy, crowds: ConnectionLimits) -> Self {
        Self {
            listener,
            proxy: proxy.address,
            crowds,
            heads: JoinSet::new(),
        }
    }
}

impl Listener for ProxyListener {
    type Io = Stream;
    type Addr = Connection;

    async fn accept(&mut self) -> (Stream, Connection) {
        loop {
            tokio::select! {
                (stream, address) = Listener::accept(&mut self.listener), if self.heads.len() < MOST_HEADS => {
                    hurry(&stream);
                    let address = address.ip().to_canonical();
                    if address != self.proxy {
                        let Some(counted) = self.crowds.greet(address) else { continue };
                        return (whole(Vec::new(), stream), self.crowds.caller(address, Vec::new(), counted, None));
                    }
                    self.heads.spawn(async move {
                        let (stream, folded) = timeout(HEAD, unfold(stream)).await??;
                        Ok((stream, Connection::at(address).proxy(folded)))
                    });
                }
                Some(read) = self.heads.join_next() => match read {
                    Ok(Ok(accepted)) => return accepted,
                    Ok(Err(error)) => tracing::debug!(%error, "a connection ended"),
                    // One that panicked is one that failed.
                    Err(_) => {}
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<Connection> {
        Ok(Connection::at(self.listener.local_addr()?.ip()))
    }
}

/// Reads the first head, and joins its lines; whether there was anything to join.
async fn unfold(mut stream: TcpStream) -> io::Result<(Stream, bool)> {
    let mut head = Vec::new();
    let mut folded = false;
    while stream.read_buf(&mut head).await? > 0 {
        if let Some(end) = end_of_head(&head) {
            folded = join_lines(&mut head[..end]);
            break;
        }
        // Hyper answers what is too long, or ends too early.
        if head.len() > LONGEST_HEAD {
            break;
        }
    }
    Ok((whole(head, stream), folded))
}

/// A connection of which this has been read already.
fn whole(head: Vec<u8>, stream: TcpStream) -> Stream {
    let (read, write) = stream.into_split();
    join(Cursor::new(head).chain(read), write)
}

/// Where the empty line begins.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let pair = |mark: &[u8]| bytes.windows(mark.len()).position(|window| window == mark);
    match (pair(b"\n\r\n"), pair(b"\n\n")) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A line that begins with white space goes on with the one before.
fn join_lines(head: &mut [u8]) -> bool {
    let mut joined = false;
    for at in 0..head.len().saturating_sub(1) {
        if head[at] == b'\n' && matches!(head[at + 1], b'\t' | b' ') {
            head[at] = b' ';
            if at > 0 && head[at - 1] == b'\r' {
                head[at - 1] = b' ';
            }
            joined = true;
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn pem() -> (String, CertificateDer<'static>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::default()
            .self_signed(&key)
            .unwrap();
        (made.pem(), made.der().clone())
    }

    fn shown(
        header: &str,
        values: &[&str],
        from: IpAddr,
    ) -> Result<Option<CertificateDer<'static>>, Untrusted> {
        let proxy = Proxy::new(PROXY, header).unwrap();
        let mut headers = HeaderMap::new();
        for value in values {
            let name: HeaderName = header.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        certificate(Some(&proxy), from, &headers)
    }

    #[test]
    fn a_certificate_is_read_in_each_form_that_proxies_write() {
        let (pem, der) = pem();
        let tabs = pem.trim().replace("\r\n", "\n").replace('\n', "\t");
        let escaped: String = pem.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let some = percent_encoding::utf8_percent_encode(&pem, percent_encoding::NON_ALPHANUMERIC);
        for value in [
            tabs.clone(),
            tabs.replace('\t', " \t "),
            escaped,
            some.to_string(),
        ] {
            let read = shown("X-Sender-SSL-Certificate", &[&value], PROXY);
            assert_eq!(read, Ok(Some(der.clone())), "{value}");
        }
        let base64: String = pem
            .lines()
            .filter(|line| !line.starts_with("---"))
            .collect();
        let read = shown("client-cert", &[&format!(":{base64}:")], PROXY);
        assert_eq!(read, Ok(Some(der)));
    }

    #[test]
    fn without_a_certificate_the_header_is_empty_or_missing() {
        for header in ["X-Sender-SSL-Certificate", "Client-Cert"] {
            assert_eq!(shown(header, &[""], PROXY), Ok(None));
            assert_eq!(shown(header, &[], PROXY), Ok(None));
        }
    }

    #[test]
    fn what_is_no_certificate_or_two_of_them_is_refused() {
        let (pem, _) = pem();
        let tabs = pem.trim().replace("\r\n", "\n").replace('\n', "\t");
        let cut = &tabs[..tabs.len() - 10];
        for values in [
            &[&*tabs, &*tabs][..],
            &["", &tabs],
            &[cut],
            &["x"],
            &["%ff"],
            &[":AAAA:"],
        ] {
            let read = shown("X-Sender-SSL-Certificate", values, PROXY);
            assert!(matches!(read, Err(Untrusted::Malformed(_))), "{values:?}");
        }
        for values in [&[&*tabs][..], &["AAAA"], &[":AAAA"], &[":", ":"], &[":?:"]] {
            let read = shown("Client-Cert", values, PROXY);
            assert!(matches!(read, Err(Untrusted::Malformed(_))), "{values:?}");
        }
    }

    #[test]
    fn nobody_but_the_proxy_says_who_a_sender_is() {
        let (pem, _) = pem();
        let tabs = pem.trim().replace("\r\n", "\n").replace('\n', "\t");
        for header in ["X-Sender-SSL-Certificate", "Client-Cert"] {
            assert_eq!(shown(header, &[&tabs], OTHER), Err(Untrusted::NotTheProxy));
            assert_eq!(shown(header, &[""], OTHER), Err(Untrusted::NotTheProxy));
            assert_eq!(shown(header, &[], OTHER), Ok(None));
        }
        let mut headers = HeaderMap::new();
        headers.insert(CLIENT_CERT, HeaderValue::from_static("::"));
        assert_eq!(
            certificate(None, PROXY, &headers),
            Err(Untrusted::NotTheProxy)
        );
        // Of the proxy itself, only the header counts that it was told to use.
        let proxy = Proxy::new(PROXY, "X-Sender-SSL-Certificate").unwrap();
        assert_eq!(certificate(Some(&proxy), PROXY, &headers), Ok(None));
    }

    #[test]
    fn the_lines_of_a_header_are_joined_and_no_others() {
        let mut head = b"GET / HTTP/1.0\r\nA: 1\r\n\t2\n 3\r\nB: 4\r\n".to_vec();
        assert!(join_lines(&mut head));
        assert_eq!(head, b"GET / HTTP/1.0\r\nA: 1  \t2  3\r\nB: 4\r\n");
        assert!(!join_lines(&mut b"GET / HTTP/1.0\r\nA: 1\r\n".to_vec()));
        assert_eq!(end_of_head(b"a\r\nb\r\n\r\nc\n\n"), Some(5));
        assert_eq!(end_of_head(b"a\n\nb\r\n\r\n"), Some(1));
        assert_eq!(end_of_head(b"a\r\nb\r\n"), None);
    }
}
