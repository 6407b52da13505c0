//! The listener behind a reverse proxy, which terminates TLS and passes on the client's
//! certificate in a header.
//!
//! The header is trusted if the connection comes from the proxy's address, so only the proxy may
//! be able to connect from there. The proxy must overwrite that header if a client sends one, and
//! must verify that the client holds the private key of the certificate. This peer itself checks
//! to which registered peer the certificate belongs.

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
    listen::set_nodelay,
};
use crate::config::federation::{CertificateHeader, Proxy};

/// The header of original peers: PEM, with all lines but the first indented by a tab, like nginx's
/// `$ssl_client_cert`, or percent-encoded, like its `$ssl_client_escaped_cert`.
const SENDER_CERTIFICATE: HeaderName =
    HeaderName::from_static(CertificateHeader::SenderCertificate.name());

/// The header of RFC 9440: the certificate in base64 between colons.
const CLIENT_CERT: HeaderName = HeaderName::from_static(CertificateHeader::ClientCert.name());

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The maximum size of a request's head in which folded lines are joined.
const MAX_HEAD: usize = 64 * 1024;

/// The timeout for the head of the first request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The number of connections of the proxy whose first head is being read.
const MAX_PENDING_HEADS: usize = 1024;

/// Why the certificate header of a request is rejected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// The request has the header, but does not come from the proxy.
    NotTheProxy,
    /// The proxy's header can't be read.
    Malformed(&'static str),
}

/// The client's certificate from the headers of a request from `address`; `None` if the client
/// showed no certificate to the proxy, or there is no proxy.
pub(crate) fn certificate(
    proxy: Option<&Proxy>,
    address: IpAddr,
    headers: &HeaderMap,
) -> Result<Option<CertificateDer<'static>>, HeaderError> {
    let Some(proxy) = proxy.filter(|proxy| proxy.address == address.to_canonical()) else {
        let forged = headers.contains_key(SENDER_CERTIFICATE) || headers.contains_key(CLIENT_CERT);
        return match forged {
            true => Err(HeaderError::NotTheProxy),
            false => Ok(None),
        };
    };
    let mut values = headers.get_all(proxy.header.name()).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return match headers.contains_key(proxy.header.name()) {
            // One of them was sent by the client.
            true => Err(HeaderError::Malformed("it is sent more than once")),
            false => Ok(None),
        };
    };
    let Ok(value) = value.to_str() else {
        return Err(HeaderError::Malformed("it is not text"));
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
        .ok_or(HeaderError::Malformed("it contains no certificate"))
}

/// The base64 of the first certificate, one line for each word.
fn between_markers(value: &str) -> Option<String> {
    let decoded = percent_decode_str(value).decode_utf8().ok()?;
    let (_, rest) = decoded.split_once(BEGIN)?;
    let (base64, _) = rest.split_once(END)?;
    Some(base64.split_whitespace().collect::<Vec<_>>().join("\n"))
}

/// A listener for connections from the proxy, and from other clients that can reach the port.
///
/// A certificate in PEM is sent as a folded header of many lines, which HTTP has deprecated and
/// hyper rejects. So this listener joins the folded lines of the first request's head; such a
/// connection ends after that request.
pub(crate) struct ProxyListener {
    listener: TcpListener,
    proxy: IpAddr,
    limits: ConnectionLimits,
    heads: JoinSet<io::Result<(Stream, Connection)>>,
}

/// The joined head, then the rest of the connection.
type Stream = Join<Chain<Cursor<Vec<u8>>, OwnedReadHalf>, OwnedWriteHalf>;

