//! From one server of a file to one upstream of the engine.

use http::{HeaderName, HeaderValue, Uri};
use indexmap::IndexMap;
use mpe_engine::{RESERVED_HEADERS, Target, UpstreamConfig};
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::{PoolConfig, Wire};

use super::Source;
use super::behaviour;
use super::node::KeyPath;
use super::resolve::{face_limits, limits, set};
use super::shape::{Breaker, Endpoint, Era, InternalMcp, Retry, Server, ServerKind, Start};
use super::values::{Count, Secret, Span};

/// The server made of `internal_mcp`.
pub(super) const INTERNAL: &str = "internal";

/// By which key a server is reached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Address,
    Command,
    Lambda,
}

impl Kind {
    fn key(self) -> &'static str {
        match self {
            Self::Address => "url",
            Self::Command => "command",
            Self::Lambda => "lambda",
        }
    }
}

impl Source {
    pub(super) fn upstreams(
        &mut self,
        path: &KeyPath,
        tenant: &Endpoint,
        name: &str,
        pool: &PoolConfig,
    ) -> Vec<UpstreamConfig> {
        let here = self.spelled(path, ["mcp_servers", "mcpServers"]);
        let mut upstreams = Vec::with_capacity(tenant.mcp_servers.len() + 1);
        for (key, server) in &tenant.mcp_servers {
            let path = here.key(key.as_str());
            self.check_server_key(&path, key);
            let target = self.target(&path, server);
            let (Some(target), false) = (target, server.disabled) else {
                continue;
            };
            let authorization = self.authorization(&path.key("auth"), key, server, &target);
            let mut upstream = upstream(key, target, server, pool);
            upstream.authorization = authorization;
            upstreams.push(upstream);
        }
        if let Some(internal) = &tenant.internal_mcp {
            let path = path.key("internal_mcp");
            if tenant.mcp_servers.contains_key(INTERNAL) {
                self.report(
                    &path,
                    format!("becomes the server `{INTERNAL}`, which `mcp_servers` has already"),
                );
            }
            let names_authorization = |name: &String| name.eq_ignore_ascii_case("authorization");
            if internal.bearer_token.is_some() && internal.headers.keys().any(names_authorization) {
                self.report(
                    &path.key("bearer_token"),
                    "is sent as `Authorization`, which `headers` has already",
                );
            }
            let server = internal_server(internal, name);
            // The keys of an internal server are spelled differently; everything else is the same.
            let url = server.url.as_deref().unwrap_or_default();
            let url = self.url(&path.key("base_url"), url, false);
            let headers = self.headers(&path.key("headers"), &server.headers);
            if let (Some(url), Some(headers)) = (url, headers) {
                let target = Target::Http { url, headers, wire: Wire::Auto };
                upstreams.push(upstream(INTERNAL, target, &server, pool));
            }
        }
        upstreams
    }

    fn check_server_key(&mut self, path: &KeyPath, key: &str) {
        if key.is_empty() || key.len() > 64 || key.chars().any(char::is_control) {
            self.report(path, "a server's name has 1 to 64 characters, none of them a control character");
        }
    }

    fn target(&mut self, path: &KeyPath, server: &Server) -> Option<Target> {
        let before = self.problems.len();
        self.check_server_limits(path, server);
        let kind = self.kind(path, server)?;
        self.check_misplaced(path, server, kind);
        let sends_authorization =
            server.headers.keys().any(|name| name.eq_ignore_ascii_case("authorization"));
        if server.auth.is_some() && sends_authorization {
            self.report(&path.key("auth"), "is sent as `Authorization`, which `headers` has already");
        }
        let target = match kind {
            Kind::Address => self.address(path, server),
            Kind::Command => self.command(path, server),
            Kind::Lambda => self.lambda(path, server),
        };
        target.filter(|_| self.problems.len() == before)
    }

    pub(super) fn check_server_limits(&mut self, path: &KeyPath, server: &Server) {
        let Some(limits) = &server.limits else { return };
        let batch = ("max_batch", limits.max_batch.is_some());
        for (key, given) in std::iter::once(batch).chain(face_limits(limits)) {
            if given {
                self.report(
                    &path.key("limits").key(key),
                    "is no limit of a server; move it to `limits` further out",
                );
            }
        }
    }

