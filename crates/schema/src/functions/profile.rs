//! What each vendor reads. Sources: OpenAI "Structured outputs" (supported schemas), Anthropic "Tool use", Gemini API `Schema`, Bedrock
//! `ToolInputSchema`, Ollama `api.Tool`; as published in autumn 2026.

use super::Vendor;

/// How far a vendor's words are from JSON Schema.
pub(super) enum Family {
    /// JSON Schema, with a few rules about its top.
    Open(Open),
    /// The tool as it is.
    Raw,
    /// A subset, into which a schema is rebuilt.
    Subset(Subset),
}

/// A vendor that reads JSON Schema.
pub(super) struct Open {
    /// Whether names of arguments must be letters, digits, `_`, `.`, `-`, at most 64.
    pub(super) plain_properties: bool,
}

/// A vendor that reads a subset.
pub(super) struct Subset {
    /// Every object is closed and every property required; what is optional may be `null`.
    pub(super) is_strict: bool,
    /// `nullable: true` instead of the type `null`.
    pub(super) says_nullable: bool,
    /// Only strings are listed in `enum`.
    pub(super) enum_of_strings: bool,
    /// Definitions and references are read, recursive ones too.
    pub(super) has_references: bool,
    /// An object must have properties.
    pub(super) needs_properties: bool,
    /// Keywords of strings, numbers and arrays that are read.
    pub(super) keywords: &'static [&'static str],
    /// Values of `format` that are read.
    pub(super) formats: &'static [&'static str],
    /// Levels of objects and lists.
    pub(super) max_depth: usize,
}

/// What the vendor reads.
pub(super) fn of(vendor: Vendor) -> Family {
    match vendor {
        Vendor::Mcp => Family::Raw,
        Vendor::OpenAi => Family::Open(Open { plain_properties: false }),
        Vendor::Anthropic | Vendor::Bedrock => Family::Open(Open { plain_properties: true }),
        Vendor::OpenAiStrict => Family::Subset(Subset {
            is_strict: true,
            says_nullable: false,
            enum_of_strings: false,
            has_references: true,
            needs_properties: false,
            keywords: &[
                "pattern",
                "multipleOf",
                "minimum",
                "maximum",
                "exclusiveMinimum",
                "exclusiveMaximum",
                "minItems",
                "maxItems",
            ],
            formats: &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"],
            max_depth: 10,
        }),
        Vendor::Gemini => Family::Subset(Subset {
            is_strict: false,
            says_nullable: true,
            enum_of_strings: true,
            has_references: false,
            needs_properties: true,
            keywords: &["pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems"],
            formats: &["date-time", "int32", "int64", "float", "double"],
            max_depth: 12,
        }),
        Vendor::Ollama => Family::Subset(Subset {
            is_strict: false,
            says_nullable: false,
            enum_of_strings: false,
            has_references: false,
            needs_properties: false,
            keywords: &[],
            formats: &[],
            max_depth: 12,
        }),
    }
}
