//! One definition of every command: the parser and the help both read it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One command of `cargo xtask`.
pub(crate) struct Command {
    /// As typed.
    pub(crate) name: &'static str,
    /// One line for the list of commands.
    pub(crate) summary: &'static str,
    /// Positional arguments, as the usage line shows them; empty for none.
    pub(crate) operands: &'static str,
    /// Its flags, in the order of the help.
    pub(crate) flags: &'static [Flag],
    /// Everything typed after its name belongs to another program: all of it is operands.
    pub(crate) forwards: bool,
    /// What it does.
    pub(crate) run: fn(&Given) -> anyhow::Result<()>,
}

/// One flag of a command.
pub(crate) struct Flag {
    /// As typed, dashes included.
    pub(crate) name: &'static str,
    /// What its value is called; `None`: a switch.
    pub(crate) value: Option<&'static str>,
    /// One line for the help.
    pub(crate) help: &'static str,
}

/// What was typed.
#[derive(Debug, Default)]
pub(crate) struct Given {
    flags: BTreeMap<&'static str, String>,
    operands: Vec<String>,
}

/// What to do about it.
#[derive(Debug)]
pub(crate) enum Outcome<'a> {
    /// Print this.
    Help(String),
    /// Run this.
    Run(&'a Command, Given),
}

impl Given {
    /// Whether the switch was given.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.contains_key(flag)
    }

    /// The flag's value.
    pub(crate) fn value(&self, flag: &str) -> Option<&str> {
        self.flags.get(flag).map(String::as_str)
    }

    /// The positional arguments.
    pub(crate) fn operands(&self) -> &[String] {
        &self.operands
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Reads a command line, the program's name left out. Everything after `--` is an operand.
///
/// # Errors
/// One sentence naming the argument that cannot be understood and what would be.
pub(crate) fn parse(commands: &[Command], arguments: Vec<String>) -> Result<Outcome<'_>, String> {
    let mut arguments = arguments.into_iter();
    let Some(name) = arguments.next() else {
        return Ok(Outcome::Help(overview(commands)));
    };
    if is_help(&name) {
        return Ok(Outcome::Help(overview(commands)));
    }
    let Some(command) = commands.iter().find(|command| command.name == name) else {
        let known: Vec<_> = commands.iter().map(|command| command.name).collect();
        return Err(format!("no command `{name}`; there are {}", known.join(", ")));
    };
    if command.forwards {
        return Ok(Outcome::Run(command, Given { operands: arguments.collect(), ..Given::default() }));
    }
    let mut given = Given::default();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            given.operands.extend(arguments.by_ref());
        } else if is_help(&argument) {
            return Ok(Outcome::Help(help(command)));
        } else if argument.starts_with("--") {
            let (flag, value) = flag(command, &argument, &mut arguments)?;
            given.flags.insert(flag, value);
        } else {
            given.operands.push(argument);
        }
    }
    if command.operands.is_empty() && !given.operands.is_empty() {
        return Err(format!("`{name}` takes no argument `{}`\n\n{}", given.operands[0], help(command)));
    }
    Ok(Outcome::Run(command, given))
}

fn is_help(argument: &str) -> bool {
    matches!(argument, "-h" | "--help" | "help")
}

/// One `--flag`, `--flag VALUE` or `--flag=VALUE`.
fn flag(
    command: &Command,
    argument: &str,
    rest: &mut impl Iterator<Item = String>,
) -> Result<(&'static str, String), String> {
    let (name, inline) = match argument.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (argument, None),
    };
    let Some(flag) = command.flags.iter().find(|flag| flag.name == name) else {
        return Err(format!("`{}` has no flag `{name}`\n\n{}", command.name, help(command)));
    };
    match (flag.value, inline) {
        (None, None) => Ok((flag.name, String::new())),
        (None, Some(_)) => Err(format!("`{name}` takes no value")),
        (Some(_), Some(value)) => Ok((flag.name, value)),
        (Some(what), None) => {
            rest.next().map(|value| (flag.name, value)).ok_or_else(|| format!("`{name}` needs a {what}"))
        }
    }
}

