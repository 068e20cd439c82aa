//! Log lines, on standard error.

use std::io::IsTerminal;

use mcp_proxy_engine::config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

use super::args::LogArgs;
use super::exit::Failure;

/// Installs the process's log: the command line wins over the configuration, which wins over `default`.
///
/// # Errors
/// The filter is none.
pub(crate) fn install(args: &LogArgs, config: Option<&Log>, default: &str) -> Result<(), Failure> {
    let from_config = config.and_then(|log| log.filter.as_deref());
    let filter = match (&args.log_filter, from_config) {
        (Some(filter), _) => EnvFilter::try_new(filter).map_err(|error| {
            Failure::usage(format!("--log {filter}: {error}; expected a level or directives"))
        })?,
        // Bad directives of a configuration are reported with their place; here they only must not matter.
        (None, Some(filter)) => EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new(default)),
        (None, None) => EnvFilter::new(default),
    };
    let format = args.log_format.or_else(|| config.map(|log| log.format)).unwrap_or_default();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let installed = match format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => builder.try_init(),
    };
    // Somebody else's subscriber is as good as ours.
    drop(installed);
    Ok(())
}
