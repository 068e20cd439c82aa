//! Path templates such as `/get_user/{user_id}`.

use std::fmt;

use crate::{SchemaError, SchemaErrorKind};

/// A path such as `/forecast/{city}`.
///
/// Segments are literals or one whole variable; a variable name appears once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathTemplate {
    segments: Vec<Segment>,
}

/// One segment of a [`PathTemplate`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Matches itself. Held decoded: the `a b` of `/a%20b`.
    Literal(String),
    /// Matches one whole segment that is not empty.
    Variable(String),
}

impl PathTemplate {
    /// Reads a template.
    ///
    /// It begins with `/`, has no empty segment, no `?`, no `#`, and is at most [`MAX_TEMPLATE_BYTES`] long. Percent
    /// triplets in literals are decoded, so `/a%20b` matches a request's decoded `a b`.
    ///
    /// # Errors
    /// [`SchemaErrorKind::Path`](crate::SchemaErrorKind::Path) naming the byte offset of the first bad segment.
    pub fn parse(template: &str) -> Result<Self, SchemaError> {
        if template.len() > MAX_TEMPLATE_BYTES {
            return Err(bad(MAX_TEMPLATE_BYTES, "the template ends here at the latest"));
        }
        let Some(rest) = template.strip_prefix('/') else {
            return Err(bad(0, "expected `/`, with which every path begins"));
        };
        let mut segments = Vec::new();
        let mut offset = 1;
        for text in rest.split('/') {
            let segment = parse_segment(text, offset)?;
            if let Segment::Variable(name) = &segment {
                let twice = |earlier: &Segment| matches!(earlier, Segment::Variable(other) if other == name);
                if segments.iter().any(twice) {
                    return Err(bad(offset, &format!("variable `{name}` appears twice")));
                }
            }
            segments.push(segment);
            offset += text.len() + 1;
        }
        Ok(Self { segments })
    }

    /// The path `/tools/{tool}` of one tool.
    pub(crate) fn of_tool(tool: &str) -> Self {
        Self { segments: vec![Segment::Literal("tools".to_owned()), Segment::Literal(tool.to_owned())] }
    }

    /// The segments, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The variables' names, in order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Variable(name) => Some(name.as_str()),
        })
    }

    /// The variables' values when a request's path matches: name and value, in order of the template.
    ///
    /// `segments` are the pieces of the path between its slashes, split first and percent-decoded then, so that `%2F` stays
    /// inside its segment.
    pub fn captures<S: AsRef<str>>(&self, segments: &[S]) -> Option<Vec<(String, String)>> {
        if segments.len() != self.segments.len() {
            return None;
        }
        let mut captures = Vec::new();
        for (segment, text) in self.segments.iter().zip(segments) {
            let text = text.as_ref();
            match segment {
                Segment::Literal(literal) if literal != text => return None,
                Segment::Literal(_) => {}
                Segment::Variable(_) if text.is_empty() => return None,
                Segment::Variable(name) => captures.push((name.clone(), text.to_owned())),
            }
        }
        Some(captures)
    }

    /// Whether some request path matches both templates, and neither is the more specific one.
    pub fn is_ambiguous_with(&self, other: &Self) -> bool {
        self.shape() == other.shape()
    }

    /// The template without the names of its variables: equal for templates that match the same requests.
    pub(crate) fn shape(&self) -> String {
        let step = |segment: &Segment| match segment {
            Segment::Literal(text) => format!("/{}", text.replace('/', "%2F")),
            // No literal is empty.
            Segment::Variable(_) => "/".to_owned(),
        };
        self.segments.iter().map(step).collect()
    }
}

/// The template as [`PathTemplate::parse`] reads it; literals percent-encoded where RFC 3986 §3.3 asks for it.
impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            f.write_str("/")?;
            match segment {
                Segment::Literal(text) => write_encoded(text, f)?,
                Segment::Variable(name) => write!(f, "{{{name}}}")?,
            }
        }
        Ok(())
    }
}

/// Longest template, in bytes. No operator writes a longer one; a generated one is a mistake.
pub const MAX_TEMPLATE_BYTES: usize = 2048;

fn parse_segment(text: &str, offset: usize) -> Result<Segment, SchemaError> {
    if text.is_empty() {
        return Err(bad(offset, "expected a segment, found none"));
    }
    if let Some(inner) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        return parse_variable(inner, offset + 1);
    }
    for (at, c) in text.char_indices() {
        let reason = match c {
            '{' | '}' => "a variable is one whole segment, such as `{city}`",
            '?' | '#' => "a path has no query and no fragment",
            c if c.is_whitespace() || c.is_control() => "write white space as a percent triplet",
            _ => continue,
        };
        return Err(bad(offset + at, reason));
    }
    let literal = decode(text, offset)?;
    if literal == "." || literal == ".." {
        return Err(bad(offset, "clients remove the segments `.` and `..`"));
    }
    Ok(Segment::Literal(literal))
}

