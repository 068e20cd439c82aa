//! Request params: what belongs to the hop apart from what is passed on.

use serde_json::value::RawValue;

use crate::jsonrpc::DecodeError;
use crate::jsonrpc::encode::object_with;
use crate::meta::RequestMeta;
use crate::object::{Object, array_of};

/// Params of one request, `_meta` and the members of a multi-round exchange taken out.
#[derive(Clone, Debug, Default)]
pub struct RequestParams<'a> {
    /// `_meta`; empty when absent.
    pub meta: RequestMeta,
    /// Whether `_meta` was there.
    pub has_meta: bool,
    /// `inputResponses`, as sent.
    pub input_responses: Option<&'a RawValue>,
    /// `requestState`.
    pub request_state: Option<String>,
    /// Every member, those above included.
    pub members: Object<'a>,
}

impl<'a> RequestParams<'a> {
    /// Takes params apart; absent params read as an empty object.
    ///
    /// # Errors
    /// Invalid shape: no object, a repeated member, or a `_meta` or `requestState` of the wrong type.
    pub fn parse(raw: Option<&'a RawValue>) -> Result<Self, DecodeError> {
        let Some(raw) = raw else { return Ok(Self::default()) };
        let members = Object::parse(raw).map_err(|error| error.within("params"))?;
        let meta = members.get("_meta");
        Ok(Self {
            meta: meta.map(RequestMeta::parse).transpose()?.unwrap_or_default(),
            has_meta: meta.is_some(),
            input_responses: members.get("inputResponses"),
            request_state: members.string("requestState")?.map(Into::into),
            members,
        })
    }

    /// A required string member, such as `name` or `uri`.
    ///
    /// # Errors
    /// Invalid shape: absent, or no string.
    pub fn required(&self, name: &str) -> Result<std::borrow::Cow<'a, str>, DecodeError> {
        match self.members.string(name).map_err(|error| error.within("params"))? {
            Some(text) => Ok(text),
            None => Err(DecodeError::shape(format!("params: {name:?} is missing"))),
        }
    }

    /// The members that are passed on, each byte for byte: all but `_meta`, `inputResponses` and `requestState`.
    pub fn passed_on(&self) -> Box<RawValue> {
        let kept: Vec<_> = self.members.iter().filter(|(name, _)| !HOP.contains(name)).collect();
        object_with(None, &kept)
    }
}

const HOP: [&str; 3] = ["_meta", "inputResponses", "requestState"];

/// `notifications/progress` or another notification whose params name the call they belong to.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// Which request it is about.
    pub token: crate::jsonrpc::Id,
    /// How far it is.
    pub progress: f64,
    /// Every member but the token, to be passed on under another one.
    pub members: Object<'a>,
}

impl<'a> Progress<'a> {
    /// Reads the params of `notifications/progress`; `None` when the token or the progress is missing or misshapen.
    pub fn parse(params: Option<&'a RawValue>) -> Option<Self> {
        let members = Object::parse(params?).ok()?;
        let token = serde_json::from_str(members.get("progressToken")?.get()).ok()?;
        let progress: f64 = serde_json::from_str(members.get("progress")?.get()).ok()?;
        Some(Self { token, progress, members })
    }

    /// The params without the token, byte for byte.
    pub fn without_token(&self) -> Box<RawValue> {
        let kept: Vec<_> = self.members.iter().filter(|(name, _)| *name != "progressToken").collect();
        object_with(None, &kept)
    }
}

/// The strings of an array; elements of another type are left out. `None` when `raw` is no array.
pub fn strings_of(raw: &RawValue) -> Option<Vec<String>> {
    let elements = array_of(raw)?;
    Some(elements.into_iter().filter_map(|raw| crate::object::string_of(raw).map(Into::into)).collect())
}

#[cfg(test)]
mod tests;
