//! From tools to an executable schema.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_graphql::Value;
use async_graphql::dynamic::{
    Field, FieldFuture, FieldValue, Object, ResolverContext, Scalar, Schema, TypeRef,
};
use mpe_mcp_protocol::tool::Tool;
use serde_json::json;

use super::answer::{coded, field_error, field_value, raw};
use super::arguments::{Member, is_long, json as arguments_json};
use super::output::{Node, tell};
use super::types::{JSON, LONG, Types, prose};
use super::{MAX_CALLS, MAX_FIELD_DEPTH, MAX_FIELDS, ToolCaller};
use crate::names::{identifier, unique};
use crate::{SchemaError, SchemaErrorKind};

/// What one request may call, and how often it has.
pub(super) struct Calls {
    caller: Arc<dyn ToolCaller>,
    made: AtomicUsize,
}

impl Calls {
    pub(super) fn new(caller: Arc<dyn ToolCaller>) -> Self {
        Self { caller, made: AtomicUsize::new(0) }
    }
}

/// The schema of these tools.
pub(super) fn schema<'a>(tools: impl Iterator<Item = &'a Tool>) -> Result<Schema, SchemaError> {
    let tools: Vec<&Tool> = tools.collect();
    let names = unique(tools.iter().map(|tool| tool.name()), MAX_FIELD_BYTES, field_name);
    let mut types = Types::new();
    let mut query =
        Object::new("Query").description("Tools that change nothing.").field(list_of_tools(&tools, &names));
    let mut mutation = Object::new("Mutation").description("Tools that may change something.");
    let mut has_mutation = false;
    for (tool, name) in tools.iter().zip(&names) {
        let field = tool_field(tool, name, &mut types);
        if tool.annotations().read_only {
            query = query.field(field);
        } else {
            mutation = mutation.field(field);
            has_mutation = true;
        }
    }
    let mut builder = Schema::build("Query", has_mutation.then_some("Mutation"), None)
        .register(json_scalar())
        .register(long_scalar())
        .register(query)
        .limit_depth(MAX_FIELD_DEPTH)
        .limit_complexity(MAX_FIELDS);
    if has_mutation {
        builder = builder.register(mutation);
    }
    for listed in types.enums {
        builder = builder.register(listed);
    }
    for object in types.inputs {
        builder = builder.register(object);
    }
    for object in types.objects {
        builder = builder.register(object);
    }
    builder
        .finish()
        .map_err(|error| SchemaError { kind: SchemaErrorKind::Graphql, message: error.to_string() })
}

/// The name of a tool's field; `_tools` is ours.
fn field_name(tool: &str) -> String {
    let name = identifier(tool);
    if name == TOOLS { format!("{TOOLS}_") } else { name }
}

fn tool_field(tool: &Tool, name: &str, types: &mut Types) -> Field {
    let declared = types.arguments(name, tool.input_schema());
    let mut inputs = Vec::with_capacity(declared.len());
    let mut members = Vec::with_capacity(declared.len());
    for one in declared {
        inputs.push(one.input);
        members.push(one.member);
    }
    let output = tool.output_schema().and_then(|schema| types.output(name, schema));
    let plan = Arc::new(Plan { tool: tool.name().to_owned(), members, is_typed: output.is_some() });
    let type_ref = output.unwrap_or_else(|| TypeRef::named(JSON));
    let mut field = Field::new(name, type_ref, move |context| {
        let plan = Arc::clone(&plan);
        FieldFuture::new(async move {
            let outcome = plan.run(&context).await;
            Ok(outcome.map_err(|error| tell(&context, error)).ok())
        })
    });
    for input in inputs {
        field = field.argument(input);
    }
    match tool.description().or(tool.title()) {
        Some(text) => field.description(prose(text)),
        None => field,
    }
}

/// How the field of one tool is resolved.
struct Plan {
    tool: String,
    members: Vec<Member>,
    /// Whether the result has a type of its own.
    is_typed: bool,
}

impl Plan {
    async fn run(&self, context: &ResolverContext<'_>) -> async_graphql::Result<FieldValue<'static>> {
        let calls = context.data::<Calls>()?;
        let arguments = arguments_json(&self.members, context.args.as_index_map())
            .map_err(|message| coded("BAD_ARGUMENTS", &message))?;
        if calls.made.fetch_add(1, Ordering::Relaxed) >= MAX_CALLS {
            return Err(coded("TOO_MANY_CALLS", &format!("one request calls at most {MAX_CALLS} tools")));
        }
        let value = calls.caller.call(&self.tool, arguments).await.map_err(field_error)?;
        let json = field_value(&value.result)?;
        if !self.is_typed {
            return Ok(FieldValue::value(raw(&json)));
        }
        let (node, is_as_promised) = Node::whole(json);
        if let Err(error) = is_as_promised {
            tell(context, error);
        }
        Ok(FieldValue::owned_any(node))
    }
}

/// The field that every schema has: which tools there are and how they are called here.
fn list_of_tools(tools: &[&Tool], names: &[String]) -> Field {
    let list: Vec<serde_json::Value> = tools
        .iter()
        .zip(names)
        .map(|(tool, field)| {
            json!({
                "name": tool.name(),
                "field": field,
                "operation": if tool.annotations().read_only { "query" } else { "mutation" },
                "title": tool.title(),
                "description": tool.description(),
            })
        })
        .collect();
    let list = Value::from_json(list.into()).unwrap_or_default();
    Field::new(TOOLS, TypeRef::named_nn(JSON), move |_| FieldFuture::from_value(Some(list.clone())))
        .description("Every tool: its name, and the field that calls it.")
}

fn json_scalar() -> Scalar {
    Scalar::new(JSON)
        .description("Any JSON value, digit for digit.")
        .specified_by_url("https://www.rfc-editor.org/rfc/rfc8259")
}

fn long_scalar() -> Scalar {
    Scalar::new(LONG)
        .description("An integer of any size; clients that cannot write it send its digits as a string.")
        .validator(is_long)
}

const TOOLS: &str = "_tools";

/// Longest name of a tool's field.
const MAX_FIELD_BYTES: usize = 200;
