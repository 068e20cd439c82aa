//! Where a request goes: scheme, host, port, and how to speak there.

use std::fmt;
use std::sync::Arc;

use http::uri::Authority;

use crate::{Error, ErrorKind};

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plaintext.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// 80 or 443.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Which HTTP to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wire {
    /// TLS: what ALPN picks. Plaintext: HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/2 by prior knowledge over plaintext (RFC 9113 §3.3).
    H2c,
    /// HTTP/1.1 only.
    Http1,
}

/// A peer: scheme, host, port and wire. Cheap to clone; equal origins share connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    pub(crate) scheme: Scheme,
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    pub(crate) wire: Wire,
    /// What TLS asks for and checks, if it is not the host.
    pub(crate) server_name: Option<Arc<str>>,
    /// Whether only public addresses are dialled.
    pub(crate) is_public_only: bool,
}

impl Origin {
    /// The origin of an absolute `http` or `https` URI.
    ///
    /// # Errors
    /// One sentence saying what the URI lacks.
    pub fn of(uri: &http::Uri, wire: Wire) -> Result<Self, Error> {
        let invalid =
            |what: &str| Error::unsent(ErrorKind::InvalidRequest, format!("`{}`: {what}", shown(uri)));
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(_) => return Err(invalid("the scheme must be http or https")),
            None => return Err(invalid("an absolute URI is needed, such as https://host/path")),
        };
        if scheme == Scheme::Https && wire == Wire::H2c {
            return Err(invalid("h2c is HTTP/2 over plaintext, so the scheme must be http"));
        }
        let authority = uri.authority().ok_or_else(|| invalid("the host is missing"))?;
        if authority.as_str().contains('@') {
            // The text is not repeated: it holds a password.
            let what = format!("the URI of host `{}` must not carry user or password", authority.host());
            return Err(Error::unsent(ErrorKind::InvalidRequest, what));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(invalid("the host is missing"));
        }
        let port =
            match authority.as_str().strip_prefix(authority.host()).and_then(|rest| rest.strip_prefix(':')) {
                None => scheme.default_port(),
                Some(port) => port.parse().map_err(|_| invalid("the port must be a number up to 65535"))?,
            };
        Ok(Self {
            scheme,
            host: host.to_ascii_lowercase().into(),
            port,
            wire,
            server_name: None,
            is_public_only: false,
        })
    }

    /// The same peer, with another name in TLS: sent as SNI (RFC 6066 §3) and checked against the certificate. For
    /// peers that are dialled by an address or through a tunnel.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] when it is neither a DNS name nor an address.
    pub fn with_server_name(mut self, name: &str) -> Result<Self, Error> {
        rustls_pki_types::ServerName::try_from(name).map_err(|error| {
            let message = format!("server name `{name}` is neither a DNS name nor an address");
            Error::unsent(ErrorKind::InvalidRequest, message).caused_by(error)
        })?;
        self.server_name = Some(name.into());
        Ok(self)
    }

    /// The same peer, dialled only at addresses of the public internet ([`crate::is_public`]): for origins that somebody
    /// else named. It shares no connection with the unrestricted one. Where a proxy is configured for the origin, the
    /// proxy resolves and decides.
    #[must_use]
    pub fn public_only(mut self) -> Self {
        self.is_public_only = true;
        self
    }

    /// The name for TLS.
    pub(crate) fn server_name(&self) -> &str {
        self.server_name.as_deref().unwrap_or(&self.host)
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host without brackets or port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as `Host` and `:authority` carry them: brackets around IPv6, the default port left out.
    pub(crate) fn authority(&self) -> Authority {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        let text = if self.port == self.scheme.default_port() {
            format!("{open}{}{close}", self.host)
        } else {
            format!("{open}{}{close}:{}", self.host, self.port)
        };
        text.try_into().expect("host and port came out of a parsed authority")
    }

    /// The wire asked for.
    pub fn wire(&self) -> Wire {
        self.wire
    }
}

impl fmt::Display for Origin {
    /// As in an `Origin` header: `https://host:port`, the scheme's default port left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

/// A URI without what may be secret in it: user, password, query.
fn shown(uri: &http::Uri) -> String {
    let host = uri.authority().map(|authority| authority.as_str().rsplit('@').next().unwrap_or_default());
    match (uri.scheme_str(), host) {
        (Some(scheme), Some(host)) => format!("{scheme}://{host}{}", uri.path()),
        (_, host) => format!("{}{}", host.unwrap_or_default(), uri.path()),
    }
}

#[cfg(test)]
mod tests;
