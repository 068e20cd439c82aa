//! From tools and mappings to operations.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use mpe_mcp_protocol::header::MirroredParams;
use mpe_mcp_protocol::tool::Tool;
use serde_json::Value;

use crate::local::{reference, resolve};
use crate::mapping::response_schema;
use crate::names::{identifier, unique};
use crate::operation::{Location, Method, Operation, Operations, Parameter, ResponseMapping};
use crate::path::{PathTemplate, Segment};
use crate::{SchemaError, SchemaErrorKind};

impl Operations {
    /// The operations of these tools, each with its tag (the upstream's key).
    ///
    /// A mapping's tool is the first literal segment of its path that names one. A path with variables is a GET: each variable is
    /// an argument, the other arguments are query parameters. A path without is a POST with the arguments as body. What
    /// cannot be mapped is left out and told in [`Operations::problems`].
    pub fn of<'a>(
        tools: impl IntoIterator<Item = (&'a Tool, &'a str)>,
        mappings: &[ResponseMapping],
    ) -> Self {
        let mut problems = Vec::new();
        let mut operations: Vec<Operation> = Vec::new();
        let mut by_name: HashMap<&str, (&Tool, &str)> = HashMap::new();
        for (tool, tag) in tools {
            if tool.name().is_empty() {
                problems.push(problem("a tool without a name has no path"));
                continue;
            }
            if by_name.contains_key(tool.name()) {
                problems.push(problem(&format!("tool `{}` is listed twice", tool.name())));
                continue;
            }
            by_name.insert(tool.name(), (tool, tag));
            operations.push(own(tool, tag));
        }
        let mut taken = HashMap::new();
        for mapping in mappings {
            match mapped(mapping, &by_name, &mut problems) {
                Ok(operation) => admit(operation, &mut taken, &mut operations, &mut problems),
                Err(error) => problems.push(error),
            }
        }
        describe_own_by_mapping(&mut operations);
        name(&mut operations);
        Self { operations, problems }
    }
}

/// The names of a schema's properties with their schemas, through references and `allOf`; the first mention wins.
pub(crate) fn properties<'a>(root: &'a Value, schema: &'a Value) -> Vec<(&'a str, &'a Value)> {
    let mut found = Vec::new();
    collect(root, schema, &mut |schema| {
        let members = schema.get("properties").and_then(Value::as_object);
        for (name, schema) in members.into_iter().flatten() {
            if !found.iter().any(|(other, _)| other == name) {
                found.push((name.as_str(), schema));
            }
        }
    });
    found
}

/// The names a schema requires, through references and `allOf`.
pub(crate) fn required<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a str> {
    let mut found = Vec::new();
    collect(root, schema, &mut |schema| {
        let names = schema.get("required").and_then(Value::as_array);
        for name in names.into_iter().flatten().filter_map(Value::as_str) {
            if !found.contains(&name) {
                found.push(name);
            }
        }
    });
    found
}

/// Visits `schema` and all it is joined with, each once, so that no web of references takes longer than it is large.
fn collect<'a>(root: &'a Value, schema: &'a Value, visit: &mut dyn FnMut(&'a Value)) {
    let mut seen: HashSet<*const Value> = HashSet::new();
    let mut waiting = vec![schema];
    while let Some(schema) = waiting.pop() {
        if !seen.insert(std::ptr::from_ref(schema)) {
            continue;
        }
        visit(schema);
        let parts = schema.get("allOf").and_then(Value::as_array);
        waiting.extend(parts.into_iter().flatten().rev());
        waiting.extend(reference(schema).and_then(|text| resolve(root, text)));
    }
}

fn own(tool: &Tool, tag: &str) -> Operation {
    Operation {
        id: tool.name().to_owned(),
        tool: tool.clone(),
        tag: tag.to_owned(),
        method: Method::Post,
        path: PathTemplate::of_tool(tool.name()),
        parameters: in_headers(tool),
        response: tool.output_schema().cloned(),
        mapped: false,
    }
}

fn mapped(
    mapping: &ResponseMapping,
    tools: &HashMap<&str, (&Tool, &str)>,
    problems: &mut Vec<SchemaError>,
) -> Result<Operation, SchemaError> {
    let path = &mapping.path;
    let (tool, tag) = tool_of(path, tools)?;
    refuse_taken(path)?;
    let mut parameters = parameters(path, tool)?;
    parameters.extend(in_headers(tool));
    let response = match response_schema(&mapping.response) {
        Ok(schema) => Some(schema),
        Err(error) => {
            problems.push(SchemaError { message: format!("{path}: response: {}", error.message), ..error });
            tool.output_schema().cloned()
        }
    };
    let is_get = path.variables().next().is_some();
    Ok(Operation {
        id: mapped_id(path, is_get),
        tool: tool.clone(),
        tag: tag.to_owned(),
        method: if is_get { Method::Get } else { Method::Post },
        path: path.clone(),
        parameters,
        response,
        mapped: true,
    })
}

fn tool_of<'a>(
    path: &PathTemplate,
    tools: &HashMap<&str, (&'a Tool, &'a str)>,
) -> Result<(&'a Tool, &'a str), SchemaError> {
    let literals = path.segments().iter().filter_map(|segment| match segment {
        Segment::Literal(text) => Some(text.as_str()),
        Segment::Variable(_) => None,
    });
    for literal in literals {
        if let Some(found) = tools.get(literal) {
            return Ok(*found);
        }
    }
    Err(problem(&format!(
        "{path}: no segment names a tool; write the tool's name as one segment, such as `/get_user/{{user_id}}`"
    )))
}

