//! The modern era (2026-07-28): every request carries its own context.

use bytes::Bytes;
use http::StatusCode;
use mpe_mcp_protocol::header::named_member;
use mpe_mcp_protocol::jsonrpc::{Id, code};
use mpe_mcp_protocol::meta::key;
use mpe_mcp_protocol::version::{Era, ProtocolVersion};
use serde_json::value::RawValue;

use super::call::{self, Caller, Operation};
use super::events::Level;
use super::identity::META;
use super::listen::{self, Interest};
use super::listing::{Listed, Listings, Offers};
use super::routing::Relayed;
use super::rpc::{Answer, Refusal};
use super::{Asked, headers, passing_meta, reads_streams};
use crate::Body;
use crate::carrier::Carrier;
use crate::json::{Members, ObjectWriter, is_object, raw_value};
use crate::service::Inbound;

/// The methods of this era.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    CallTool,
    Discover,
    List(Listed),
    Listen,
    Relay(Relayed),
}

impl Method {
    /// The method of that name, where what it is about is offered.
    fn parse(name: &str, offers: Offers) -> Option<Self> {
        let method = match name {
            "completion/complete" if offers.completions => Self::Relay(Relayed::Complete),
            "prompts/get" if offers.prompts => Self::Relay(Relayed::GetPrompt),
            "resources/read" if offers.resources => Self::Relay(Relayed::ReadResource),
            "server/discover" => Self::Discover,
            "subscriptions/listen" => Self::Listen,
            "tools/call" => Self::CallTool,
            _ => return Listed::parse(name, offers).map(Self::List),
        };
        Some(method)
    }
}

/// A request whose context has been read and agrees with its headers.
struct Checked<'a> {
    version: ProtocolVersion,
    method: Method,
    params: &'a Members<'a>,
    meta: &'a Members<'a>,
}

/// Answers a modern request, given what it came to.
pub(crate) async fn answer(
    inbound: &Inbound,
    id: Id,
    prepared: Result<Prepared, Refusal>,
) -> http::Response<Body> {
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(refusal) => return refusal.into_response(Some(&id)),
    };
    match prepared {
        Prepared::Answer(answer) => answer.into_response(Some(&id)),
        Prepared::Call(caller, operation) => call::answer(inbound, caller, operation).await,
        Prepared::Listen(interest, capabilities) => {
            listen::modern(inbound, id, interest, capabilities.as_deref()).await
        }
    }
}

/// What a request came to once it was read.
pub(crate) enum Prepared {
    Answer(Answer),
    Call(Box<Caller>, Operation),
    Listen(Interest, Option<Box<RawValue>>),
}

/// Reads a request whose parameters have been taken apart; `None`: they are no object.
///
/// # Errors
/// Whatever is wrong with it, in the order that decides which error wins.
pub(super) fn prepare(
    inbound: &Inbound,
    request: &Asked<'_>,
    params: Option<Members<'_>>,
    meta: &Members<'_>,
) -> Result<Prepared, Refusal> {
    let params = params.ok_or_else(|| invalid("params is no object"))?;
    if let Some(name) = params.repeated() {
        return Err(invalid(format!("params.{name} stands there more than once")));
    }
    let checked = check(inbound, request, &params, meta)?;
    match checked.method {
        Method::CallTool => call_tool(inbound, request, &checked),
        Method::Discover => Ok(Prepared::Answer(discover(inbound))),
        Method::Listen => {
            let interest = listen::interest_of(&params, inbound.view.lists.offers())?;
            Ok(Prepared::Listen(interest, meta.get(key::CLIENT_CAPABILITIES).map(ToOwned::to_owned)))
        }
        Method::Relay(relayed) => {
            let operation = relayed.operation(inbound.view.catalogue(), &params)?;
            Ok(Prepared::Call(Box::new(caller(inbound, request, &checked)?), operation))
        }
        Method::List(listed) => {
            let page = listed.page(inbound, &params, Era::Modern)?;
            let head = Bytes::from_static(b"{\"resultType\":\"complete\",");
            let pieces = vec![head, page, Listings::modern_tail()];
            Ok(Prepared::Answer(Answer { status: StatusCode::OK, outcome: Ok(pieces) }))
        }
    }
}

/// The checks every request passes, in the order that decides which error wins.
fn check<'a>(
    inbound: &Inbound,
    request: &Asked<'_>,
    params: &'a Members<'a>,
    meta: &'a Members<'a>,
) -> Result<Checked<'a>, Refusal> {
    let compares = inbound.carrier != Some(Carrier::Message);
    let said = headers::single(&inbound.parts.headers, headers::PROTOCOL_VERSION)?;
    let version = meta.text(key::PROTOCOL_VERSION);
    if compares && said.is_none() && version.as_deref().is_none_or(is_modern) {
        let message = "the header MCP-Protocol-Version is missing";
        return Err(Refusal::new(code::HEADER_MISMATCH, message));
    }
    let Some(version) = version else {
        return Err(missing_meta(key::PROTOCOL_VERSION));
    };
    if !meta.get(key::CLIENT_CAPABILITIES).is_some_and(is_object) {
        return Err(missing_meta(key::CLIENT_CAPABILITIES));
    }
    if compares && said.is_some_and(|said| said != version) {
        let message = "the header MCP-Protocol-Version and _meta differ";
        return Err(Refusal::new(code::HEADER_MISMATCH, message));
    }
    let Some(version) = ProtocolVersion::parse(&version) else { return Err(unsupported(&version)) };
    let method = Method::parse(&request.method, inbound.view.lists.offers());
    // Legacy revisions do not know these headers; who writes one into `_meta` is served without them.
    if compares && version.era() == Era::Modern {
        let name = named_member(&request.method).and_then(|member| params.text(member));
        headers::check_standard(&inbound.parts.headers, &request.method, name.as_deref())?;
    }
    let method = method.ok_or_else(|| {
        Refusal::new(code::METHOD_NOT_FOUND, format!("there is no method {}", request.method))
    })?;
    Ok(Checked { version, method, params, meta })
}