fn parse_variable(name: &str, offset: usize) -> Result<Segment, SchemaError> {
    if name.is_empty() {
        return Err(bad(offset, "expected the variable's name, found none"));
    }
    let alien = |c: char| matches!(c, '{' | '}' | '?' | '#' | '%') || c.is_whitespace() || c.is_control();
    if let Some(at) = name.find(alien) {
        return Err(bad(offset + at, "a variable's name has no braces, no white space and none of `?#%`"));
    }
    Ok(Segment::Variable(name.to_owned()))
}

fn decode(text: &str, offset: usize) -> Result<String, SchemaError> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            decoded.push(byte);
            at += 1;
            continue;
        }
        let digit = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) else {
            return Err(bad(offset + at, "expected two hexadecimal digits after `%`"));
        };
        decoded.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte"));
        at += 3;
    }
    String::from_utf8(decoded).map_err(|_| bad(offset, "the decoded segment is not UTF-8"))
}

fn write_encoded(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
        if plain {
            write!(f, "{}", char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

fn bad(offset: usize, reason: &str) -> SchemaError {
    SchemaError { kind: SchemaErrorKind::Path, message: format!("byte {offset}: {reason}") }
}

#[cfg(test)]
mod tests {
    use super::{PathTemplate, Segment};

    fn parse(template: &str) -> PathTemplate {
        PathTemplate::parse(template).expect("template")
    }

    #[test]
    fn a_template_reads_as_literals_and_variables() {
        let template = parse("/get_user/{user_id}/orders");
        assert_eq!(
            template.segments(),
            [
                Segment::Literal("get_user".to_owned()),
                Segment::Variable("user_id".to_owned()),
                Segment::Literal("orders".to_owned()),
            ]
        );
        assert_eq!(template.to_string(), "/get_user/{user_id}/orders");
    }

    #[test]
    fn a_bad_template_names_the_byte() {
        let cases = [
            ("", "byte 0: expected `/`"),
            ("get_user", "byte 0: expected `/`"),
            ("/", "byte 1: expected a segment"),
            ("/a//b", "byte 3: expected a segment"),
            ("/a/", "byte 3: expected a segment"),
            ("/a/{}", "byte 4: expected the variable's name"),
            ("/a/x{b}", "byte 4: a variable is one whole segment"),
            ("/a/{b}{c}", "byte 5: a variable's name has no braces"),
            ("/a/{b}/{b}", "byte 7: variable `b` appears twice"),
            ("/a?b=c", "byte 2: a path has no query"),
            ("/a b", "byte 2: write white space"),
            ("/a%2", "byte 2: expected two hexadecimal digits"),
            ("/%FF", "byte 1: the decoded segment is not UTF-8"),
            ("/a/..", "byte 3: clients remove"),
        ];
        for (template, expected) in cases {
            let message = PathTemplate::parse(template).expect_err(template).message;
            assert!(message.starts_with(expected), "{template}: {message}");
        }
    }

    #[test]
    fn an_encoded_literal_matches_the_decoded_request() {
        let template = parse("/a%2Fb%20c/{x}");
        assert_eq!(template.captures(&["a/b c", "1/2"]), Some(vec![("x".to_owned(), "1/2".to_owned())]));
        assert_eq!(template.to_string(), "/a%2Fb%20c/{x}");
        assert_eq!(parse(&template.to_string()), template);
    }

    #[test]
    fn another_length_another_literal_or_an_empty_variable_does_not_match() {
        let template = parse("/a/{x}");
        assert_eq!(template.captures(&["a"]), None);
        assert_eq!(template.captures(&["b", "1"]), None);
        assert_eq!(template.captures(&["a", ""]), None);
        assert_eq!(template.captures(&["a", "1", "2"]), None);
    }

    #[test]
    fn templates_are_ambiguous_when_only_variable_names_differ() {
        assert!(parse("/a/{x}").is_ambiguous_with(&parse("/a/{y}")));
        assert!(!parse("/a/{x}").is_ambiguous_with(&parse("/a/x")));
    }

    proptest::proptest! {
        #[test]
        fn no_template_panics_and_every_good_one_survives_display(text in "(/|[{}a-z%0-9 é.]){0,24}") {
            if let Ok(template) = PathTemplate::parse(&text) {
                proptest::prop_assert_eq!(parse(&template.to_string()), template);
            }
        }
    }
}