fn refuse_taken(path: &PathTemplate) -> Result<(), SchemaError> {
    let Some(Segment::Literal(first)) = path.segments().first() else {
        return Ok(());
    };
    let whole = path.segments().len() == 1 && FACES.contains(&first.as_str());
    if whole || TREES.contains(&first.as_str()) {
        return Err(problem(&format!(
            "{path}: the path belongs to the gateway; put a segment before `{first}`"
        )));
    }
    Ok(())
}

fn parameters(path: &PathTemplate, tool: &Tool) -> Result<Vec<Parameter>, SchemaError> {
    let variables: Vec<&str> = path.variables().collect();
    if variables.is_empty() {
        return Ok(Vec::new());
    }
    let root = tool.input_schema();
    let known = properties(root, root);
    let required = required(root, root);
    let mut parameters = Vec::new();
    for variable in &variables {
        let Some((name, schema)) = known.iter().find(|(name, _)| name == variable) else {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            return Err(problem(&format!(
                "{path}: variable `{variable}` is no argument of tool `{}`, whose arguments are: {}",
                tool.name(),
                if names.is_empty() { "none".to_owned() } else { names.join(", ") },
            )));
        };
        parameters.push(Parameter {
            name: (*name).to_owned(),
            location: Location::Path,
            header: None,
            required: true,
            schema: (*schema).clone(),
        });
    }
    for (name, schema) in known {
        if variables.contains(&name) {
            continue;
        }
        parameters.push(Parameter {
            name: name.to_owned(),
            location: Location::Query,
            header: None,
            required: required.contains(&name),
            schema: schema.clone(),
        });
    }
    Ok(parameters)
}

/// The arguments that a header may give: those annotated with `x-mcp-header` at the top. A tool whose annotations break a rule has none.
fn in_headers(tool: &Tool) -> Vec<Parameter> {
    let root = tool.input_schema();
    let Ok(mirrored) = MirroredParams::of(root) else { return Vec::new() };
    let mut parameters = Vec::new();
    for param in mirrored.iter() {
        let [name] = param.path.as_slice() else { continue };
        let schema = root.get("properties").and_then(|properties| properties.get(name));
        let Some(schema) = schema else { continue };
        parameters.push(Parameter {
            name: name.clone(),
            location: Location::Header,
            header: Some(format!("Mcp-Param-{}", param.header)),
            required: false,
            schema: schema.clone(),
        });
    }
    parameters
}

/// Takes a mapped operation in, unless an earlier one answers the same requests. `taken` holds the path of each method and shape.
fn admit(
    operation: Operation,
    taken: &mut HashMap<(Method, String), String>,
    operations: &mut Vec<Operation>,
    problems: &mut Vec<SchemaError>,
) {
    let path = operation.path.to_string();
    match taken.entry((operation.method, operation.path.shape())) {
        Entry::Occupied(first) => problems.push(problem(&format!(
            "{path}: matches the same requests as {}, which comes first",
            first.get()
        ))),
        Entry::Vacant(free) => {
            free.insert(path);
            operations.push(operation);
        }
    }
}

/// A tool without `outputSchema` answers at its own path what the operator said it answers at the mapped one.
fn describe_own_by_mapping(operations: &mut [Operation]) {
    let mut said: HashMap<String, Value> = HashMap::new();
    for operation in operations.iter().filter(|operation| operation.mapped) {
        if let Some(response) = &operation.response {
            said.entry(operation.tool.name().to_owned()).or_insert_with(|| response.clone());
        }
    }
    for operation in operations.iter_mut().filter(|operation| !operation.mapped) {
        if operation.response.is_none() {
            operation.response = said.get(operation.tool.name()).cloned();
        }
    }
}

/// Gives each operation its unique id; until then `id` is what it would like to be called.
fn name(operations: &mut [Operation]) {
    // A mapped id is told apart from a tool of that very name by its path.
    let ids = unique(operations.iter().map(|operation| operation.id.as_str()), MAX_ID_BYTES, identifier);
    for (operation, id) in operations.iter_mut().zip(ids) {
        operation.id = id;
    }
}

fn mapped_id(path: &PathTemplate, is_get: bool) -> String {
    let mut literals = Vec::new();
    let mut variables = Vec::new();
    for segment in path.segments() {
        match segment {
            Segment::Literal(text) => literals.push(text.as_str()),
            Segment::Variable(name) => variables.push(name.as_str()),
        }
    }
    if is_get {
        format!("{}_by_{}", literals.join("_"), variables.join("_and_"))
    } else {
        format!("post_{}", literals.join("_"))
    }
}

fn problem(message: &str) -> SchemaError {
    SchemaError { kind: SchemaErrorKind::Mapping, message: message.to_owned() }
}

/// Longest operation id: generated clients turn it into a function's name.
const MAX_ID_BYTES: usize = 120;

/// Paths of one segment that the gateway serves itself.
const FACES: [&str; 12] = [
    "batch",
    "docs",
    "graphql",
    "healthz",
    "livez",
    "mcp",
    "metrics",
    "openapi.json",
    "openapi.yaml",
    "performance",
    "plan",
    "readyz",
];

/// First segments under which everything belongs to the gateway.
const TREES: [&str; 2] = ["endpoints", "tools"];