fn overview(commands: &[Command]) -> String {
    let mut text = String::from("usage: cargo xtask COMMAND [FLAGS]\n\n");
    for command in commands {
        let _ = writeln!(text, "  {:<14} {}", command.name, command.summary);
    }
    text.push_str("\n`cargo xtask COMMAND --help` lists a command's flags.");
    text
}

fn help(command: &Command) -> String {
    let mut text = format!("usage: cargo xtask {}", command.name);
    for flag in command.flags {
        let _ = match flag.value {
            Some(value) => write!(text, " [{} {value}]", flag.name),
            None => write!(text, " [{}]", flag.name),
        };
    }
    if !command.operands.is_empty() {
        let _ = write!(text, " {}", command.operands);
    }
    let _ = write!(text, "\n\n{}\n", command.summary);
    for flag in command.flags {
        let left = format!("{} {}", flag.name, flag.value.unwrap_or_default());
        let _ = write!(text, "\n  {left:<22} {}", flag.help);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Command, Flag, Outcome, parse};

    const COMMANDS: &[Command] = &[
        Command {
            name: "plain",
            summary: "Takes nothing.",
            operands: "",
            flags: &[Flag { name: "--check", value: None, help: "Only look." }],
            forwards: false,
            run: |_| Ok(()),
        },
        Command {
            name: "rich",
            summary: "Takes everything.",
            operands: "[NAME...]",
            flags: &[Flag { name: "--out", value: Some("DIR"), help: "Where to." }],
            forwards: false,
            run: |_| Ok(()),
        },
        Command {
            name: "other",
            summary: "Runs another program.",
            operands: "[ARGUMENTS]",
            flags: &[],
            forwards: true,
            run: |_| Ok(()),
        },
    ];

    fn typed(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn error(line: &str) -> String {
        parse(COMMANDS, typed(line)).expect_err("must be refused")
    }

    #[test]
    fn values_stand_beside_the_flag_or_after_an_equals_sign() {
        for line in ["rich --out here a b", "rich --out=here a b", "rich a --out here b"] {
            let Ok(Outcome::Run(command, given)) = parse(COMMANDS, typed(line)) else {
                panic!("{line} must run");
            };
            assert_eq!(command.name, "rich");
            assert_eq!(given.value("--out"), Some("here"));
            assert_eq!(given.operands(), ["a", "b"]);
        }
    }

    #[test]
    fn everything_after_two_dashes_is_an_operand() {
        let Ok(Outcome::Run(_, given)) = parse(COMMANDS, typed("rich -- --out --help")) else {
            panic!("must run");
        };
        assert_eq!(given.operands(), ["--out", "--help"]);
        assert!(!given.has("--out"));
    }

    #[test]
    fn what_belongs_to_another_program_is_handed_on_as_typed() {
        let Ok(Outcome::Run(_, given)) = parse(COMMANDS, typed("other --help -- x --json=a")) else {
            panic!("must run");
        };
        assert_eq!(given.operands(), ["--help", "--", "x", "--json=a"]);
    }

    #[test]
    fn a_mistake_names_itself_and_what_there_is() {
        assert!(error("pain").contains("plain, rich, other"), "{}", error("pain"));
        assert!(error("plain --chekc").contains("no flag `--chekc`"));
        assert!(error("plain --check=yes").contains("takes no value"));
        assert!(error("plain extra").contains("takes no argument `extra`"));
        assert!(error("rich --out").contains("needs a DIR"));
    }

    #[test]
    fn help_lists_every_command_and_every_flag() {
        let Ok(Outcome::Help(all)) = parse(COMMANDS, Vec::new()) else { panic!("must help") };
        assert!(all.contains("plain") && all.contains("Takes everything."));
        let Ok(Outcome::Help(one)) = parse(COMMANDS, typed("rich --help")) else { panic!("must help") };
        assert!(one.contains("[--out DIR] [NAME...]") && one.contains("Where to."), "{one}");
    }
}