    pub(super) fn check_behaviour(&mut self, path: &KeyPath, server: &Server) {
        for (name, tool) in &server.tools {
            if tool.max_waiting.is_some() && tool.max_in_flight.is_none() {
                self.report(
                    &path.key("tools").key(name.as_str()).key("max_waiting"),
                    "means something beside `max_in_flight` alone",
                );
            }
        }
        let percentile = server.hedge.as_ref().and_then(|hedge| hedge.percentile);
        if percentile.is_some_and(|percentile| !(1..=99).contains(&percentile)) {
            self.report(&path.key("hedge").key("percentile"), "expected a percentage from 1 to 99");
        }
    }

    /// By which of its keys the server is reached.
    fn kind(&mut self, path: &KeyPath, server: &Server) -> Option<Kind> {
        let given = [
            (Kind::Address, server.url.is_some() || !server.urls.is_empty()),
            (Kind::Command, server.command.is_some()),
            (Kind::Lambda, server.lambda.is_some()),
        ];
        let mut given = given.into_iter().filter_map(|(kind, given)| given.then_some(kind));
        let kind = match (given.next(), given.next()) {
            (None, _) => {
                self.report(
                    path,
                    "lacks an address: expected `url` (Streamable HTTP), `command` (a child process) or `lambda` (a \
                     function)",
                );
                return None;
            }
            (Some(first), Some(second)) => {
                let message = format!(
                    "has both `{}` and `{}`; keep the one by which the server is reached",
                    first.key(),
                    second.key()
                );
                self.report(path, message);
                return None;
            }
            (Some(kind), None) => kind,
        };
        let expected = match server.kind {
            Some(ServerKind::Stdio) => Kind::Command,
            Some(ServerKind::Http | ServerKind::Sse) => Kind::Address,
            None => kind,
        };
        if kind != expected {
            let message = format!(
                "says that the server is reached by `{}`, but there is `{}`",
                expected.key(),
                kind.key()
            );
            self.report(&self.spelled(path, ["type", "transport"]), message);
        }
        Some(kind)
    }

    fn check_misplaced(&mut self, path: &KeyPath, server: &Server, kind: Kind) {
        self.check_behaviour(path, server);
        if server.ejection.is_some() && server.urls.is_empty() && kind == Kind::Address {
            self.report(&path.key("ejection"), "is for a server with several addresses, in `urls`");
        }
        let keys = [
            ("args", Kind::Command, !server.args.is_empty()),
            ("auth", Kind::Address, server.auth.is_some()),
            ("ejection", Kind::Address, server.ejection.is_some()),
            ("cwd", Kind::Command, server.cwd.is_some()),
            ("env", Kind::Command, !server.env.is_empty()),
            ("h2c", Kind::Address, server.h2c),
            ("headers", Kind::Address, !server.headers.is_empty()),
            ("idle_stop", Kind::Command, server.idle_stop.is_some()),
            ("start", Kind::Command, server.start.is_some()),
        ];
        for (key, owner, given) in keys {
            if given && owner != kind {
                self.report(&path.key(key), format!("belongs to a server with a `{}`", owner.key()));
            }
        }
    }

    #[cfg(feature = "lambda")]
    fn lambda(&mut self, path: &KeyPath, server: &Server) -> Option<Target> {
        use mpe_lambda_adapter::upstream::{LambdaConfig, LambdaUpstream};

        let function = server.lambda.as_ref()?;
        if function.function.trim().is_empty() {
            self.report(
                &path.key("lambda").key("function"),
                "expected a function's name or ARN, found nothing",
            );
            return None;
        }
        let mut config = LambdaConfig::new(function.function.as_str());
        config.qualifier.clone_from(&function.qualifier);
        config.endpoint_url.clone_from(&function.endpoint_url);
        config.region = function.region.clone().or_else(|| self.aws.region.clone());
        config.credentials.clone_from(&self.aws.credentials);
        config.version = match era(server.era) {
            mpe_engine::Era::Auto => None,
            mpe_engine::Era::Pinned(version) => Some(version),
        };
        Some(Target::Custom(LambdaUpstream::new(config)))
    }

