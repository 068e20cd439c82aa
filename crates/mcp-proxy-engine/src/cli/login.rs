//! `login` and `logout`: a person's grant for a server, given once and kept.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use mcp_proxy_engine::config::Source;
use mcp_proxy_engine::engine::CallErrorKind;
use mcp_proxy_engine::login::{Browser, LoginError};

use super::args::{LogArgs, LoginArgs, LogoutArgs};
use super::exit::{Exit, Failure, chain};
use super::source::Choice;
use super::{logging, output};

pub(crate) async fn log_in(args: LoginArgs, log: &LogArgs) -> Result<Exit, Failure> {
    let (source, key) = choose(&args.server, args.config.as_deref())?;
    logging::install(log, source.config.log.as_ref(), "error")?;
    let (shown, open) = (args.server.clone(), args.open);
    let browser = Browser::new(redirect_port(&source, args.endpoint.as_deref(), &key), move |url| {
        output::note(&format!("Open this address in a browser to log in at `{shown}`:\n\n  {url}\n"));
        if open {
            open_browser(url);
        }
    });
    let folder = source.token_store();
    let login =
        mcp_proxy_engine::login::log_in(source, args.endpoint.as_deref(), &key, Arc::new(browser), args.wait);
    let login = login.await?;
    let mut lines = vec![format!("logged in at `{}` by {}", args.server, login.issuer)];
    if let Some(scope) = &login.scope {
        lines.push(format!("scope: {scope}"));
    }
    lines.push(match (login.is_renewable, login.expires_in) {
        (true, _) => "it is renewed by itself".to_owned(),
        (false, Some(life)) => format!("it is good for {} minutes, and not renewed", life.as_secs() / 60),
        (false, None) => "it is not renewed; nobody said how long it is good".to_owned(),
    });
    lines.extend(folder.map(|folder| format!("kept in {}", folder.display())));
    output::result(&lines.join("\n"))?;
    Ok(Exit::Done)
}

pub(crate) async fn log_out(args: LogoutArgs, log: &LogArgs) -> Result<Exit, Failure> {
    let (source, key) = choose(&args.server, args.config.as_deref())?;
    logging::install(log, source.config.log.as_ref(), "error")?;
    let was_in = mcp_proxy_engine::login::log_out(source, args.endpoint.as_deref(), &key).await?;
    output::result(&match was_in {
        true => format!("the login at `{}` is forgotten", args.server),
        false => format!("there was no login at `{}`", args.server),
    })?;
    Ok(Exit::Done)
}

/// A server of a file by its name, or one by its address.
fn choose(server: &str, config: Option<&Path>) -> Result<(Source, String), Failure> {
    let is_address = server.contains("://");
    if !is_address && config.is_none() {
        return Err(Failure::usage(
            "which server? give its address, or its name and the --config it stands in",
        ));
    }
    let urls = [server.to_owned()];
    let urls: &[String] = if is_address { &urls } else { &[] };
    let chosen =
        Choice { config: config.filter(|_| !is_address), urls, command: &[], h2c: false, headers: &[] };
    let source = chosen.read()?.source;
    let key = match is_address {
        true => source.config.mcp_servers.keys().next().cloned().unwrap_or_default(),
        false => server.to_owned(),
    };
    Ok((source, key))
}

/// The port that the server's configuration fixes for redirects.
fn redirect_port(source: &Source, endpoint: Option<&str>, key: &str) -> Option<u16> {
    let servers = match endpoint.and_then(|name| source.config.endpoints.get(name)) {
        Some(endpoint) => &endpoint.mcp_servers,
        None => &source.config.mcp_servers,
    };
    servers.get(key)?.auth.as_ref()?.redirect_port
}

/// Hands the address to the desktop, as one argument and through no shell. Whoever has no desktop has the address.
fn open_browser(url: &str) {
    let (program, arguments): (&str, &[&str]) = if cfg!(target_os = "macos") {
        ("open", &[])
    } else if cfg!(windows) {
        ("rundll32", &["url.dll,FileProtocolHandler"])
    } else {
        ("xdg-open", &[])
    };
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = command.spawn() {
        output::note(&format!("note: no browser was opened: {program}: {error}"));
    }
}

impl From<LoginError> for Failure {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Config(error) => error.into(),
            LoginError::Failed(error) if error.kind == CallErrorKind::UpstreamAuth => {
                Self::new(Exit::CallFailed, chain(&error))
            }
            LoginError::Failed(error) => Self::new(Exit::Unreachable, chain(&error)),
            error => Self::usage(error.to_string()),
        }
    }
}
