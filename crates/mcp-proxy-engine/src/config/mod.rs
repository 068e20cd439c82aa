//! The configuration: one typed superset of three familiar spellings, read from TOML, YAML or JSON.
//!
//! The stations of a file, each a module: text to a tree that knows positions (`read`), variables (`expand`), the
//! tree to types (`de`, `shape`, `values`), types to what engine and gateway take (`resolve`). Every station reports
//! all it finds as [`Problem`]s with file, line, column and key.

mod auth;
mod authorization;
mod behaviour;
mod de;
mod expand;
mod node;
mod on_demand;
mod print;
mod problem;
mod read;
mod resolve;
mod server;
mod shape;
mod sources;
mod values;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub use auth::{GrantKind, IdentityProvider, ServerAuth};
pub use behaviour::{Ejection, Hedge, Reuse, ToolOptions};
pub use node::Position;
pub use problem::{ConfigError, Problem};
pub use read::Format;
pub use resolve::Settings;
pub use shape::{
    ApiServer, Breaker, Checks, Config, Endpoint, Era, Http2Config, HttpFace, InternalMcp, LambdaFunction,
    Limits, ListsMode, Log, LogFormat, Naming, Preset, Retry, Server, ServerKind, Tls,
};
pub use sources::{RegistryKind, ServerSource};
pub use values::{Count, Secret, Size, Span};

use expand::Lookup;
use node::{KeyPath, Node};

/// A configuration and where each of its keys stands.
#[derive(Clone)]
pub struct Source {
    /// The configuration.
    pub config: Config,
    file: String,
    base: PathBuf,
    format: Format,
    tree: Node,
    /// Every variable that was replaced, with its value: none of these is ever printed.
    variables: Vec<(String, String)>,
    /// What decoding had to cut out; with it every problem that only follows from the cut is silent.
    cut: Vec<KeyPath>,
    problems: Vec<Problem>,
    /// Where logins are kept, while settings are made.
    logins: Option<PathBuf>,
    #[cfg(feature = "lambda")]
    aws: resolve::Aws,
}

impl std::fmt::Debug for Source {
    /// Without tree and variables: they hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("file", &self.file)
            .field("config", &self.config)
            .field("problems", &self.problems)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Reads a configuration file; its format is told by its extension. Variables come from the process's environment.
    ///
    /// Only the file's form is judged here; [`Source::settings`] reports every problem of form and meaning at once.
    ///
    /// # Errors
    /// The file cannot be read, has another extension than `.toml`, `.yaml`, `.yml` or `.json`, or is not of its format.
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let Some(format) = Format::of(path) else {
            return Err(ConfigError::whole(name, "expected a file that ends in .toml, .yaml, .yml or .json"));
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::whole(name.as_str(), format!("cannot be read: {error}")))?;
        let base = path.parent().map(Path::to_owned).unwrap_or_default();
        Self::parse(&text, format, name, base, &|name| std::env::var(name).ok())
    }

    /// Reads a configuration from text. `file` stands in messages; relative paths start at `base`; `lookup` answers
    /// `${VARIABLE}`s.
    ///
    /// # Errors
    /// The text is not of its format.
    pub fn parse(
        text: &str,
        format: Format,
        file: impl Into<String>,
        base: PathBuf,
        lookup: Lookup<'_>,
    ) -> Result<Self, ConfigError> {
        let file = file.into();
        let mut tree = read::read(text, format).map_err(|error| {
            ConfigError::new(vec![Problem {
                file: file.clone(),
                position: Some(error.at),
                key: String::new(),
                message: error.message,
            }])
        })?;
        let variables = RefCell::new(Vec::new());
        let noting = |name: &str| {
            let value = lookup(name);
            variables.borrow_mut().extend(value.clone().map(|value| (name.to_owned(), value)));
            value
        };
        let mut source = Self {
            config: Config::default(),
            file,
            base,
            format,
            tree: tree.clone(),
            variables: Vec::new(),
            cut: Vec::new(),
            problems: Vec::new(),
            logins: None,
            #[cfg(feature = "lambda")]
            aws: resolve::Aws::default(),
        };
        let unset = expand::expand(&mut tree, &noting);
        source.variables = variables.into_inner();
        for (path, message) in unset {
            source.report(&path, message);
            // The string as it stands must not reach a server, nor cause a second message.
            tree.remove(&path.up_to_list());
            source.cut.push(path);
        }
        let decoded = de::decode::<Config>(&tree);
        source.tree = tree;
        for failure in decoded.failures {
            source.problems.push(Problem {
                file: source.file.clone(),
                position: Some(failure.at),
                key: failure.path.to_string(),
                message: failure.message,
            });
            source.cut.push(failure.path);
        }
        source.config = decoded.value.unwrap_or_default();
        Ok(source)
    }

    /// A configuration made in code: it has no file and no positions.
    pub fn of(config: Config) -> Self {
        let at = Position { line: 1, column: 1 };
        Self {
            config,
            file: NO_FILE.to_owned(),
            base: PathBuf::new(),
            format: Format::Toml,
            variables: Vec::new(),
            tree: Node { at, value: node::Value::Map(Vec::new()) },
            cut: Vec::new(),
            problems: Vec::new(),
            logins: None,
            #[cfg(feature = "lambda")]
            aws: resolve::Aws::default(),
        }
    }

    /// Notes a problem at `path`, unless it only follows from one that is noted already.
    fn report(&mut self, path: &KeyPath, message: impl Into<String>) {
        if self.cut.iter().any(|cut| path.holds(cut) || cut.holds(path)) {
            return;
        }
        self.problems.push(Problem {
            file: self.file.clone(),
            position: Some(self.tree.locate(path)),
            key: path.to_string(),
            message: message.into(),
        });
    }
}

/// What stands for the file's name where there is none.
const NO_FILE: &str = "<configuration>";

impl Source {
    /// Whether it was read from a file.
    fn is_from_file(&self) -> bool {
        self.file != NO_FILE
    }

    /// Where logins at servers are kept; `None` where there is no place for them.
    pub fn token_store(&self) -> Option<PathBuf> {
        let given = self.config.token_store.as_ref().map(|folder| self.base.join(folder));
        given.or_else(crate::login::default_folder)
    }
}

/// Where to listen unless somebody says otherwise: the loopback address, port 8080.
pub fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))
}

/// The JSON Schema (2020-12) of a configuration file.
pub fn config_schema() -> schemars::Schema {
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_deserialize();
    let mut schema = settings.into_generator().into_root_schema_for::<Config>();
    // serde's aliases are unknown to schemars; a file may use them all the same.
    for (pointer, key, alias) in ALIASES {
        let properties = schema.pointer_mut(pointer).and_then(serde_json::Value::as_object_mut);
        let properties = properties.expect("every alias names a struct of the schema");
        let twin = properties.get(*key).cloned().expect("every alias names a key of its struct");
        properties.insert((*alias).to_owned(), twin);
    }
    schema
}

/// Second spellings of keys: the struct's properties in the schema, the key, the alias.
const ALIASES: &[(&str, &str, &str)] = &[
    ("/properties", "mcp_servers", "mcpServers"),
    ("/$defs/Endpoint/properties", "mcp_servers", "mcpServers"),
    ("/$defs/Server/properties", "type", "transport"),
];
