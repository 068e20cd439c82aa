//! What the pool may use.

use std::time::Duration;

use crate::ProxyConfig;

/// The pool's options: the Python product's six, with its defaults, and the limits it lacked.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PoolConfig {
    /// Offer HTTP/2 by ALPN. Off forces HTTP/1.1. Default: on.
    pub enable_http2: bool,
    /// Open connections over all origins, at most. Default: 100.
    pub max_connections: usize,
    /// Idle connections kept, over all origins, at most; those over it were in use within the last second, so that calls
    /// which follow each other need not connect anew. 0: none at all. Default: 20.
    pub max_keepalive_connections: usize,
    /// How long an idle connection is kept. Default: 30 s.
    pub keepalive_expiry: Duration,
    /// The deadline of an exchange that names none: connect, headers and body together. Default: 30 s.
    pub request_timeout: Duration,
    /// Whether calls run side by side. Off: [`Pool::send`](crate::Pool::send) lets one exchange at a time through, in
    /// the order of the callers; streams opened with their own options are not counted, else one open event stream
    /// would stop everything. Default: on.
    pub enable_concurrent_requests: bool,
    /// How long one connection attempt may take, TLS included. Default: 10 s.
    pub connect_timeout: Duration,
    /// Streams kept open on one connection, at most. The peer's SETTINGS_MAX_CONCURRENT_STREAMS lowers this
    /// further. Default: 100, the least RFC 9113 §6.5.2 recommends a peer to allow.
    pub max_streams: usize,
    /// Age after which a connection takes no further exchange, so that changed names and rebalanced peers are
    /// followed. Default: 1 h.
    pub max_connection_age: Option<Duration>,
    /// How long an HTTP/2 connection goes without asking the peer for a sign of life (PING). Off: never. Default: 20 s.
    pub ping_interval: Option<Duration>,
    /// How long the peer has to answer a PING. A dead one is noticed within `ping_interval` and this. Default: 10 s.
    pub ping_timeout: Duration,
    /// Proxies on the way out. Default: none.
    pub proxies: ProxyConfig,
    /// Exchanges that may wait for a lease, over all origins, at most. Default: 10 000.
    pub max_waiting: usize,
    /// Bytes of a response body, at most, unless the exchange names its own limit. Default: 64 MiB.
    pub max_response_bytes: u64,
    /// Bytes of a response head (names and values), at most. Default: 64 KiB.
    pub max_head_bytes: u32,
}

/// The Python product's three presets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// 50 connections, 10 idle for 15 s, 60 s a request; one call at a time.
    Conservative,
    /// 200 connections, 50 idle for 60 s, 10 s a request.
    HighThroughput,
    /// 20 connections, 5 idle for 10 s, 30 s a request.
    Serverless,
}

/// Longer than anything here lives; adding more to a moment could overflow it.
pub(crate) const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            enable_http2: true,
            max_connections: 100,
            max_keepalive_connections: 20,
            keepalive_expiry: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            enable_concurrent_requests: true,
            connect_timeout: Duration::from_secs(10),
            max_streams: 100,
            max_connection_age: Some(Duration::from_secs(3600)),
            ping_interval: Some(Duration::from_secs(20)),
            ping_timeout: Duration::from_secs(10),
            proxies: ProxyConfig::default(),
            max_waiting: 10_000,
            max_response_bytes: 64 << 20,
            max_head_bytes: 64 << 10,
        }
    }
}

impl PoolConfig {
    /// The same with every duration short enough to be added to a moment.
    pub(crate) fn within_bounds(mut self) -> Self {
        let always = [
            &mut self.keepalive_expiry,
            &mut self.request_timeout,
            &mut self.connect_timeout,
            &mut self.ping_timeout,
        ];
        let optional = [self.ping_interval.as_mut(), self.max_connection_age.as_mut()];
        for duration in always.into_iter().chain(optional.into_iter().flatten()) {
            *duration = (*duration).min(FOREVER);
        }
        self
    }

    /// The options of a preset.
    pub fn preset(preset: Preset) -> Self {
        let default = Self::default();
        match preset {
            Preset::Conservative => Self {
                max_connections: 50,
                max_keepalive_connections: 10,
                keepalive_expiry: Duration::from_secs(15),
                request_timeout: Duration::from_secs(60),
                enable_concurrent_requests: false,
                ..default
            },
            Preset::HighThroughput => Self {
                max_connections: 200,
                max_keepalive_connections: 50,
                keepalive_expiry: Duration::from_secs(60),
                request_timeout: Duration::from_secs(10),
                ..default
            },
            Preset::Serverless => Self {
                max_connections: 20,
                max_keepalive_connections: 5,
                keepalive_expiry: Duration::from_secs(10),
                request_timeout: Duration::from_secs(30),
                ..default
            },
        }
    }
}

/// Whom to trust and who we are. Default: the platform's roots, no client certificate.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TlsConfig {
    /// Further roots, PEM, beside the platform's.
    pub extra_roots_pem: Vec<Vec<u8>>,
    /// Client certificate chain and key, PEM.
    pub client_identity_pem: Option<(Vec<u8>, Vec<u8>)>,
}
