//! `batch`: many tools at once, answers in order, errors as values.

use std::io::Read;
use std::path::Path;

use mcp_proxy_engine::FunctionCall;
use serde_json::{Value, json};

use super::args::{BatchArgs, LogArgs};
use super::exit::{Exit, Failure};
use super::{output, source};

/// Bytes of a batch, at most.
const MAX_INPUT: u64 = 64 << 20;

pub(crate) async fn run(args: BatchArgs, log: &LogArgs) -> Result<Exit, Failure> {
    let calls = parse(&read(&args.file)?)?;
    let engine = source::start(&args.source, log).await?;
    source::snapshot(&engine, None)?;
    let names: Vec<String> = calls.iter().map(|call| call.function_name.clone()).collect();
    let answers = engine.execute_concurrent_functions(calls).await;
    engine.close().await;

    let mut exit = Exit::Done;
    for (name, answer) in names.into_iter().zip(answers) {
        let line = match answer {
            Ok(answer) => {
                if answer.is_error() && exit == Exit::Done {
                    exit = Exit::ToolFailed;
                }
                json!({ "tool": name, "result": answer.raw() })
            }
            Err(error) => {
                let failure = Failure::from(error);
                if matches!(exit, Exit::Done | Exit::ToolFailed) {
                    exit = failure.exit;
                }
                json!({ "tool": name, "error": { "message": failure.message } })
            }
        };
        output::result(&line.to_string())?;
    }
    Ok(exit)
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let outcome = if file == Path::new("-") {
        std::io::stdin().take(MAX_INPUT).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(MAX_INPUT).read_to_string(&mut text))
    };
    outcome.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    Ok(text)
}

/// One array, or one object a line.
fn parse(text: &str) -> Result<Vec<FunctionCall>, Failure> {
    const EXPECTED: &str = "expected {\"tool\": \"…\", \"arguments\": {…}}";
    let calls: Vec<FunctionCall> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text)
            .map_err(|error| Failure::usage(format!("the batch: {error}; {EXPECTED}")))?
    } else {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines
            .map(|(n, line)| {
                serde_json::from_str(line)
                    .map_err(|error| Failure::usage(format!("line {}: {error}; {EXPECTED}", n + 1)))
            })
            .collect::<Result<_, _>>()?
    };
    for (n, call) in calls.iter().enumerate() {
        if !matches!(serde_json::from_str(call.arguments.get()), Ok(Value::Object(_))) {
            return Err(Failure::usage(format!("call {}: \"arguments\" must be an object", n + 1)));
        }
    }
    Ok(calls)
}
