//! `docs/cli.md`, from the definition that also drives the parser and the help.

use std::fmt::Write;

use clap::{Arg, ArgAction, Command, CommandFactory};

use super::{PREAMBLE, row};
use crate::cli::args::Args;

pub(super) fn page() -> String {
    let mut root = Args::command();
    root.build();
    let mut page = format!("{PREAMBLE}\n\n# The command line\n\n");
    if let Some(about) = root.get_about() {
        let _ = writeln!(page, "{about}\n");
    }
    page.push_str(
        "Results go to standard output, everything else to standard error. Options of every command:\n\n",
    );
    arguments(&mut page, root.get_arguments().filter(|argument| argument.is_global_set()));
    if let Some(codes) = root.get_after_help() {
        let _ = writeln!(page, "```text\n{codes}\n```\n");
    }
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        describe(&mut page, command);
    }
    page
}

fn describe(page: &mut String, command: &Command) {
    let _ = writeln!(page, "## `{}`\n", command.get_name());
    if let Some(about) = command.get_about() {
        let _ = writeln!(page, "{about}.\n");
    }
    let usage = command.clone().render_usage().to_string();
    let _ = writeln!(page, "```text\n{}\n```\n", usage.trim_start_matches("Usage: "));
    arguments(page, command.get_arguments().filter(|argument| !argument.is_global_set()));
}

fn arguments<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let rows: String = arguments
        .filter(|argument| {
            !argument.is_hide_set() && argument.get_id() != "help" && argument.get_id() != "version"
        })
        .map(|argument| row([&format!("`{}`", spelling(argument)), &meaning(argument)]))
        .collect();
    if !rows.is_empty() {
        let _ = writeln!(page, "| | |\n|---|---|\n{rows}");
    }
}

fn spelling(argument: &Arg) -> String {
    let values: Vec<String> =
        argument.get_value_names().unwrap_or_default().iter().map(|name| format!("{name}")).collect();
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let value = if takes_value { values.join(" ") } else { String::new() };
    match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long} {value}").trim_end().to_owned(),
        (None, Some(long)) => format!("--{long} {value}").trim_end().to_owned(),
        _ => value,
    }
}

fn meaning(argument: &Arg) -> String {
    let mut meaning = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let possible: Vec<String> =
        argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if !possible.is_empty() && argument.get_action().takes_values() {
        let _ = write!(meaning, ": {}", possible.join(", "));
    }
    let defaults: Vec<String> =
        argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    if !defaults.is_empty() && argument.get_action().takes_values() {
        let _ = write!(meaning, ". Default: {}", defaults.join(", "));
    }
    if let Some(variable) = argument.get_env() {
        let _ = write!(meaning, ". Environment: `{}`", variable.to_string_lossy());
    }
    meaning
}
