//! What a client must have declared before a server may ask it for something.

use serde_json::value::RawValue;

use crate::object::Object;

/// Whether a server may send `method` with `params` to a client that declared these `ClientCapabilities`.
///
/// Elicitation by URL needs `elicitation.url`; by form, `elicitation` with `form` or with nothing in it (2025-11-25 and
/// 2026-07-28, client/elicitation). Sampling with tools needs `sampling.tools` (client/sampling).
///
/// # Errors
/// What the client did not declare, or that no server may ask for this at all.
pub fn may_ask(declared: Option<&RawValue>, method: &str, params: Option<&RawValue>) -> Result<(), String> {
    let declared = declared.and_then(|declared| Object::parse(declared).ok());
    let capability = |name: &str| declared.as_ref()?.present(name);
    let has = |holder: Option<&RawValue>, name: &str| {
        holder
            .and_then(|holder| Object::parse(holder).ok())
            .is_some_and(|object| object.present(name).is_some())
    };
    let needs = |is_there: bool, name: &str| match is_there {
        true => Ok(()),
        false => Err(format!("{method} needs the capability {name}, which the client did not declare")),
    };
    let params = params.and_then(|params| Object::parse(params).ok());
    match method {
        "roots/list" => needs(capability("roots").is_some(), "roots"),
        "sampling/createMessage" => {
            let sampling = capability("sampling");
            let uses_tools = params.is_some_and(|params| params.present("tools").is_some());
            match uses_tools {
                true => needs(has(sampling, "tools"), "sampling.tools"),
                false => needs(sampling.is_some(), "sampling"),
            }
        }
        "elicitation/create" => {
            let elicitation = capability("elicitation");
            let mode =
                params.and_then(|params| params.string("mode").ok().flatten().map(|mode| mode.into_owned()));
            match mode.as_deref() {
                Some("url") => needs(has(elicitation, "url"), "elicitation.url"),
                None | Some("form") => {
                    let by_form = has(elicitation, "form") || !has(elicitation, "url");
                    needs(elicitation.is_some() && by_form, "elicitation.form")
                }
                Some(other) => Err(format!("there is no elicitation by {other}")),
            }
        }
        _ => Err(format!("{method} is nothing that a server may ask a client for")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::may_ask;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn only_what_was_declared_is_asked_for() {
        for (declared, method, params, may) in [
            ("{}", "roots/list", "{}", false),
            (r#"{"roots":null}"#, "roots/list", "{}", false),
            (r#"{"roots":{}}"#, "roots/list", "{}", true),
            (r#"{"sampling":{}}"#, "sampling/createMessage", r#"{"messages":[]}"#, true),
            (r#"{"sampling":{}}"#, "sampling/createMessage", r#"{"tools":[]}"#, false),
            (r#"{"sampling":{"tools":{}}}"#, "sampling/createMessage", r#"{"tools":[]}"#, true),
            (r#"{"elicitation":{}}"#, "elicitation/create", r#"{"message":"m"}"#, true),
            (r#"{"elicitation":{}}"#, "elicitation/create", r#"{"mode":"form"}"#, true),
            (r#"{"elicitation":{}}"#, "elicitation/create", r#"{"mode":"url"}"#, false),
            (r#"{"elicitation":{"url":{}}}"#, "elicitation/create", r#"{"mode":"url"}"#, true),
            (r#"{"elicitation":{"url":{}}}"#, "elicitation/create", "{}", false),
            (r#"{"elicitation":{"form":{},"url":{}}}"#, "elicitation/create", "{}", true),
            (r#"{"elicitation":{"form":{}}}"#, "elicitation/create", r#"{"mode":"smell"}"#, false),
            (r#"{"roots":{},"sampling":{},"elicitation":{}}"#, "tools/call", "{}", false),
            (r#"{"roots":{}}"#, "notifications/cancelled", "{}", false),
        ] {
            let outcome = may_ask(Some(&raw(declared)), method, Some(&raw(params)));
            assert_eq!(outcome.is_ok(), may, "{declared} {method} {params}: {outcome:?}");
        }
        assert!(may_ask(None, "roots/list", None).is_err());
    }
}
