//! Text in one of three spellings to one tree.

mod json;
mod toml;
#[cfg(feature = "yaml")]
mod yaml;

use std::path::Path;

use super::node::{Node, Position};

/// How a configuration is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.json`.
    Json,
    /// `.toml`.
    Toml,
    /// `.yaml` or `.yml`.
    Yaml,
}

/// Text that is not of its format.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) at: Position,
    pub(crate) message: String,
}

impl Format {
    /// The format that a file's extension names.
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "json" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// Reads `text` into a tree.
pub(crate) fn read(text: &str, format: Format) -> Result<Node, SyntaxError> {
    // A byte order mark is what some editors put in front; no format wants it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format {
        Format::Json => json::read(text),
        Format::Toml => toml::read(text),
        #[cfg(feature = "yaml")]
        Format::Yaml => yaml::read(text),
        #[cfg(not(feature = "yaml"))]
        Format::Yaml => Err(SyntaxError {
            at: Position { line: 1, column: 1 },
            message: "this build reads no YAML; write TOML or JSON, or build with the `yaml` feature"
                .to_owned(),
        }),
    }
}

/// Byte offsets to lines and columns.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|&start| start <= offset) - 1;
        let before = self.text.as_bytes()[self.starts[line]..offset]
            .iter()
            // Continuation bytes of UTF-8 are no characters of their own.
            .filter(|&&byte| byte & 0xC0 != 0x80)
            .count();
        Position {
            line: u32::try_from(line + 1).unwrap_or(u32::MAX),
            column: u32::try_from(before + 1).unwrap_or(u32::MAX),
        }
    }
}

/// Refuses a key that stands twice in one map.
fn duplicate(key: &str, at: Position) -> SyntaxError {
    SyntaxError { at, message: format!("the key `{key}` stands here for the second time") }
}
