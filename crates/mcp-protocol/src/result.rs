//! Results, read no further than an intermediary must.

use serde_json::value::RawValue;

use crate::jsonrpc::DecodeError;
use crate::object::{Object, array_of, string_of};

/// The `resultType` of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultType {
    /// `complete`, or absent as older peers leave it.
    Complete,
    /// `input_required`: the server wants input first.
    InputRequired,
    /// A value of an extension, such as `task`.
    Other(String),
}

/// What an intermediary reads of a `CallToolResult`.
#[derive(Clone, Debug)]
pub struct CallToolResult<'a> {
    /// The tool says it failed.
    pub is_error: bool,
    /// Which kind of result it is.
    pub result_type: ResultType,
    /// Whether the server wrote `resultType` itself.
    pub names_its_type: bool,
    /// Whether `_meta` is there.
    pub has_meta: bool,
    /// `structuredContent`, any JSON.
    pub structured_content: Option<&'a RawValue>,
    /// `content`, an array of blocks; `None` when absent.
    pub content: Option<&'a RawValue>,
}

impl<'a> CallToolResult<'a> {
    /// Reads the members in one pass; content and structured content stay unparsed.
    ///
    /// # Errors
    /// Invalid shape: no object, a repeated member, or an `isError` or `resultType` of the wrong type.
    pub fn peek(raw: &'a RawValue) -> Result<Self, DecodeError> {
        let object = Object::parse(raw).map_err(|error| error.within("result"))?;
        let is_error = match object.present("isError").map(RawValue::get) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(DecodeError::shape("result: \"isError\" must be a boolean")),
        };
        Ok(Self {
            is_error,
            result_type: result_type(&object)?,
            names_its_type: object.get("resultType").is_some(),
            has_meta: object.get("_meta").is_some(),
            structured_content: object.get("structuredContent"),
            content: object.present("content"),
        })
    }
}

fn result_type(object: &Object<'_>) -> Result<ResultType, DecodeError> {
    let named = object.string("resultType").map_err(|error| error.within("result"))?;
    Ok(match named.as_deref() {
        None | Some("complete") => ResultType::Complete,
        Some("input_required") => ResultType::InputRequired,
        Some(other) => ResultType::Other(other.to_owned()),
    })
}

/// The type of any result.
///
/// # Errors
/// Invalid shape: no object, or a `resultType` that is no string.
pub fn type_of(raw: &RawValue) -> Result<ResultType, DecodeError> {
    let object = Object::parse(raw).map_err(|error| error.within("result"))?;
    result_type(&object)
}

/// One thing a server asks for before it goes on.
#[derive(Clone, Debug)]
pub struct InputRequest<'a> {
    /// Under which key the answer is expected.
    pub key: String,
    /// What is asked: `elicitation/create`, `sampling/createMessage`, `roots/list`.
    pub method: String,
    /// Its params.
    pub params: Option<&'a RawValue>,
}

/// A result of type `input_required`.
#[derive(Clone, Debug)]
pub struct InputRequired<'a> {
    /// What is asked, in the order of the text.
    pub requests: Vec<InputRequest<'a>>,
    /// To be returned byte for byte.
    pub request_state: Option<String>,
}

impl<'a> InputRequired<'a> {
    /// Reads the result.
    ///
    /// # Errors
    /// Invalid shape: neither requests nor state, or requests that are not `{ key: { method, params } }`.
    pub fn parse(raw: &'a RawValue) -> Result<Self, DecodeError> {
        let object = Object::parse(raw).map_err(|error| error.within("result"))?;
        let requests = match object.present("inputRequests") {
            None => Vec::new(),
            Some(requests) => Object::parse(requests)
                .and_then(|requests| {
                    requests.iter().map(|(key, raw)| InputRequest::parse(key, raw)).collect()
                })
                .map_err(|error| error.within("inputRequests"))?,
        };
        let request_state = object.string("requestState")?.map(Into::into);
        if requests.is_empty() && request_state.is_none() {
            return Err(DecodeError::shape("input_required without inputRequests and without requestState"));
        }
        Ok(Self { requests, request_state })
    }
}

impl<'a> InputRequest<'a> {
    fn parse(key: &str, raw: &'a RawValue) -> Result<Self, DecodeError> {
        let object = Object::parse(raw).map_err(|error| error.within(key))?;
        let Some(method) = object.string("method").map_err(|error| error.within(key))? else {
            return Err(DecodeError::shape(format!("{key}: no \"method\"")));
        };
        Ok(Self { key: key.to_owned(), method: method.into_owned(), params: object.present("params") })
    }
}

/// A content block, for faces that show it.
#[derive(Clone, Debug)]
pub struct ContentBlock<'a> {
    /// The whole block.
    pub raw: &'a RawValue,
    /// What it is.
    pub kind: ContentKind<'a>,
}

/// What a content block is.
#[derive(Clone, Debug)]
pub enum ContentKind<'a> {
    /// Sound.
    Audio {
        /// Base64, unparsed.
        data: &'a RawValue,
        /// Media type.
        mime_type: String,
    },
    /// A picture.
    Image {
        /// Base64, unparsed.
        data: &'a RawValue,
        /// Media type.
        mime_type: String,
    },
    /// An embedded resource.
    Resource {
        /// `TextResourceContents` or `BlobResourceContents`, unparsed.
        resource: &'a RawValue,
    },
    /// A pointer to a resource.
    ResourceLink {
        /// Where it is.
        uri: String,
    },
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// A type this crate does not know, or a block that lacks what its type demands.
    Unknown,
}

impl<'a> ContentBlock<'a> {
    /// The blocks of a `content` array; `None` when it is no array.
    pub fn all(content: &'a RawValue) -> Option<Vec<Self>> {
        Some(array_of(content)?.into_iter().map(Self::parse).collect())
    }

    /// Reads one block. Never fails: what cannot be read is [`ContentKind::Unknown`].
    pub fn parse(raw: &'a RawValue) -> Self {
        Self { raw, kind: ContentKind::parse(raw).unwrap_or(ContentKind::Unknown) }
    }
}

impl<'a> ContentKind<'a> {
    fn parse(raw: &'a RawValue) -> Option<Self> {
        let object = Object::parse(raw).ok()?;
        let text = |name: &str| object.get(name).and_then(string_of).map(String::from);
        Some(match text("type")?.as_str() {
            "audio" => Self::Audio { data: object.get("data")?, mime_type: text("mimeType")? },
            "image" => Self::Image { data: object.get("data")?, mime_type: text("mimeType")? },
            "resource" => Self::Resource { resource: object.get("resource")? },
            "resource_link" => Self::ResourceLink { uri: text("uri")? },
            "text" => Self::Text { text: text("text")? },
            _ => Self::Unknown,
        })
    }
}

#[cfg(test)]
mod tests;
