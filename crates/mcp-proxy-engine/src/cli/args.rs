//! What may stand on the command line. `docs/cli.md` is generated from here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use mcp_proxy_engine::config::{LogFormat, Span};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  a tool ran and reported that it failed
  2  the command line cannot be used
  3  the configuration cannot be used
  4  a server cannot be reached
  5  a call was refused or brought no answer
  6  the system refused something (a port, a file)";

/// One engine in front of many MCP servers: MCP, REST, OpenAPI, GraphQL and function-calling arrays.
#[derive(Debug, Parser)]
#[command(name = "mcp-proxy-engine", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put the engine in front of servers and serve every face over HTTP. Without a server: the embedded demo
    Serve(ServeArgs),
    /// Be one MCP server on standard input and output, in front of all the others; for clients that start their servers
    Stdio(StdioArgs),
    /// Call one tool
    Call(CallArgs),
    /// List the tools
    Tools(ToolsArgs),
    /// Call many tools at once
    Batch(BatchArgs),
    /// Print the OpenAPI document
    Openapi(OpenapiArgs),
    /// Print the GraphQL schema
    Graphql(GraphqlArgs),
    /// Check the configuration, and whether every server answers
    Check(CheckArgs),
    /// Log in at a server with a browser, and keep the login for the other commands
    Login(LoginArgs),
    /// Forget the login at a server
    Logout(LogoutArgs),
    /// Print the servers of desktop clients' configuration files as a configuration for this engine
    Import(ImportArgs),
    /// Answer AWS Lambda's invocations. Also what the command does on Lambda without any arguments
    #[cfg(feature = "lambda")]
    Lambda(LambdaArgs),
    /// Print the completions of a shell, to be sourced by it
    Completions(CompletionsArgs),
    /// Write the generated files of the source tree, or the documents of a configuration
    #[command(hide = true)]
    Codegen(CodegenArgs),
}

/// What is logged.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct LogArgs {
    /// What to log, to standard error: a level, or directives such as `info,mpe_engine=debug`
    #[arg(long = "log", global = true, env = "MPE_LOG", value_name = "FILTER")]
    pub(crate) log_filter: Option<String>,
    /// How log lines look
    #[arg(long = "log-format", global = true, env = "MPE_LOG_FORMAT", value_name = "FORMAT", value_parser = log_format)]
    pub(crate) log_format: Option<LogFormat>,
}

