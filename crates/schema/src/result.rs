//! What a tool's result comes to when it is one value, for every face that shows one.

use mpe_mcp_protocol::object::{Object, array_of, raw_of, string_of};
use serde_json::value::RawValue;

/// A `CallToolResult` as one value.
///
/// `structuredContent` counts first. Without it, one text block is its text (as JSON where the whole text is JSON), one image, audio
/// or embedded resource is itself, and anything else is the envelope `{"content":[…]}` with the blocks as the server wrote them.
#[derive(Clone, Debug)]
pub enum ResultValue {
    /// A JSON value, with its bytes.
    Json(Box<RawValue>),
    /// Something with a media type of its own.
    Media(Media),
    /// A text that is no JSON.
    Text(String),
}

/// An image, audio or embedded resource that is all a tool answers.
#[derive(Clone, Debug)]
pub struct Media {
    /// As the server calls it; `None` where it does not say.
    pub media_type: Option<String>,
    /// What it holds.
    pub content: MediaContent,
    /// The envelope it came in, for readers of JSON.
    pub envelope: Box<RawValue>,
}

/// What a medium holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaContent {
    /// Bytes in base64, not decoded yet.
    Base64(String),
    /// A text.
    Text(String),
}

impl ResultValue {
    /// Reads a result. What is no JSON object stands for itself.
    pub fn of(result: &RawValue) -> Self {
        let Some(members) = members(result) else { return Self::Json(result.to_owned()) };
        if let Some(structured) = members.last("structuredContent").filter(|raw| raw.get() != "null") {
            return Self::Json((*structured).to_owned());
        }
        let content = members.last("content");
        let envelope = || {
            let content = content.map_or("[]", RawValue::get);
            RawValue::from_string(format!(r#"{{"content":{content}}}"#)).expect("put together from JSON")
        };
        let blocks = content.and_then(array_of).unwrap_or_default();
        let alone = match blocks[..] {
            [block] => members_of_block(block, envelope),
            _ => None,
        };
        alone.unwrap_or_else(|| Self::Json(envelope()))
    }

    /// The value where everything is JSON: a text that is no JSON is a string, and a medium stays in its envelope.
    pub fn into_json(self) -> Box<RawValue> {
        match self {
            Self::Json(json) => json,
            Self::Media(media) => media.envelope,
            Self::Text(text) => raw_of(&text),
        }
    }
}

/// The value of a block that stands alone; `None` when it has none of its own.
fn members_of_block(block: &RawValue, envelope: impl FnOnce() -> Box<RawValue>) -> Option<ResultValue> {
    let block = members(block)?;
    let media = |media_type: Option<String>, content: MediaContent| {
        ResultValue::Media(Media { media_type, content, envelope: envelope() })
    };
    match string(&block, "type")?.as_str() {
        "text" => Some(text(string(&block, "text")?)),
        "image" | "audio" => {
            let data = string(&block, "data")?;
            Some(media(string(&block, "mimeType"), MediaContent::Base64(data)))
        }
        "resource" => {
            let resource = members(block.last("resource")?)?;
            let media_type = string(&resource, "mimeType");
            match (string(&resource, "text"), string(&resource, "blob")) {
                (Some(content), _) if media_type.is_none() => Some(text(content)),
                (Some(content), _) => Some(media(media_type, MediaContent::Text(content))),
                (None, Some(blob)) => Some(media(media_type, MediaContent::Base64(blob))),
                (None, None) => None,
            }
        }
        _ => None,
    }
}

/// A text, as JSON where all of it is.
fn text(text: String) -> ResultValue {
    match serde_json::from_str::<&RawValue>(&text) {
        Ok(json) => ResultValue::Json(json.to_owned()),
        Err(_) => ResultValue::Text(text),
    }
}

fn members(object: &RawValue) -> Option<Object<'_>> {
    Object::parse_any(object.get()).ok()
}

/// A member that is a string; of those that repeat, the last.
fn string(members: &Object<'_>, name: &str) -> Option<String> {
    members.last(name).and_then(string_of).map(String::from)
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{Media, MediaContent, ResultValue};

    fn of(result: &str) -> ResultValue {
        ResultValue::of(&RawValue::from_string(result.to_owned()).expect("JSON"))
    }

    fn json(result: &str) -> String {
        of(result).into_json().get().to_owned()
    }

    #[test]
    fn structured_content_counts_first_and_keeps_its_bytes() {
        let result = r#"{"content":[{"type":"text","text":"x"}],"structuredContent":{"n" : 1.50}}"#;
        assert_eq!(json(result), r#"{"n" : 1.50}"#);
    }

    #[test]
    fn one_text_is_json_where_all_of_it_is_json() {
        for (text, value) in [
            (r#" {\"id\": 12345678901234567890} "#, r#"{"id": 12345678901234567890}"#),
            ("{broken", r#""{broken""#),
            ("12", "12"),
            ("", r#""""#),
        ] {
            assert_eq!(json(&format!(r#"{{"content":[{{"type":"text","text":"{text}"}}]}}"#)), value);
        }
    }

    #[test]
    fn a_medium_alone_is_itself_and_its_envelope_where_all_is_json() {
        for (block, media_type, content) in [
            (
                r#"{"type":"image","data":"AQID","mimeType":"image/png"}"#,
                Some("image/png"),
                MediaContent::Base64("AQID".into()),
            ),
            (
                r#"{"type":"resource","resource":{"uri":"a:b","text":"<p>","mimeType":"text/html"}}"#,
                Some("text/html"),
                MediaContent::Text("<p>".into()),
            ),
            (
                r#"{"type":"resource","resource":{"uri":"a:b","blob":"AQID"}}"#,
                None,
                MediaContent::Base64("AQID".into()),
            ),
        ] {
            let result = format!(r#"{{"content":[{block}]}}"#);
            let ResultValue::Media(Media { media_type: found, content: held, .. }) = of(&result) else {
                panic!("no medium: {block}")
            };
            assert_eq!((found.as_deref(), held), (media_type, content));
            assert_eq!(json(&result), result);
        }
    }

    #[test]
    fn a_resource_of_text_without_a_media_type_is_its_text() {
        assert_eq!(
            json(r#"{"content":[{"type":"resource","resource":{"uri":"a:b","text":"x"}}]}"#),
            r#""x""#
        );
    }

    #[test]
    fn several_blocks_and_none_are_the_envelope() {
        for content in
            [r#"[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#, "[]", r#"[{"type":"odd"}]"#]
        {
            let result = format!(r#"{{"content":{content},"structuredContent":null,"other":1}}"#);
            assert_eq!(json(&result), format!(r#"{{"content":{content}}}"#));
        }
        assert_eq!(json("{}"), r#"{"content":[]}"#);
    }

    #[test]
    fn what_is_no_result_stands_for_itself() {
        for other in ["[1]", "null", "\"x\""] {
            assert_eq!(json(other), other);
        }
    }
}
