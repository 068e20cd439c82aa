//! The command line: results on standard output, everything else on standard error, exit codes that mean something.

mod args;
mod batch;
mod call;
mod check;
mod codegen;
mod documents;
mod exit;
mod import;
#[cfg(feature = "lambda")]
mod lambda;
mod logging;
mod login;
mod metrics;
mod output;
mod reload;
mod serve;
mod source;
mod stdio;
mod tools;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Args, Command};
use exit::{Exit, Failure};

/// Reads the arguments, does as they say, and tells the shell how it went.
pub(crate) fn run() -> ExitCode {
    let args = Args::parse_from(arguments());
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::error(&format!("the runtime does not start: {error}"));
            return Exit::System.into();
        }
    };
    let outcome = runtime.block_on(dispatch(args));
    // A blocking read of standard input must not keep the process alive.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.into(),
        Err(Failure { exit, message }) => {
            if !message.is_empty() {
                output::error(&message);
            }
            exit.into()
        }
    }
}

/// One thread per core. With a single one, nothing is shared between threads, and nobody need pay for that it could be.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut builder = match cores {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}

/// The command line. On AWS Lambda, where a `bootstrap` is started without any, it means `lambda`.
fn arguments() -> Vec<std::ffi::OsString> {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    let is_on_lambda = std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some();
    if cfg!(feature = "lambda") && arguments.len() == 1 && is_on_lambda {
        arguments.push("lambda".into());
    }
    arguments
}

async fn dispatch(args: Args) -> Result<Exit, Failure> {
    let Args { command, log } = args;
    match command {
        Command::Batch(args) => batch::run(args, &log).await,
        Command::Call(args) => call::run(args, &log).await,
        Command::Check(args) => check::run(args, &log).await,
        Command::Codegen(args) => codegen::run(args, &log).await,
        Command::Completions(args) => completions(args.shell),
        Command::Graphql(args) => documents::graphql(args, &log).await,
        Command::Import(args) => import::run(&args),
        #[cfg(feature = "lambda")]
        Command::Lambda(args) => lambda::run(args, &log).await,
        Command::Login(args) => login::log_in(args, &log).await,
        Command::Logout(args) => login::log_out(args, &log).await,
        Command::Openapi(args) => documents::openapi(args, &log).await,
        Command::Serve(args) => serve::run(args, &log).await,
        Command::Stdio(args) => stdio::run(args, &log).await,
        Command::Tools(args) => tools::run(args, &log).await,
    }
}

/// Prints what a shell sources to complete our words.
fn completions(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "mcp-proxy-engine", &mut script);
    output::result(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