    #[cfg(not(feature = "lambda"))]
    fn lambda(&mut self, path: &KeyPath, _: &Server) -> Option<Target> {
        self.report(
            &path.key("lambda"),
            "this build calls no Lambda functions; build it with the `lambda` feature",
        );
        None
    }

    fn command(&mut self, path: &KeyPath, server: &Server) -> Option<Target> {
        let command = server.command.clone()?;
        if command.trim().is_empty() {
            self.report(&path.key("command"), "expected a program, found nothing");
            return None;
        }
        Some(Target::Stdio {
            command,
            args: server.args.clone(),
            env: server.env.iter().map(|(name, value)| (name.clone(), value.secret().clone())).collect(),
            cwd: server.cwd.as_ref().map(|cwd| self.base.join(cwd)),
        })
    }

    fn address(&mut self, path: &KeyPath, server: &Server) -> Option<Target> {
        let headers = self.headers(&path.key("headers"), &server.headers);
        let wire = if server.h2c { Wire::H2c } else { Wire::Auto };
        if !server.urls.is_empty() {
            let urls = self.urls(&path.key("urls"), server)?;
            return Some(Target::Balanced { urls, headers: headers?, wire });
        }
        let url = self.url(&path.key("url"), server.url.as_deref()?, server.h2c);
        Some(Target::Http { url: url?, headers: headers?, wire })
    }

    fn urls(&mut self, path: &KeyPath, server: &Server) -> Option<Vec<Uri>> {
        if server.url.is_some() {
            self.report(path, "stands beside `url`; put that address into the list, and keep the list alone");
            return None;
        }
        let mut urls = Vec::with_capacity(server.urls.len());
        for (index, url) in server.urls.iter().enumerate() {
            let path = path.index(index);
            let Some(uri) = self.url(&path, url, server.h2c) else { continue };
            if urls.contains(&uri) {
                self.report(&path, "stands in the list twice");
            }
            urls.push(uri);
        }
        (urls.len() == server.urls.len()).then_some(urls)
    }

    fn url(&mut self, path: &KeyPath, url: &str, is_h2c: bool) -> Option<Uri> {
        match parse_url(url) {
            Ok(uri) if is_h2c && uri.scheme_str() == Some("https") => {
                self.report(path, "`h2c` is HTTP/2 without TLS: expected an `http://` address, or no `h2c`");
                None
            }
            Ok(uri) => Some(uri),
            Err(reason) => {
                self.report(path, reason);
                None
            }
        }
    }

    pub(super) fn headers(
        &mut self,
        path: &KeyPath,
        headers: &IndexMap<String, Secret>,
    ) -> Option<Vec<(HeaderName, secrecy::SecretString)>> {
        let before = self.problems.len();
        let mut valid = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            match check_header(name, value.expose()) {
                Ok(header) => valid.push((header, value.secret().clone())),
                Err(reason) => self.report(&path.key(name.as_str()), reason),
            }
        }
        (self.problems.len() == before).then_some(valid)
    }
}

pub(super) fn internal_server(internal: &InternalMcp, endpoint: &str) -> Server {
    let mut headers = internal.headers.clone();
    if let Some(token) = &internal.bearer_token {
        headers.insert("authorization".to_owned(), Secret::new(format!("Bearer {}", token.expose())));
    }
    Server { url: Some(internal.base_url.replace("{endpoint_id}", endpoint)), headers, ..Server::default() }
}

pub(super) fn upstream(key: &str, target: Target, server: &Server, pool: &PoolConfig) -> UpstreamConfig {
    let mut upstream = UpstreamConfig::new(key, target);
    upstream.timeout = server.timeout.map_or(pool.request_timeout, |span| span.get());
    set(&mut upstream.refresh, server.refresh.map(Span::get));
    upstream.era = era(server.era);
    upstream.process.idle_stop = server.idle_stop.map(Span::get);
    if server.start == Some(Start::OnDemand) {
        upstream.process.start = mpe_engine::Start::OnDemand;
    }
    set(&mut upstream.trust_annotations, server.trust_annotations);
    upstream.allow.clone_from(&server.allow);
    upstream.deny.clone_from(&server.deny);
    upstream.repeatable.clone_from(&server.repeatable);
    if let Some(given) = &server.retry {
        retry(&mut upstream.retry, given);
    }
    if let Some(given) = &server.breaker {
        breaker(&mut upstream.breaker, given);
    }
    if let Some(given) = &server.limits {
        upstream.limits = limits(given, true);
    }
    behaviour::apply(&mut upstream, server);
    upstream
}

