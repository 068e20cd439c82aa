//! Requests other than tool calls: which upstream answers, and under which name it knows what is asked for.

use mpe_engine::Catalogue;
use mpe_mcp_protocol::jsonrpc::code;
use serde_json::value::RawValue;

use super::call::Operation;
use super::modern::invalid;
use super::rpc::Refusal;
use crate::json::{Members, ObjectWriter};

/// A request that one upstream answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relayed {
    Complete,
    GetPrompt,
    ReadResource,
}

impl Relayed {
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Complete => "completion/complete",
            Self::GetPrompt => "prompts/get",
            Self::ReadResource => "resources/read",
        }
    }

    /// The request, addressed.
    ///
    /// # Errors
    /// -32602 for a prompt or resource nobody has, and for params without the member that names it.
    pub(crate) fn operation(self, catalogue: &Catalogue, params: &Members<'_>) -> Result<Operation, Refusal> {
        match self {
            Self::Complete => complete(catalogue, params),
            Self::GetPrompt => {
                let name = params.string("name").ok_or_else(|| invalid("params.name is no string"))?;
                let (upstream, original) = prompt(catalogue, &name)?;
                let params = Some(passing_params(params, "name", &original));
                Ok(Operation::Relay { upstream, method: self.method(), params, name })
            }
            Self::ReadResource => {
                let uri = params.string("uri").ok_or_else(|| invalid("params.uri is no string"))?;
                let (upstream, original) = resource(catalogue, &uri)?;
                let params = Some(passing_params(params, "uri", &original));
                Ok(Operation::Relay { upstream, method: self.method(), params, name: uri })
            }
        }
    }
}

/// A completion goes to whoever has the prompt or the template it is for.
fn complete(catalogue: &Catalogue, params: &Members<'_>) -> Result<Operation, Refusal> {
    let reference =
        params.get("ref").and_then(Members::of).ok_or_else(|| invalid("params.ref is no object"))?;
    let (upstream, member, original) = match reference.string("type").as_deref() {
        Some("ref/prompt") => {
            let name = reference.string("name").ok_or_else(|| invalid("params.ref.name is no string"))?;
            let (upstream, original) = prompt(catalogue, &name)?;
            (upstream, "name", original)
        }
        Some("ref/resource") => {
            let uri = reference.string("uri").ok_or_else(|| invalid("params.ref.uri is no string"))?;
            let template =
                catalogue.resource_templates().iter().find(|template| *template.uri_template == *uri);
            let (upstream, original) = match template {
                Some(template) => (template.upstream.clone(), template.original_template.to_string()),
                None => resource(catalogue, &uri)?,
            };
            (upstream, "uri", original)
        }
        _ => return Err(invalid("params.ref.type is neither `ref/prompt` nor `ref/resource`")),
    };
    let mut passed = ObjectWriter::new();
    for (key, value) in params.iter().filter(|(key, _)| *key != "_meta") {
        if key == "ref" {
            passed.raw("ref", renamed(&reference, member, &original).get());
        } else {
            passed.raw(key, value.get());
        }
    }
    let params = Some(passed.finish_raw());
    Ok(Operation::Relay { upstream, method: Relayed::Complete.method(), params, name: original })
}

/// Who has the prompt, and its name there. An unlisted one goes to the upstream whose names are untouched, if there is
/// only that one.
fn prompt(catalogue: &Catalogue, name: &str) -> Result<(mpe_engine::UpstreamKey, String), Refusal> {
    match (catalogue.prompt(name), catalogue.transparent()) {
        (Some(prompt), _) => Ok((prompt.upstream.clone(), prompt.original_name.to_string())),
        (None, Some(upstream)) => Ok((upstream.clone(), name.to_owned())),
        (None, None) => Err(invalid(format!("there is no prompt `{name}`"))),
    }
}

/// Who has the resource, and its URI there.
pub(crate) fn resource(
    catalogue: &Catalogue,
    uri: &str,
) -> Result<(mpe_engine::UpstreamKey, String), Refusal> {
    match catalogue.resolve_uri(uri) {
        Some((upstream, original)) => Ok((upstream.clone(), original.into_owned())),
        None => {
            let mut data = ObjectWriter::new();
            data.string("uri", uri);
            let refusal = Refusal::new(code::INVALID_PARAMS, format!("there is no resource {uri}"));
            Err(refusal.with_data(data.finish_raw()))
        }
    }
}

/// `params` as the upstream is to get them: without `_meta` and the members of a multi-round request, which the engine
/// adds from the call's context, and with the name it knows.
fn passing_params(params: &Members<'_>, member: &str, original: &str) -> Box<RawValue> {
    let mut kept = ObjectWriter::new();
    for (key, value) in params.iter() {
        match key {
            "_meta" | "inputResponses" | "requestState" => {}
            key if key == member => {
                kept.string(member, original);
            }
            key => {
                kept.raw(key, value.get());
            }
        }
    }
    kept.finish_raw()
}

fn renamed(reference: &Members<'_>, member: &str, original: &str) -> Box<RawValue> {
    let mut renamed = ObjectWriter::new();
    for (key, value) in reference.iter() {
        if key == member {
            renamed.string(member, original);
        } else {
            renamed.raw(key, value.get());
        }
    }
    renamed.finish_raw()
}
