//! Proxies on the way out: which origin goes through which, and the tunnel through one (RFC 9110 §9.3.6, CONNECT).

use std::fmt;
use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Uri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connect::ByteStream;
use crate::{Error, ErrorKind, Origin, Scheme, Wire};

/// Which proxy an origin is reached through. The values are those of the usual environment variables; reading the
/// environment is left to the application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyConfig {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Vec<Exception>,
}

/// One proxy.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) origin: Origin,
    /// The value of `Proxy-Authorization`.
    authorization: Option<String>,
}

/// An origin that is reached directly.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    /// `*`.
    Everything,
    /// This host and everything below it.
    Domain { suffix: String, port: Option<u16> },
}

/// Bytes of a proxy's answer to CONNECT, at most.
const MAX_ANSWER_BYTES: usize = 16 << 10;

// === impl ProxyConfig ===

impl ProxyConfig {
    /// From the values of `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`; an empty value is as good as none.
    ///
    /// A proxy is `http://host:port` or `https://host:port`, with `user:password@` if it wants them; the scheme may be
    /// left out. `NO_PROXY` is a list of host names, separated by commas, each standing for everything below it too,
    /// with or without a port; `*` means every host.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] naming the variable, never its value: it may hold a password.
    pub fn new(
        http_proxy: Option<&str>,
        https_proxy: Option<&str>,
        no_proxy: Option<&str>,
    ) -> Result<Self, Error> {
        let given =
            |value: Option<&str>| value.map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned);
        let proxy = |name: &str, value| given(value).map(|text| Proxy::parse(name, &text)).transpose();
        let exceptions =
            no_proxy.unwrap_or_default().split(',').map(str::trim).filter(|entry| !entry.is_empty());
        Ok(Self {
            http: proxy("HTTP_PROXY", http_proxy)?,
            https: proxy("HTTPS_PROXY", https_proxy)?,
            exceptions: exceptions.map(Exception::parse).collect(),
        })
    }

    /// The proxy on the way to `origin`.
    pub(crate) fn of(&self, origin: &Origin) -> Option<&Proxy> {
        if self.exceptions.iter().any(|exception| exception.covers(origin)) {
            return None;
        }
        match origin.scheme() {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https => self.https.as_ref(),
        }
    }
}

// === impl Proxy ===

impl Proxy {
    fn parse(name: &str, text: &str) -> Result<Self, Error> {
        let invalid = |what: &str| {
            let message =
                format!("{name}: {what}; expected http://host:port or https://user:password@host:port");
            Error::unsent(ErrorKind::InvalidRequest, message)
        };
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let (scheme, rest) = text.split_once("://").expect("it was just put there");
        let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) =
            authority.rsplit_once('@').map_or((None, authority), |(login, host)| (Some(login), host));
        let uri: Uri = format!("{scheme}://{host}/").parse().map_err(|_| invalid("not a URI"))?;
        let origin = Origin::of(&uri, Wire::Http1).map_err(|_| invalid("not the URI of an HTTP proxy"))?;
        let authorization =
            login.map(|login| format!("Basic {}", BASE64_STANDARD.encode(percent_decoded(login))));
        Ok(Self { origin, authorization })
    }

    /// Makes `stream`, a connection to this proxy, a tunnel to `target`.
    pub(crate) async fn tunnel(&self, stream: &mut dyn ByteStream, target: &Origin) -> io::Result<()> {
        // The port is always named here (RFC 9110 §9.3.6).
        let host = target.host();
        let authority = if host.contains(':') {
            format!("[{host}]:{}", target.port())
        } else {
            format!("{host}:{}", target.port())
        };
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str("Proxy-Authorization: ");
            request.push_str(authorization);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let answer = read_head(stream).await?;
        let first_line = answer.lines().next().unwrap_or_default();
        let mut words = first_line.splitn(3, ' ');
        let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
        match words.next() {
            Some(status) if is_http && status.len() == 3 && status.starts_with('2') => Ok(()),
            Some("407") if is_http => Err(io::Error::other("the proxy asks for user and password")),
            Some(_) if is_http => Err(io::Error::other(format!("the proxy answered `{first_line}`"))),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the proxy does not speak HTTP/1.1")),
        }
    }
}

impl fmt::Debug for Proxy {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Reads up to the empty line, byte by byte: what follows belongs to the tunnel.
async fn read_head(stream: &mut dyn ByteStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_ANSWER_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the proxy's answer does not end"));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Users and passwords in URIs may be percent-encoded (RFC 3986 §2.1). What is no code stays as it is.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let code = behind.get(..2).and_then(|digits| {
            let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
            is_hex.then(|| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()).flatten()
        });
        match (byte, code) {
            (b'%', Some(code)) => {
                decoded.push(code);
                rest = &behind[2..];
            }
            _ => {
                decoded.push(byte);
                rest = behind;
            }
        }
    }
    decoded
}

// === impl Exception ===

impl Exception {
    fn parse(entry: &str) -> Self {
        if entry == "*" {
            return Self::Everything;
        }
        let (host, port) = match entry.rsplit_once(':') {
            // An IPv6 address has colons of its own.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
            _ => (entry, None),
        };
        let suffix = host
            .trim_start_matches("*.")
            .trim_start_matches('.')
            .trim_matches(['[', ']'])
            .to_ascii_lowercase();
        Self::Domain { suffix, port }
    }

    fn covers(&self, origin: &Origin) -> bool {
        match self {
            Self::Everything => true,
            Self::Domain { suffix, port } => {
                let is_below = origin
                    .host()
                    .strip_suffix(suffix.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                is_below && port.is_none_or(|port| port == origin.port())
            }
        }
    }
}

#[cfg(test)]
mod tests;