fn era(era: Era) -> mpe_engine::Era {
    mpe_engine::Era::Pinned(match era {
        Era::Auto => return mpe_engine::Era::Auto,
        Era::Legacy => ProtocolVersion::LATEST_LEGACY,
        Era::Modern => ProtocolVersion::LATEST,
        Era::V2024_11_05 => ProtocolVersion::V2024_11_05,
        Era::V2025_03_26 => ProtocolVersion::V2025_03_26,
        Era::V2025_06_18 => ProtocolVersion::V2025_06_18,
        Era::V2025_11_25 => ProtocolVersion::V2025_11_25,
        Era::V2026_07_28 => ProtocolVersion::V2026_07_28,
    })
}

fn retry(retry: &mut mpe_engine::RetryConfig, given: &Retry) {
    for (target, count) in [
        (&mut retry.max_attempts, given.max_attempts),
        (&mut retry.budget, given.budget),
        (&mut retry.calls_per_retry, given.calls_per_retry),
    ] {
        set(target, count.map(Count::small));
    }
    set(&mut retry.first_pause, given.first_pause.map(Span::get));
    set(&mut retry.max_pause, given.max_pause.map(Span::get));
}

fn breaker(breaker: &mut mpe_engine::BreakerConfig, given: &Breaker) {
    set(&mut breaker.failures, given.failures.map(Count::small));
    set(&mut breaker.first_pause, given.first_pause.map(Span::get));
    set(&mut breaker.max_pause, given.max_pause.map(Span::get));
    if given.enabled == Some(false) {
        breaker.failures = 0;
    }
}

/// An absolute `http` or `https` address.
///
/// # Errors
/// One sentence; it repeats nothing behind the host, which may be secret.
pub(crate) fn parse_url(url: &str) -> Result<Uri, String> {
    const EXPECTED: &str = "expected an absolute address such as `https://mcp.example.com/mcp`";
    if url.is_empty() {
        return Err(format!("{EXPECTED}, found nothing"));
    }
    let uri: Uri = url.parse().map_err(|error| format!("{EXPECTED}: {error}"))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(scheme) => return Err(format!("{EXPECTED}, found the scheme `{scheme}`")),
        None => return Err(format!("{EXPECTED}, found no `http://` or `https://` in front")),
    }
    let authority = uri.authority().ok_or_else(|| format!("{EXPECTED}, found no host"))?;
    if authority.as_str().contains('@') {
        return Err("credentials do not belong into an address; put them into `headers`, as `Authorization`"
            .to_owned());
    }
    if authority.host().is_empty() {
        return Err(format!("{EXPECTED}, found no host"));
    }
    Ok(uri)
}

/// Headers that have been checked before.
///
/// # Errors
/// The first that an operator may not set.
pub(super) fn parse_headers(
    headers: &IndexMap<String, Secret>,
) -> Result<Vec<(HeaderName, secrecy::SecretString)>, String> {
    let header = |(name, value): (&String, &Secret)| {
        check_header(name, value.expose()).map(|name| (name, value.secret().clone()))
    };
    headers.iter().map(header).collect()
}

/// A header that an operator may set.
///
/// # Errors
/// One sentence; it never repeats the value.
pub(crate) fn check_header(name: &str, value: &str) -> Result<HeaderName, String> {
    let header: HeaderName =
        name.parse().map_err(|_| "is no header name: expected letters, digits and hyphens".to_owned())?;
    if RESERVED_HEADERS.contains(&header.as_str()) {
        return Err("is set by the engine itself; leave it out".to_owned());
    }
    HeaderValue::from_str(value).map_err(|_| {
        "has a value that no header can carry (a line break or a control character)".to_owned()
    })?;
    Ok(header)
}
