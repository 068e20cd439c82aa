//! Recognising an event by its shape.

use http::Request;
use mpe_gateway::Carrier;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::direct::{self, DirectEvent};
use crate::http_event;
use crate::{InvocationError, InvocationErrorKind};

/// An event, read as far as it takes to answer it.
#[derive(Debug)]
pub(crate) enum Event {
    /// Somebody invoked the function with a payload of their own.
    Direct(Box<DirectEvent>),
    /// A service relayed an HTTP request.
    Http {
        /// The request, body included.
        request: Box<Request<bytes::Bytes>>,
        /// The shape the reply must have.
        shape: HttpShape,
    },
}

/// The reply shapes of the services that relay HTTP requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpShape {
    /// Application Load Balancer; `multi_value` as the target group's attribute is set.
    LoadBalancer {
        /// Headers are lists, in the event and in the reply.
        multi_value: bool,
    },
    /// API Gateway proxy integration, payload 1.0.
    PayloadV1,
    /// Function URL and HTTP API, payload 2.0.
    PayloadV2,
}

/// The members that tell events apart. Everything else is skipped unread.
#[derive(Deserialize)]
struct Outline {
    version: Option<IgnoredAny>,
    #[serde(rename = "httpMethod")]
    http_method: Option<IgnoredAny>,
    #[serde(rename = "requestContext")]
    request_context: Option<ContextOutline>,
    jsonrpc: Option<IgnoredAny>,
    path: Option<IgnoredAny>,
    query: Option<IgnoredAny>,
    #[serde(alias = "function_name")]
    tool: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ContextOutline {
    elb: Option<IgnoredAny>,
    http: Option<IgnoredAny>,
}

impl Event {
    /// Reads an event.
    ///
    /// # Errors
    /// `UnknownEvent` naming what was expected, `InvalidEvent` naming the member that cannot be used.
    pub(crate) fn parse(payload: &RawValue) -> Result<Self, InvocationError> {
        let text = payload.get();
        if text.starts_with('[') {
            return direct::batch(text).map(Box::new).map(Self::Direct);
        }
        let outline: Outline = serde_json::from_str(text).map_err(|_| unknown(text))?;
        let http = |parsed: Result<Request<bytes::Bytes>, InvocationError>, shape| {
            let mut request = parsed?;
            request.extensions_mut().insert(Carrier::Http);
            Ok(Self::Http { request: Box::new(request), shape })
        };
        match &outline.request_context {
            Some(context) if context.elb.is_some() => {
                let (request, multi_value) = http_event::load_balancer(text)?;
                http(Ok(request), HttpShape::LoadBalancer { multi_value })
            }
            Some(context) if context.http.is_some() && outline.version.is_some() => {
                http(http_event::payload_v2(text), HttpShape::PayloadV2)
            }
            Some(_) if outline.http_method.is_some() => {
                http(http_event::payload_v1(text), HttpShape::PayloadV1)
            }
            _ if outline.jsonrpc.is_some() => direct::message(payload).map(Box::new).map(Self::Direct),
            _ if outline.path.is_some() => direct::route(text).map(Box::new).map(Self::Direct),
            _ if outline.tool.is_some() => direct::tool(text).map(Box::new).map(Self::Direct),
            _ if outline.query.is_some() => direct::graphql(text).map(Box::new).map(Self::Direct),
            _ => Err(unknown(text)),
        }
    }
}

/// What an event may look like, for those who sent something else.
const EXPECTED: &str = "expected a Function URL, API Gateway or load balancer event, or one of \
    {\"path\": \"get_user/123\"}, {\"tool\": \"name\", \"arguments\": {…}}, a list of those, \
    {\"query\": \"{ … }\"}, {\"jsonrpc\": \"2.0\", …}";

fn unknown(text: &str) -> InvocationError {
    let found = match serde_json::from_str::<outline_keys::Keys>(text) {
        Ok(keys) if keys.0.is_empty() => "an object without members".to_owned(),
        Ok(keys) => format!("an object with the members {}", keys.0.join(", ")),
        Err(_) => match text.as_bytes().first() {
            Some(b'"') => "a string".to_owned(),
            Some(b't' | b'f') => "a boolean".to_owned(),
            Some(b'n') => "null".to_owned(),
            Some(b'{') => "an object whose members repeat or have the wrong type".to_owned(),
            _ => "a number".to_owned(),
        },
    };
    InvocationError::new(InvocationErrorKind::UnknownEvent, format!("unknown event: {EXPECTED}; got {found}"))
}

/// The first few member names of an object, values skipped.
mod outline_keys {
    use std::fmt;

    use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

    const MAX_KEYS: usize = 8;
    const MAX_CHARS: usize = 40;

    pub(super) struct Keys(pub(super) Vec<String>);

    impl<'de> Deserialize<'de> for Keys {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(KeysVisitor)
        }
    }

    struct KeysVisitor;

    impl<'de> Visitor<'de> for KeysVisitor {
        type Value = Keys;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
            let mut keys = Vec::new();
            while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                if keys.len() < MAX_KEYS {
                    keys.push(key.chars().take(MAX_CHARS).collect());
                }
            }
            Ok(Keys(keys))
        }
    }
}

#[cfg(test)]
mod tests;
