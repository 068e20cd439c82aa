//! Arguments with references in them.

use std::collections::{BTreeSet, HashMap};

use mpe_mcp_protocol::object::{Object, array_of, raw_of, string_of};
use mpe_mcp_protocol::pointer::escape;
use serde_json::value::RawValue;

use super::{PlanError, pointer};

/// JSON in which some parts stand for parts of results. What has no reference inside stays the bytes it was.
#[derive(Clone, Debug)]
pub(super) enum Template {
    Array(Vec<Template>),
    From {
        step: usize,
        pointer: String,
    },
    Item {
        pointer: String,
    },
    /// Other bytes than those that stand in the plan.
    Literal(Box<RawValue>),
    Object(Vec<(String, Template)>),
    Raw(Box<RawValue>),
}

/// What references stand for.
pub(super) struct Bindings<'a> {
    /// The value of each step that has one.
    pub(super) values: &'a [Option<Box<RawValue>>],
    /// The element that is being mapped.
    pub(super) item: Option<&'a RawValue>,
}

/// Bytes of one call's arguments, put together from a plan and from results. References multiply: a short plan could ask
/// for more than any machine has.
const MAX_FILLED: usize = 16 << 20;

impl Template {
    pub(super) fn empty_object() -> Self {
        Self::Object(Vec::new())
    }

    fn is_untouched(&self) -> bool {
        matches!(self, Self::Raw(_))
    }

    /// The template with every reference replaced.
    ///
    /// # Errors
    /// One sentence: a value has nothing at the pointer, or all together is too large.
    pub(super) fn fill(&self, bindings: &Bindings<'_>) -> Result<Box<RawValue>, String> {
        let mut text = String::new();
        self.write(bindings, &mut text)?;
        Ok(RawValue::from_string(text).expect("JSON put together from JSON is JSON"))
    }

    fn write(&self, bindings: &Bindings<'_>, text: &mut String) -> Result<(), String> {
        match self {
            Self::Array(parts) => {
                text.push('[');
                for (n, part) in parts.iter().enumerate() {
                    if n > 0 {
                        text.push(',');
                    }
                    part.write(bindings, text)?;
                }
                text.push(']');
            }
            Self::From { step, pointer } => {
                let value =
                    bindings.values[*step].as_deref().expect("a step runs when what it needs is there");
                push(text, found(value, pointer)?)?;
            }
            Self::Item { pointer } => {
                let item = bindings.item.expect("$item was refused outside a map");
                push(text, found(item, pointer)?)?;
            }
            Self::Object(members) => {
                text.push('{');
                for (n, (name, part)) in members.iter().enumerate() {
                    if n > 0 {
                        text.push(',');
                    }
                    text.push_str(raw_of(name).get());
                    text.push(':');
                    part.write(bindings, text)?;
                }
                text.push('}');
            }
            Self::Literal(raw) | Self::Raw(raw) => push(text, raw.get())?,
        }
        Ok(())
    }
}

fn push(text: &mut String, part: &str) -> Result<(), String> {
    if text.len() + part.len() > MAX_FILLED {
        return Err(format!("the arguments grow beyond {MAX_FILLED} bytes"));
    }
    text.push_str(part);
    Ok(())
}

fn found<'a>(value: &'a RawValue, pointer: &str) -> Result<&'a str, String> {
    pointer::find(value, pointer).map(RawValue::get).ok_or_else(|| format!("there is nothing at '{pointer}'"))
}

/// Reads templates and notes which steps they need.
pub(super) struct Reader<'a> {
    ids: &'a HashMap<String, usize>,
    /// Where in the plan we are.
    at: String,
    has_item: bool,
    needs: BTreeSet<usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(ids: &'a HashMap<String, usize>, at: String, has_item: bool) -> Self {
        Self { ids, at, has_item, needs: BTreeSet::new() }
    }

    /// Goes on with another part of the step.
    pub(super) fn enter(&mut self, at: String, has_item: bool) {
        self.at = at;
        self.has_item = has_item;
    }

    pub(super) fn into_needs(self) -> Vec<usize> {
        self.needs.into_iter().collect()
    }

    /// Depth is bounded by what [`Object::parse`] and `serde_json` accept.
    pub(super) fn read(&mut self, raw: &RawValue) -> Result<Template, PlanError> {
        match raw.get().as_bytes().first() {
            Some(b'[') => self.array(raw),
            Some(b'{') => self.object(raw),
            _ => Ok(Template::Raw(raw.to_owned())),
        }
    }

    fn array(&mut self, raw: &RawValue) -> Result<Template, PlanError> {
        let elements = array_of(raw).unwrap_or_default();
        let mut parts = Vec::with_capacity(elements.len());
        for (n, element) in elements.into_iter().enumerate() {
            parts.push(self.below(&n.to_string(), element)?);
        }
        let is_untouched = parts.iter().all(|part| part.is_untouched());
        Ok(if is_untouched { Template::Raw(raw.to_owned()) } else { Template::Array(parts) })
    }

    fn object(&mut self, raw: &RawValue) -> Result<Template, PlanError> {
        let object = Object::parse(raw).map_err(|error| PlanError::new(&*self.at, error.message))?;
        if let (1, Some((name, value))) = (object.len(), object.iter().next()) {
            match name {
                "$from" => return self.from(value),
                "$item" => return self.item(value),
                "$literal" => return Ok(Template::Literal(value.to_owned())),
                _ => {}
            }
        }
        let mut members = Vec::with_capacity(object.len());
        for (name, value) in object.iter() {
            members.push((name.to_owned(), self.below(&escape(name), value)?));
        }
        let is_untouched = members.iter().all(|(_, part)| part.is_untouched());
        Ok(if is_untouched { Template::Raw(raw.to_owned()) } else { Template::Object(members) })
    }

    fn below(&mut self, token: &str, raw: &RawValue) -> Result<Template, PlanError> {
        let length = self.at.len();
        self.at.push('/');
        self.at.push_str(token);
        let template = self.read(raw);
        if template.is_ok() {
            self.at.truncate(length);
        }
        template
    }

    fn from(&mut self, value: &RawValue) -> Result<Template, PlanError> {
        let reference = string_of(value)
            .ok_or_else(|| PlanError::new(&*self.at, "'$from' takes a string such as \"step#/pointer\""))?;
        let (id, pointer) = reference.split_once('#').unwrap_or((&reference, ""));
        let step =
            *self.ids.get(id).ok_or_else(|| PlanError::new(&*self.at, format!("there is no step '{id}'")))?;
        self.needs.insert(step);
        Ok(Template::From { step, pointer: self.pointer(pointer)? })
    }

    fn item(&mut self, value: &RawValue) -> Result<Template, PlanError> {
        if !self.has_item {
            return Err(PlanError::new(
                &*self.at,
                "'$item' has a meaning only in the arguments of a step with 'map'",
            ));
        }
        let pointer = string_of(value).ok_or_else(|| {
            PlanError::new(&*self.at, "'$item' takes a JSON Pointer, a string; \"\" is the whole")
        })?;
        Ok(Template::Item { pointer: self.pointer(&pointer)? })
    }

    fn pointer(&self, pointer: &str) -> Result<String, PlanError> {
        if pointer::is_valid(pointer) {
            return Ok(pointer.to_owned());
        }
        Err(PlanError::new(&*self.at, format!("'{pointer}' is no JSON Pointer (RFC 6901)")))
    }
}