fn call_tool(inbound: &Inbound, request: &Asked<'_>, checked: &Checked<'_>) -> Result<Prepared, Refusal> {
    let params = checked.params;
    let name = params.string("name").ok_or_else(|| invalid("params.name is no string"))?;
    let arguments = arguments(params)?;
    if inbound.carrier != Some(Carrier::Message)
        && checked.version.era() == Era::Modern
        && let Some(mirrored) = inbound.view.mirrored(&name)
    {
        headers::check_params(&inbound.parts.headers, mirrored, &arguments)?;
    }
    let caller = caller(inbound, request, checked)?;
    Ok(Prepared::Call(Box::new(caller), Operation::Tool { name, arguments }))
}

/// Who asks, from `_meta`.
fn caller(inbound: &Inbound, request: &Asked<'_>, checked: &Checked<'_>) -> Result<Caller, Refusal> {
    let meta = checked.meta;
    let level = match meta.get(key::LOG_LEVEL) {
        None => None,
        Some(_) => {
            let name = meta.string(key::LOG_LEVEL).unwrap_or_default();
            Some(Level::parse(&name).ok_or_else(|| invalid(format!("there is no log level `{name}`")))?)
        }
    };
    let input_responses = checked.params.get("inputResponses");
    if input_responses.is_some_and(|responses| !is_object(responses)) {
        return Err(invalid("params.inputResponses is no object"));
    }
    let request_state = match checked.params.get("requestState") {
        None => None,
        Some(_) => Some(
            checked
                .params
                .string("requestState")
                .ok_or_else(|| invalid("params.requestState is no string"))?,
        ),
    };
    Ok(Caller {
        endpoint: inbound.endpoint.clone(),
        id: request.id.clone(),
        version: checked.version,
        capabilities: meta.get(key::CLIENT_CAPABILITIES).map(ToOwned::to_owned),
        client_info: meta.get(key::CLIENT_INFO).map(ToOwned::to_owned),
        meta: passing_meta(meta),
        level,
        progress_token: progress_token(meta)?,
        input_responses: input_responses.map(ToOwned::to_owned),
        request_state,
        stream: reads_streams(inbound),
        session: None,
        session_id: None,
        deadline: inbound.deadline,
    })
}

/// The caller's progress token, as it wrote it.
///
/// # Errors
/// -32602 when it is neither string nor integer.
pub(super) fn progress_token(meta: &Members<'_>) -> Result<Option<Box<RawValue>>, Refusal> {
    let Some(token) = meta.get("progressToken") else { return Ok(None) };
    let json = token.get();
    let is_valid = json.starts_with('"') || json.parse::<i64>().is_ok();
    if is_valid {
        Ok(Some(token.to_owned()))
    } else {
        Err(invalid("_meta.progressToken is no string or integer"))
    }
}

/// The arguments of a tool call: an object, or none.
///
/// # Errors
/// -32602 for anything else.
pub(super) fn arguments(params: &Members<'_>) -> Result<Box<RawValue>, Refusal> {
    match params.get("arguments") {
        None => Ok(raw_value(b"{}".to_vec())),
        Some(arguments) if is_object(arguments) => Ok(arguments.to_owned()),
        Some(_) => Err(invalid("params.arguments is no object")),
    }
}

fn discover(inbound: &Inbound) -> Answer {
    let lists = &inbound.view.lists;
    let mut result = ObjectWriter::new();
    result.string("resultType", "complete").value("supportedVersions", &supported());
    result.raw("capabilities", lists.capabilities(Era::Modern).get());
    if let Some(instructions) = lists.instructions() {
        result.string("instructions", instructions);
    }
    result.raw("ttlMs", "0").string("cacheScope", "private").raw("_meta", &META);
    Answer::result(result.finish())
}

/// Every revision served here, newest first: a client that shares only a legacy one has to learn that.
fn supported() -> Vec<&'static str> {
    ProtocolVersion::ALL.iter().map(|version| version.as_str()).collect()
}

fn is_modern(version: &str) -> bool {
    ProtocolVersion::parse(version).is_none_or(|version| version.era() == Era::Modern)
}

fn unsupported(requested: &str) -> Refusal {
    let mut data = ObjectWriter::new();
    data.value("supported", &supported()).string("requested", requested);
    Refusal::new(code::UNSUPPORTED_PROTOCOL_VERSION, "the protocol version is not served here")
        .with_data(data.finish_raw())
}

fn missing_meta(key: &str) -> Refusal {
    invalid(format!("params._meta lacks {key}, or it has the wrong type"))
        .with_status(StatusCode::BAD_REQUEST)
}

/// -32602.
pub(super) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(code::INVALID_PARAMS, message)
}
