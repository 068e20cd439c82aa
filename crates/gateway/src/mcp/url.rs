//! Elicitation by URL, which names its visits in 2025-11-25 and does not in 2026-07-28.
//!
//! A legacy client gets an id made here, and is told when the upstream has gone on; a modern one is not shown the upstream's.
//! A legacy upstream may also end its call with -32042 and a list of URLs: a modern client gets them as questions, and its
//! retry runs the call again, as 2025-11-25 means it.

use mpe_mcp_protocol::jsonrpc::ErrorObject;
use serde_json::value::RawValue;

use crate::json::{Members, ObjectWriter};
use crate::seal::random_name;

/// The error of 2025-11-25 that asks for visits before the call can run.
const URL_ELICITATION_REQUIRED: i64 = -32042;

/// URLs that one such error may ask for.
const MAX_URLS: usize = 16;

/// The member that names a visit.
const ID: &str = "elicitationId";

/// The params of a question for a legacy client with an id for its visit, and that id. `None`: it is no question by URL, or
/// names its visit itself.
pub(crate) fn with_id(method: &str, params: Option<&RawValue>) -> Option<(Box<RawValue>, String)> {
    let members = by_url(method, params)?;
    if members.get(ID).is_some() {
        return None;
    }
    let id = random_name();
    let mut named = ObjectWriter::new();
    for (key, value) in members.iter() {
        named.raw(key, value.get());
    }
    named.string(ID, &id);
    Some((named.finish_raw(), id))
}

/// The params of a question for a modern client, without the id of its visit.
pub(crate) fn without_id(method: &str, params: Option<&RawValue>) -> Option<Box<RawValue>> {
    by_url(method, params).map(|members| unnamed(&members))
}

fn unnamed(members: &Members<'_>) -> Box<RawValue> {
    let mut kept = ObjectWriter::new();
    for (key, value) in members.iter().filter(|(key, _)| *key != ID) {
        kept.raw(key, value.get());
    }
    kept.finish_raw()
}

fn by_url<'a>(method: &str, params: Option<&'a RawValue>) -> Option<Members<'a>> {
    let members = Members::of(params.filter(|_| method == "elicitation/create")?)?;
    (members.string("mode").as_deref() == Some("url")).then_some(members)
}

/// The params of the notification that a visit is over.
pub(crate) fn completed(id: &str) -> Box<RawValue> {
    let mut params = ObjectWriter::new();
    params.string(ID, id);
    params.finish_raw()
}

/// The `inputRequests` that an upstream's -32042 amounts to.
pub(crate) fn required(rejection: &ErrorObject) -> Option<Box<RawValue>> {
    if rejection.code != URL_ELICITATION_REQUIRED {
        return None;
    }
    let data = Members::of(rejection.data.as_deref()?)?;
    let urls: Vec<&RawValue> = serde_json::from_str(data.get("elicitations")?.get()).ok()?;
    if urls.is_empty() || urls.len() > MAX_URLS {
        return None;
    }
    let mut requests = ObjectWriter::new();
    for (n, params) in urls.into_iter().enumerate() {
        let mut request = ObjectWriter::new();
        request.string("method", "elicitation/create").raw("params", unnamed(&Members::of(params)?).get());
        requests.raw(&format!("visit-{}", n + 1), request.finish_raw().get());
    }
    Some(requests.finish_raw())
}

/// Whether a client has declared that it can send somebody to a URL.
pub(crate) fn can_visit(capabilities: Option<&RawValue>) -> bool {
    let capabilities = capabilities.and_then(Members::of);
    let elicitation =
        capabilities.as_ref().and_then(|declared| declared.get("elicitation")).and_then(Members::of);
    elicitation.is_some_and(|elicitation| elicitation.get("url").is_some())
}

#[cfg(test)]
mod tests {
    use mpe_mcp_protocol::jsonrpc::ErrorObject;
    use serde_json::value::RawValue;

    use super::{can_visit, required, with_id, without_id};

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn only_a_question_by_url_is_touched() {
        let form = raw(r#"{"mode":"form","message":"m","requestedSchema":{}}"#);
        assert!(with_id("elicitation/create", Some(&form)).is_none());
        assert!(without_id("elicitation/create", Some(&form)).is_none());
        let url = raw(r#"{"mode":"url","message":"m","url":"https://example.com/"}"#);
        assert!(with_id("sampling/createMessage", Some(&url)).is_none());
        let (named, id) = with_id("elicitation/create", Some(&url)).unwrap();
        assert!(named.get().contains(&format!("\"elicitationId\":\"{id}\"")), "{}", named.get());
        assert_eq!(without_id("elicitation/create", Some(&named)).unwrap().get(), url.get());
        assert!(with_id("elicitation/create", Some(&named)).is_none(), "it has one");
    }

    #[test]
    fn an_error_that_asks_for_visits_becomes_questions() {
        let data = raw(
            r#"{"elicitations":[{"mode":"url","elicitationId":"e","url":"https://example.com/","message":"m"}]}"#,
        );
        let error = |code| ErrorObject { code, message: String::new(), data: Some(data.clone()) };
        let expected = r#"{"visit-1":{"method":"elicitation/create","params":{"mode":"url","url":"https://example.com/","message":"m"}}}"#;
        assert_eq!(required(&error(-32042)).unwrap().get(), expected);
        assert!(required(&error(-32041)).is_none());
        assert!(required(&ErrorObject { code: -32042, message: String::new(), data: None }).is_none());
    }

    #[test]
    fn a_client_that_declares_forms_only_is_sent_nowhere() {
        for (declared, can) in
            [(r#"{"elicitation":{}}"#, false), (r#"{"elicitation":{"url":{}}}"#, true), ("{}", false)]
        {
            assert_eq!(can_visit(Some(&raw(declared))), can, "{declared}");
        }
    }
}
