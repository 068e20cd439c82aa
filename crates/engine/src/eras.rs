//! What an upstream lists in one of its two eras only, and the callers who make the other era matter.
//!
//! An upstream is listed in the era it was found to speak, the modern one where it has it. As long as every caller speaks
//! that, there is nothing else. The first legacy caller has it listed in the legacy era too: what is listed there alone
//! joins the catalogue, and what is not listed there is remembered. From then on a request goes out in its caller's
//! era, unless only the other one knows what it asks for.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mpe_mcp_protocol::object::Object;
use mpe_mcp_protocol::version::Era;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::catalog::listing::Found;

/// How long after its last caller the legacy era of an upstream is still listed.
const MEMORY: Duration = Duration::from_secs(3600);

/// What is asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Prompt,
    Resource,
    Tool,
}

/// The names that one era alone lists. Empty for almost every server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Divide(HashMap<(Kind, String), Era>);

impl Divide {
    /// The only era that lists this; `None`: both do, or nobody has looked.
    pub(crate) fn only_in(&self, kind: Kind, name: &str) -> Option<Era> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(kind, name.to_owned())).copied()
    }

    /// Whether this came into a listing from the era that the server was not found in.
    fn is_foreign(&self, kind: Kind, name: &str, found_in: Era) -> bool {
        self.only_in(kind, name).is_some_and(|era| era != found_in)
    }
}

impl Found {
    /// The same with what was found in the other era alone behind it.
    pub(crate) fn joined_with(mut self, other: &Self) -> Self {
        let (here, there) = (self.introduction.version.era(), other.introduction.version.era());
        let mut join = |kind, member, found: &mut Vec<Box<RawValue>>, others: &[Box<RawValue>]| {
            let names_here: Vec<_> = found.iter().map(|raw| name_of(raw, member)).collect();
            let names_there: Vec<_> = others.iter().map(|raw| name_of(raw, member)).collect();
            let (ours, theirs) = (set(&names_here), set(&names_there));
            for name in ours.difference(&theirs) {
                self.divide.0.insert((kind, (*name).to_owned()), here);
            }
            for (raw, name) in others.iter().zip(&names_there) {
                if let Some(name) = name.as_deref().filter(|name| !ours.contains(name)) {
                    self.divide.0.insert((kind, name.to_owned()), there);
                    found.push(raw.clone());
                }
            }
        };
        join(Kind::Tool, "name", &mut self.tools, &other.tools);
        join(Kind::Prompt, "name", &mut self.prompts, &other.prompts);
        join(Kind::Resource, "uri", &mut self.resources, &other.resources);
        let templates_here: Vec<_> = self.templates.iter().map(|raw| name_of(raw, "uriTemplate")).collect();
        let is_new = |raw: &RawValue| !templates_here.contains(&name_of(raw, "uriTemplate"));
        self.templates.extend(other.templates.iter().filter(|raw| is_new(raw)).cloned());
        self
    }

    /// The same without what came from the other era: a later run has yet to meet a caller of it.
    pub(crate) fn of_one_era(mut self) -> Self {
        let here = self.introduction.version.era();
        let divide = std::mem::take(&mut self.divide);
        let keep = |kind, member, found: &mut Vec<Box<RawValue>>| {
            found
                .retain(|raw| !name_of(raw, member).is_some_and(|name| divide.is_foreign(kind, &name, here)));
        };
        keep(Kind::Tool, "name", &mut self.tools);
        keep(Kind::Prompt, "name", &mut self.prompts);
        keep(Kind::Resource, "uri", &mut self.resources);
        self
    }
}

fn name_of(raw: &RawValue, member: &str) -> Option<String> {
    Object::parse(raw).ok()?.string(member).ok()?.map(Into::into)
}

fn set(names: &[Option<String>]) -> std::collections::HashSet<&str> {
    names.iter().filter_map(Option::as_deref).collect()
}

/// Whether an upstream has met callers of the legacy era.
#[derive(Debug, Default)]
pub(crate) struct LegacyCallers {
    last: Mutex<Option<Instant>>,
    /// What they are offered has been looked into.
    is_looked_into: AtomicBool,
}

impl LegacyCallers {
    /// One is here.
    pub(crate) fn meet(&self) {
        *self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether any has been here lately.
    pub(crate) fn are_about(&self) -> bool {
        let last = *self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < MEMORY)
    }

    /// A discovery that knew of them has ended.
    pub(crate) fn looked(&self, knew: bool) {
        self.is_looked_into.store(knew, Ordering::Release);
    }

    pub(crate) fn is_looked_into(&self) -> bool {
        self.is_looked_into.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mpe_mcp_protocol::version::{Era, ProtocolVersion};
    use serde_json::json;

    use super::{Divide, Kind};
    use crate::catalog::listing::Found;
    use crate::upstream::Introduction;

    fn raws(values: &[serde_json::Value]) -> Vec<Box<serde_json::value::RawValue>> {
        values.iter().map(|value| serde_json::value::to_raw_value(value).unwrap()).collect()
    }

    fn found_in(version: ProtocolVersion, tools: &[serde_json::Value]) -> Found {
        Found {
            introduction: Introduction {
                version,
                capabilities: Arc::from(raws(&[json!({})]).remove(0)),
                server_info: None,
                instructions: None,
            },
            tools: raws(tools),
            prompts: Vec::new(),
            resources: Vec::new(),
            templates: Vec::new(),
            divide: Divide::default(),
        }
    }

    #[test]
    fn what_one_era_alone_lists_is_known_to_be_its_own() {
        let tools = [json!({ "name": "old" }), json!({ "name": "both", "title": "T" })];
        let other = Found {
            prompts: raws(&[json!({ "name": "p" })]),
            templates: raws(&[json!({ "uriTemplate": "x://{a}" })]),
            ..found_in(ProtocolVersion::LATEST_LEGACY, &tools)
        };
        let tools = [json!({ "name": "both" }), json!({ "name": "new" })];
        let joined = found_in(ProtocolVersion::LATEST, &tools).joined_with(&other);
        let names: Vec<_> = joined.tools.iter().map(|raw| raw.get()).collect();
        assert_eq!(names, [r#"{"name":"both"}"#, r#"{"name":"new"}"#, r#"{"name":"old"}"#]);
        assert_eq!(joined.divide.only_in(Kind::Tool, "both"), None);
        assert_eq!(joined.divide.only_in(Kind::Tool, "new"), Some(Era::Modern));
        assert_eq!(joined.divide.only_in(Kind::Tool, "old"), Some(Era::Legacy));
        assert_eq!(joined.divide.only_in(Kind::Prompt, "p"), Some(Era::Legacy));
        assert_eq!(joined.templates.len(), 1);
        let one = joined.of_one_era();
        assert_eq!((one.tools.len(), one.prompts.len(), one.divide), (2, 0, Divide::default()));
    }
}