/// Which servers. Without any of these: the embedded demo.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct SourceArgs {
    /// A configuration file: .toml, .yaml or .json
    #[arg(long, short, env = "MPE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// An MCP server's address; may be given several times
    #[arg(long, value_name = "URL")]
    pub(crate) url: Vec<String>,
    /// Speak HTTP/2 without TLS to the servers given by address
    #[arg(long)]
    pub(crate) h2c: bool,
    /// A header for the servers given by address, as `Name: value`; may be given several times
    #[arg(long, value_name = "HEADER")]
    pub(crate) header: Vec<String>,
    /// How long to wait for the servers' tools: `5s`, `500ms`
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) wait: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Addresses of MCP servers. One alone keeps its tool names untouched
    #[arg(value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// A command that is an MCP server on its standard input and output
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    /// A configuration file: .toml, .yaml or .json
    #[arg(long, short, env = "MPE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:8080, or what the configuration says]
    #[arg(long, short, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Speak HTTP/2 without TLS to the servers given by address
    #[arg(long)]
    pub(crate) h2c: bool,
    /// A header for the servers given by address, as `Name: value`; may be given several times
    #[arg(long, value_name = "HEADER")]
    pub(crate) header: Vec<String>,
    /// Print the configuration in effect, without its secrets, and end
    #[arg(long)]
    pub(crate) print_config: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StdioArgs {
    /// Addresses of MCP servers. One alone keeps its tool names untouched
    #[arg(value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// A command that is an MCP server on its standard input and output
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    /// A configuration file: .toml, .yaml or .json
    #[arg(long, short, env = "MPE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Speak HTTP/2 without TLS to the servers given by address
    #[arg(long)]
    pub(crate) h2c: bool,
    /// A header for the servers given by address, as `Name: value`; may be given several times
    #[arg(long, value_name = "HEADER")]
    pub(crate) header: Vec<String>,
    /// The endpoint (tenant) [default: the one at the root]
    #[arg(long, value_name = "NAME")]
    pub(crate) endpoint: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CallArgs {
    /// The tool's name
    pub(crate) tool: String,
    /// The arguments: one JSON object, `-` for one on standard input, or any number of `key=value` (text where the
    /// tool takes text, else JSON) and `key:=json`
    #[arg(value_name = "ARGUMENT")]
    pub(crate) arguments: Vec<String>,
    /// Print the result as the server wrote it
    #[arg(long)]
    pub(crate) json: bool,
    /// How long to wait for the answer [default: what the configuration says, else 30s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// The endpoint (tenant) [default: the one at the root]
    #[arg(long, value_name = "NAME")]
    pub(crate) endpoint: Option<String>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ToolsArgs {
    /// Print JSON: the tools as MCP lists them
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
    /// Print the function-calling array of a vendor
    #[arg(long, value_name = "VENDOR")]
    pub(crate) format: Option<VendorArg>,
    /// The endpoint (tenant) [default: the one at the root]
    #[arg(long, value_name = "NAME")]
    pub(crate) endpoint: Option<String>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VendorArg {
    Anthropic,
    Bedrock,
    Gemini,
    Mcp,
    Ollama,
    Openai,
    OpenaiStrict,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BatchArgs {
    /// The calls: a JSON array of `{"tool": …, "arguments": {…}}` (or `"function_name"`), or one such object a line.
    /// `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OpenapiArgs {
    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "yaml")]
    pub(crate) format: DocumentFormat,
    /// The version of OpenAPI
    #[arg(long = "openapi", value_name = "VERSION", default_value = "3.1", value_parser = ["3.0", "3.1"])]
    pub(crate) version: String,
    /// The endpoint (tenant) [default: the one at the root]
    #[arg(long, value_name = "NAME")]
    pub(crate) endpoint: Option<String>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DocumentFormat {
    Json,
    Yaml,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GraphqlArgs {
    /// The endpoint (tenant) [default: the one at the root]
    #[arg(long, value_name = "NAME")]
    pub(crate) endpoint: Option<String>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LoginArgs {
    /// The server: its name in the configuration, or without one its address
    #[arg(value_name = "SERVER")]
    pub(crate) server: String,
    /// A configuration file: .toml, .yaml or .json
    #[arg(long, short, env = "MPE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The endpoint (tenant) [default: the one at the root]
    #[arg(long, value_name = "NAME")]
    pub(crate) endpoint: Option<String>,
    /// Open the address in this account's browser, beside printing it
    #[arg(long)]
    pub(crate) open: bool,
    /// How long to wait for the browser to come back
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(crate) wait: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LogoutArgs {
    /// The server: its name in the configuration, or without one its address
    #[arg(value_name = "SERVER")]
    pub(crate) server: String,
    /// A configuration file: .toml, .yaml or .json
    #[arg(long, short, env = "MPE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The endpoint (tenant) [default: the one at the root]
    #[arg(long, value_name = "NAME")]
    pub(crate) endpoint: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// JSON files with `mcpServers` (or `servers`, or `context_servers`), such as `claude_desktop_config.json`, `.mcp.json`
    /// or `.vscode/mcp.json`
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "toml")]
    pub(crate) format: ImportFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportFormat {
    Json,
    Toml,
    #[cfg(feature = "yaml")]
    Yaml,
}

#[cfg(feature = "lambda")]
#[derive(Debug, clap::Args)]
pub(crate) struct LambdaArgs {
    /// A configuration file: .toml, .yaml or .json
    #[arg(long, short, env = "MPE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CodegenArgs {
    /// The directory to write into
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Write the OpenAPI documents and the GraphQL schema of this configuration instead
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<Span>().map(Span::get)
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("it may be `json` or `text`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Args;

    #[test]
    fn the_command_line_does_not_contradict_itself() {
        Args::command().debug_assert();
    }

    #[test]
    fn no_two_arguments_of_a_command_share_an_id() {
        let mut root = Args::command();
        root.build();
        for command in root.get_subcommands() {
            let mut ids: Vec<_> =
                command.get_arguments().map(|argument| argument.get_id().to_string()).collect();
            let n = ids.len();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), n, "{}", command.get_name());
        }
    }
}
