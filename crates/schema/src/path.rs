//! Path templates such as `/get_user/{user_id}`.

use crate::SchemaError;

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
    /// Matches itself.
    Literal(String),
    /// Matches one whole segment.
    Variable(String),
}

impl PathTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// [`SchemaErrorKind::Path`](crate::SchemaErrorKind::Path) naming the byte offset of the first bad segment.
    pub fn parse(template: &str) -> Result<Self, SchemaError> {
        let _ = template;
        todo!()
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
}
