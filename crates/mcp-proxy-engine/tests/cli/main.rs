//! The command as a shell sees it: output, messages, exit codes.
#![allow(clippy::unwrap_used, reason = "tests say what they expect by unwrapping it")]

mod commands;
#[cfg(feature = "yaml")]
mod examples;
mod keeping;
mod login;
mod scripted;
mod serve;
mod served;
mod sources;

use assert_cmd::Command;

/// The command, deaf to the settings of whoever runs the tests.
fn command() -> Command {
    let mut command = Command::cargo_bin("mcp-proxy-engine").unwrap();
    command.timeout(std::time::Duration::from_secs(60));
    command.env_remove("MPE_CONFIG").env_remove("MPE_LOG").env_remove("MPE_LOG_FORMAT");
    command
}

/// What a run came to: exit code, standard output, standard error.
fn run(args: &[&str], stdin: &str) -> (i32, String, String) {
    let output = command().args(args).write_stdin(stdin).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}
