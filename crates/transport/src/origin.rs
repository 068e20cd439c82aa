//! Where a request goes: scheme, host, port, and how to speak there.

use std::fmt;
use std::sync::Arc;

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plaintext.
    Http,
    /// TLS.
    Https,
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
}

impl Origin {
    /// The origin of an absolute `http` or `https` URI.
    ///
    /// # Errors
    /// One sentence saying what the URI lacks.
    pub fn of(uri: &http::Uri, wire: Wire) -> Result<Self, crate::Error> {
        let _ = (uri, wire);
        todo!()
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

    /// The wire asked for.
    pub fn wire(&self) -> Wire {
        self.wire
    }
}

impl fmt::Display for Origin {
    /// As in an `Origin` header: `https://host:port`, the scheme's default port left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f;
        todo!()
    }
}
