//! `call`: one tool.

use std::io::Read;

use mcp_proxy_engine::engine::Catalogue;
use mcp_proxy_engine::{Answer, FunctionCall};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::args::{CallArgs, LogArgs};
use super::exit::{Exit, Failure};
use super::{output, source};

/// Bytes of arguments on standard input, at most.
const MAX_INPUT: u64 = 64 << 20;

pub(crate) async fn run(args: CallArgs, log: &LogArgs) -> Result<Exit, Failure> {
    let engine = source::start(&args.source, log).await?;
    let snapshot = source::snapshot(&engine, args.endpoint.as_deref())?;
    let arguments = arguments(&args.tool, &args.arguments, &snapshot.catalogue)?;
    let call = FunctionCall {
        function_name: args.tool.clone(),
        arguments,
        endpoint_id: args.endpoint,
        timeout: args.timeout,
    };
    let outcome = engine.execute(call).await;
    let answer = match outcome {
        Ok(answer) => answer,
        Err(error) => {
            let mut failure = Failure::from(error);
            if let Some(nearest) = nearest(&args.tool, &snapshot.catalogue) {
                let end = failure.message.find('\n').unwrap_or(failure.message.len());
                failure.message.insert_str(end, &format!("; did you mean `{nearest}`?"));
            }
            engine.close().await;
            return Err(failure);
        }
    };
    let printed = print(&answer, args.json);
    engine.close().await;
    printed?;
    Ok(if answer.is_error() { Exit::ToolFailed } else { Exit::Done })
}

fn print(answer: &Answer, as_json: bool) -> Result<(), Failure> {
    let text = if as_json {
        answer.raw().get().to_owned()
    } else {
        match answer.value() {
            Value::String(text) => text,
            value => output::json(&value),
        }
    };
    if answer.is_error() && !as_json {
        output::error(&format!("the tool failed: {text}"));
        return Ok(());
    }
    Ok(output::result(&text)?)
}

/// The arguments object.
fn arguments(tool: &str, words: &[String], catalogue: &Catalogue) -> Result<Box<RawValue>, Failure> {
    let text = match words {
        [] => "{}".to_owned(),
        [word] if word == "-" => {
            let mut text = String::new();
            std::io::stdin()
                .take(MAX_INPUT)
                .read_to_string(&mut text)
                .map_err(|error| Failure::system(format!("standard input: {error}")))?;
            text
        }
        [word] if word.trim_start().starts_with('{') => word.clone(),
        words => return from_pairs(tool, words, catalogue),
    };
    let value: &RawValue = serde_json::from_str(text.trim())
        .map_err(|error| Failure::usage(format!("the arguments are not JSON: {error}")))?;
    if !value.get().starts_with('{') {
        return Err(Failure::usage(
            "the arguments must be one JSON object, such as '{\"user_id\": \"123\"}'",
        ));
    }
    Ok(value.to_owned())
}

/// `key=value` and `key:=json`: a value is text where the tool takes text, else JSON where it is JSON, else text.
fn from_pairs(tool: &str, words: &[String], catalogue: &Catalogue) -> Result<Box<RawValue>, Failure> {
    let schema = catalogue.tool(tool).map(|tool| tool.tool.input_schema());
    let mut arguments = Map::new();
    for word in words {
        let (key, value) = word.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
            Failure::usage(format!("`{word}`: expected `key=value`, `key:=json`, or one JSON object"))
        })?;
        let (key, value) = match key.strip_suffix(':') {
            Some(key) => {
                let value = serde_json::from_str(value)
                    .map_err(|error| Failure::usage(format!("`{key}:=…` is not JSON: {error}")))?;
                (key, value)
            }
            None => {
                let kind = schema.and_then(|schema| schema.pointer(&format!("/properties/{key}/type")));
                let is_text = kind.is_some_and(|kind| kind == "string");
                let text = || Value::String(value.to_owned());
                (key, if is_text { text() } else { serde_json::from_str(value).unwrap_or_else(|_| text()) })
            }
        };
        if arguments.insert(key.to_owned(), value).is_some() {
            return Err(Failure::usage(format!("`{key}` is given twice")));
        }
    }
    serde_json::value::to_raw_value(&arguments)
        .map_err(|error| Failure::usage(format!("the arguments cannot be written as JSON: {error}")))
}

/// The name most like an unknown one.
fn nearest<'a>(name: &str, catalogue: &'a Catalogue) -> Option<&'a str> {
    if catalogue.tool(name).is_some() {
        return None;
    }
    catalogue
        .tools()
        .iter()
        .map(|tool| (strsim::damerau_levenshtein(name, tool.tool.name()), tool.tool.name()))
        .filter(|(distance, _)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}