impl ProxyListener {
    pub(crate) fn new(listener: TcpListener, proxy: &Proxy, limits: ConnectionLimits) -> Self {
        Self {
            listener,
            proxy: proxy.address,
            limits,
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
                (stream, address) = Listener::accept(&mut self.listener), if self.heads.len() < MAX_PENDING_HEADS => {
                    set_nodelay(&stream);
                    let address = address.ip().to_canonical();
                    if address != self.proxy {
                        let Some(guard) = self.limits.admit(address) else { continue };
                        let connection = self.limits.connection(address, Vec::new(), guard, None);
                        return (prepend(Vec::new(), stream), connection);
                    }
                    self.heads.spawn(async move {
                        let (stream, folded) = timeout(HEAD_TIMEOUT, unfold(stream)).await??;
                        Ok((stream, Connection::at(address).of_proxy(folded)))
                    });
                }
                Some(read) = self.heads.join_next() => match read {
                    Ok(Ok(accepted)) => return accepted,
                    Ok(Err(error)) => tracing::debug!(target: "frestq::http", %error, "a connection failed"),
                    // A panicked task counts as a failed connection.
                    Err(_) => {}
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<Connection> {
        Ok(Connection::at(self.listener.local_addr()?.ip()))
    }
}

/// Reads the first head and joins its folded lines. Returns whether there were any.
async fn unfold(mut stream: TcpStream) -> io::Result<(Stream, bool)> {
    let mut head = Vec::new();
    let mut folded = false;
    while stream.read_buf(&mut head).await? > 0 {
        if let Some(end) = end_of_head(&head) {
            folded = join_lines(&mut head[..end]);
            break;
        }
        // Hyper responds to a head that is too long or incomplete.
        if head.len() > MAX_HEAD {
            break;
        }
    }
    Ok((prepend(head, stream), folded))
}

/// The stream with `head`, which was already read, in front of the rest.
fn prepend(head: Vec<u8>, stream: TcpStream) -> Stream {
    let (read, write) = stream.into_split();
    join(Cursor::new(head).chain(read), write)
}

/// The index of the empty line after the head.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let pair = |mark: &[u8]| bytes.windows(mark.len()).position(|window| window == mark);
    match (pair(b"\n\r\n"), pair(b"\n\n")) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Joins folded lines in place: a line that begins with white space continues the one before.
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
        let certificate = rcgen::CertificateParams::default()
            .self_signed(&key)
            .unwrap();
        (certificate.pem(), certificate.der().clone())
    }

    fn shown(
        header: &str,
        values: &[&str],
        from: IpAddr,
    ) -> Result<Option<CertificateDer<'static>>, HeaderError> {
        let proxy = Proxy::new(PROXY, header).unwrap();
        let mut headers = HeaderMap::new();
        for value in values {
            let name: HeaderName = header.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        certificate(Some(&proxy), from, &headers)
    }

    #[test]
    fn a_certificate_is_read_in_each_format_that_proxies_use() {
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
    fn invalid_certificates_and_duplicate_headers_are_rejected() {
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
            assert!(matches!(read, Err(HeaderError::Malformed(_))), "{values:?}");
        }
        for values in [&[&*tabs][..], &["AAAA"], &[":AAAA"], &[":", ":"], &[":?:"]] {
            let read = shown("Client-Cert", values, PROXY);
            assert!(matches!(read, Err(HeaderError::Malformed(_))), "{values:?}");
        }
    }

    #[test]
    fn only_the_header_of_the_proxy_is_trusted() {
        let (pem, _) = pem();
        let tabs = pem.trim().replace("\r\n", "\n").replace('\n', "\t");
        for header in ["X-Sender-SSL-Certificate", "Client-Cert"] {
            assert_eq!(
                shown(header, &[&tabs], OTHER),
                Err(HeaderError::NotTheProxy)
            );
            assert_eq!(shown(header, &[""], OTHER), Err(HeaderError::NotTheProxy));
            assert_eq!(shown(header, &[], OTHER), Ok(None));
        }
        let mut headers = HeaderMap::new();
        headers.insert(CLIENT_CERT, HeaderValue::from_static("::"));
        assert_eq!(
            certificate(None, PROXY, &headers),
            Err(HeaderError::NotTheProxy)
        );
        // Even from the proxy, only the configured header is used.
        let proxy = Proxy::new(PROXY, "X-Sender-SSL-Certificate").unwrap();
        assert_eq!(certificate(Some(&proxy), PROXY, &headers), Ok(None));
    }

    #[test]
    fn only_folded_lines_are_joined() {
        let mut head = b"GET / HTTP/1.0\r\nA: 1\r\n\t2\n 3\r\nB: 4\r\n".to_vec();
        assert!(join_lines(&mut head));
        assert_eq!(head, b"GET / HTTP/1.0\r\nA: 1  \t2  3\r\nB: 4\r\n");
        assert!(!join_lines(&mut b"GET / HTTP/1.0\r\nA: 1\r\n".to_vec()));
        assert_eq!(end_of_head(b"a\r\nb\r\n\r\nc\n\n"), Some(5));
        assert_eq!(end_of_head(b"a\n\nb\r\n\r\n"), Some(1));
        assert_eq!(end_of_head(b"a\r\nb\r\n"), None);
    }
}
