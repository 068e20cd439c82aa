//! From one `server.json` to one upstream: the best of its remotes, else a package, if packages may run.

use http::HeaderName;
use mpe_transport::Wire;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use super::McpRegistry;
use crate::source::{check_key, like, parse_header, parse_url};
use crate::{Target, UpstreamConfig};

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    remotes: Vec<Remote>,
    #[serde(default)]
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Remote {
    #[serde(rename = "type")]
    kind: String,
    url: String,
    #[serde(default)]
    headers: Vec<Named>,
    #[serde(default)]
    variables: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    registry_type: String,
    identifier: String,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    transport: Transport,
    #[serde(default)]
    runtime_arguments: Vec<Argument>,
    #[serde(default)]
    package_arguments: Vec<Argument>,
    #[serde(default)]
    environment_variables: Vec<Named>,
}

#[derive(Default, Deserialize)]
struct Transport {
    #[serde(rename = "type", default)]
    kind: String,
}

/// A header or an environment variable.
#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    input: Input,
}

#[derive(Deserialize)]
struct Argument {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(rename = "valueHint", default)]
    value_hint: Option<String>,
    #[serde(flatten)]
    input: Input,
}

/// Something that a server wants to be told.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Input {
    value: Option<String>,
    default: Option<String>,
    is_required: bool,
    choices: Vec<String>,
    variables: serde_json::Map<String, Value>,
}

/// # Errors
/// One sentence saying why the server cannot be used.
pub(super) fn upstream(
    registry: &McpRegistry,
    template: &UpstreamConfig,
    name: &str,
    document: &Value,
) -> Result<UpstreamConfig, String> {
    if name.is_empty() {
        return Err("it has no `name`".to_owned());
    }
    check_key(name)?;
    let document =
        Document::deserialize(document).map_err(|error| format!("it is no server.json: {error}"))?;
    let asked = Asked { registry, server: name };
    // A slash would have to be replaced wherever the key becomes part of a tool's name.
    let key = name.replace('/', ".");
    let of_kind = |kind| document.remotes.iter().find(|remote| remote.kind == kind);
    if let Some(remote) = of_kind("streamable-http").or_else(|| of_kind("sse")) {
        return Ok(like(template, &key, asked.remote(remote)?));
    }
    let package = document.packages.iter().find(|package| package.transport.kind == "stdio");
    match package {
        None => Err("it has neither a remote nor a package that speaks over pipes".to_owned()),
        Some(_) if !registry.run_packages => {
            Err("it is a package, and packages of this registry may not run here".to_owned())
        }
        Some(package) => Ok(like(template, &key, asked.package(package)?)),
    }
}

/// Finds out what a server's inputs are.
struct Asked<'a> {
    registry: &'a McpRegistry,
    server: &'a str,
}

impl Asked<'_> {
    fn remote(&self, remote: &Remote) -> Result<Target, String> {
        let url = parse_url(&self.fill(&remote.url, &remote.variables)?)?;
        Ok(Target::Http { url, headers: self.headers(&remote.headers)?, wire: Wire::Auto })
    }

    fn headers(&self, headers: &[Named]) -> Result<Vec<(HeaderName, SecretString)>, String> {
        let mut all = Vec::with_capacity(headers.len());
        for header in headers {
            if let Some(value) = self.value(&header.name, &header.input)? {
                all.push(parse_header(&header.name, &value)?);
            }
        }
        Ok(all)
    }

    fn package(&self, package: &Package) -> Result<Target, String> {
        let Package { identifier, version, .. } = package;
        // What begins with a dash would be an option of the program that runs it.
        if identifier.is_empty() || identifier.starts_with('-') {
            return Err("its package has no usable `identifier`".to_owned());
        }
        let mut env = Vec::new();
        for variable in &package.environment_variables {
            if let Some(value) = self.value(&variable.name, &variable.input)? {
                env.push((variable.name.clone(), SecretString::from(value)));
            }
        }
        let runtime = self.arguments(&package.runtime_arguments)?;
        let versioned = |mark: char| match version {
            Some(version) => format!("{identifier}{mark}{version}"),
            None => identifier.clone(),
        };
        let (command, mut args) = match package.registry_type.as_str() {
            "npm" => ("npx", [vec!["-y".to_owned()], runtime, vec![versioned('@')]].concat()),
            "pypi" => ("uvx", [runtime, vec![versioned('@')]].concat()),
            "oci" => {
                let mut args = ["run", "-i", "--rm"].map(str::to_owned).to_vec();
                // Docker takes the values of these from its own environment: no secret stands on a command line.
                args.extend(env.iter().flat_map(|(name, _)| ["-e".to_owned(), name.clone()]));
                args.extend(runtime);
                let is_tagged = identifier.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
                args.push(if is_tagged { identifier.clone() } else { versioned(':') });
                ("docker", args)
            }
            other => return Err(format!("packages of type `{other}` cannot be run here")),
        };
        args.extend(self.arguments(&package.package_arguments)?);
        Ok(Target::Stdio { command: command.to_owned(), args, env, cwd: None })
    }

    fn arguments(&self, arguments: &[Argument]) -> Result<Vec<String>, String> {
        let mut all = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let is_named = argument.kind == "named";
            let name = if is_named { argument.name.as_deref() } else { argument.value_hint.as_deref() };
            let value = self.value(name.unwrap_or_default(), &argument.input)?;
            match (is_named, name, value) {
                (true, Some(name), Some(value)) => all.extend([name.to_owned(), value]),
                // A flag.
                (true, Some(name), None) if argument.input.is_flag() => all.push(name.to_owned()),
                (false, _, Some(value)) => all.push(value),
                _ => {}
            }
        }
        Ok(all)
    }

    /// What one input comes to; `None`: it is left away.
    fn value(&self, name: &str, input: &Input) -> Result<Option<String>, String> {
        if let Some(value) = &input.value {
            return self.fill(value, &input.variables).map(Some);
        }
        let given =
            self.registry.input(self.server, name).map(str::to_owned).or_else(|| input.default.clone());
        match given {
            Some(given) if !input.choices.is_empty() && !input.choices.contains(&given) => {
                Err(format!("its input `{name}` takes one of {} only", input.choices.join(", ")))
            }
            None if input.is_required => Err(format!("it must be told `{name}`; say so in `inputs`")),
            given => Ok(given),
        }
    }

    /// Replaces the `{variables}` of a text that are declared; others stay.
    fn fill(&self, text: &str, variables: &serde_json::Map<String, Value>) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, inside)) = rest.split_once('{') {
            filled.push_str(before);
            let Some((name, after)) = inside.split_once('}') else {
                filled.push('{');
                rest = inside;
                continue;
            };
            match variables.get(name) {
                None => filled.push_str(&format!("{{{name}}}")),
                Some(declared) => {
                    let input = Input::deserialize(declared).unwrap_or_default();
                    let flat = Input { variables: serde_json::Map::new(), ..input };
                    let value = self.value(name, &Input { is_required: true, ..flat })?;
                    filled.push_str(&value.unwrap_or_default());
                }
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

impl Input {
    /// Whether it says nothing of a value: a flag then, where it is an argument.
    fn is_flag(&self) -> bool {
        self.value.is_none() && self.default.is_none() && self.choices.is_empty() && !self.is_required
    }
}
