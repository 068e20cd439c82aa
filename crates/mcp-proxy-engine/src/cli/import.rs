//! `import`: the servers of desktop clients' configuration files as a configuration of ours.

use std::path::Path;

use mcp_proxy_engine::config::{Format, Source};
use serde_json::{Map, Value};

use super::args::{ImportArgs, ImportFormat};
use super::exit::{Exit, Failure};
use super::output;

/// Under which keys clients keep their servers: most, VS Code, Zed.
const TABLES: [&str; 4] = ["mcpServers", "mcp_servers", "servers", "context_servers"];

/// What a server's entry may hold that the engine understands.
const KEPT: [&str; 9] = ["args", "command", "cwd", "disabled", "env", "headers", "transport", "type", "url"];

pub(crate) fn run(args: &ImportArgs) -> Result<Exit, Failure> {
    let mut servers = Map::new();
    for file in &args.files {
        collect(file, &mut servers)?;
    }
    if servers.is_empty() {
        return Err(Failure::usage("there is no server in any of these files"));
    }
    let n = servers.len();
    let text =
        Value::Object(Map::from_iter([("mcp_servers".to_owned(), Value::Object(servers))])).to_string();
    // Variables stay as they are written: the result is to be kept, not run.
    let keep = |name: &str| Some(format!("${{{name}}}"));
    let source = Source::parse(&text, Format::Json, "<imported>", std::path::PathBuf::new(), &keep)?;
    source.settings()?;
    let value: Value = serde_json::from_str(&text).map_err(|error| Failure::system(error.to_string()))?;
    output::result(&args.format.write(&value)?)?;
    output::note(&format!("{n} imported; secrets are shown as they stood: better put them into variables"));
    Ok(Exit::Done)
}

fn collect(file: &Path, servers: &mut Map<String, Value>) -> Result<(), Failure> {
    let name = file.display();
    let failed = |what: String| Failure::new(Exit::Config, format!("{name}: {what}"));
    let text = std::fs::read_to_string(file).map_err(|error| failed(format!("cannot be read: {error}")))?;
    let root: Value = serde_json::from_str(&text).map_err(|error| failed(format!("is not JSON: {error}")))?;
    let table = TABLES.iter().find_map(|key| root.get(key)?.as_object()).ok_or_else(|| {
        failed(format!("has no table of servers: expected one of `{}`", TABLES.join("`, `")))
    })?;
    for (key, server) in table {
        let Some(server) = server.as_object() else {
            return Err(failed(format!("the server `{key}` is no object")));
        };
        let mut kept = Map::new();
        for (member, value) in server {
            let is_empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
            if KEPT.contains(&member.as_str()) {
                if !is_empty {
                    kept.insert(member.clone(), value.clone());
                }
            } else {
                output::note(&format!("{name}: {key}: `{member}` is the client's own and left out"));
            }
        }
        if servers.insert(key.clone(), Value::Object(kept)).is_some() {
            return Err(failed(format!("the server `{key}` stands in another file too")));
        }
    }
    Ok(())
}

impl ImportFormat {
    fn write(self, value: &Value) -> Result<String, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::system(format!("cannot be written: {error}"));
        match self {
            Self::Json => Ok(format!("{value:#}")),
            Self::Toml => toml::to_string_pretty(value).map_err(|error| failed(&error)),
            #[cfg(feature = "yaml")]
            Self::Yaml => serde_saphyr::to_string(value).map_err(|error| failed(&error)),
        }
    }
}
