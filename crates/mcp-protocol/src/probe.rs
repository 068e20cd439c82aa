//! Finds out which era and revision a server speaks.
//!
//! The probe is always `server/discover`: harmless, and every modern server has it. Whatever a legacy server makes of
//! it (in the wild: -32601, -32602, 400 with -32000 and a null id, 400 with -32600, a 400 that is no JSON-RPC, or
//! silence on a pipe) leads to `initialize`, and over HTTP from there to the HTTP+SSE transport of 2024-11-05.
//!
//! Sources: 2026-07-28, Streamable HTTP and stdio "Backwards compatibility", versioning; 2025-11-25, transports.
//! [`Probe`] does no IO: do what [`Probe::step`] says, hand what was heard to [`Probe::hear`].

use serde_json::value::RawValue;

use crate::jsonrpc::{ErrorObject, code};
use crate::meta::key;
use crate::object::Object;
use crate::params::strings_of;
use crate::version::{Era, ProtocolVersion};

/// What carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// HTTP.
    Http,
    /// A child process's pipes.
    Stdio,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send `server/discover` in this revision.
    Discover(ProtocolVersion),
    /// Send `initialize`, naming this revision. After [`Step::OpenEventStream`]: to the endpoint it named.
    Initialize(ProtocolVersion),
    /// GET the URL and wait for the first event, `endpoint`.
    OpenEventStream,
}

/// What came of a step.
#[derive(Clone, Copy, Debug)]
pub enum Heard<'a> {
    /// The event stream is open and has named its endpoint.
    Endpoint,
    /// A JSON-RPC response to what was sent, or an error without an id.
    Reply {
        /// The HTTP status it came with; `None` over pipes.
        status: Option<u16>,
        /// The response.
        outcome: &'a Result<Box<RawValue>, ErrorObject>,
    },
    /// No answer in time. Over HTTP this says nothing about the era.
    Silence,
    /// An HTTP answer that holds no JSON-RPC response.
    Status(u16),
}

/// Where the probe stands.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The server speaks this.
    Found(Box<Found>),
    /// The server speaks nothing we speak; one sentence says why.
    Incompatible(String),
    /// Not known yet: take this step.
    Next(Step),
    /// The server wants credentials first. Nothing is known of its era; probe again with them.
    Unauthorized(u16),
    /// The server cannot answer now. Nothing is known of its era; probe again later.
    Unavailable(String),
}

/// How a server is spoken to over its carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP+SSE of 2024-11-05: one event stream, POST beside it.
    EventStream,
    /// Pipes.
    Stdio,
    /// Streamable HTTP.
    Streamable,
}

/// What the probe found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The revision to speak.
    pub version: ProtocolVersion,
    /// How.
    pub transport: Transport,
    /// What the server said of itself.
    pub server: ServerDescription,
}

/// The parts of a DiscoverResult or InitializeResult that an intermediary reads.
#[derive(Clone, Debug)]
pub struct ServerDescription {
    /// `capabilities`, as sent; `{}` when absent.
    pub capabilities: Box<RawValue>,
    /// `serverInfo`, as sent.
    pub server_info: Option<Box<RawValue>>,
    /// `instructions`.
    pub instructions: Option<String>,
}

impl ServerDescription {
    /// Whether a capability has a flag set, such as `listChanged` of `tools`.
    pub fn declares(&self, capability: &str, flag: &str) -> bool {
        let Ok(capabilities) = Object::parse(&self.capabilities) else { return false };
        let flags = capabilities.present(capability).and_then(|raw| Object::parse(raw).ok());
        flags.and_then(|flags| flags.get(flag)).is_some_and(|raw| raw.get() == "true")
    }
}

/// The state machine; see the module.
#[derive(Debug)]
pub struct Probe {
    carrier: Carrier,
    pinned: Option<ProtocolVersion>,
    step: Step,
    over_events: bool,
    /// Answers of -32022, or legacy "unsupported version", that were followed.
    renegotiated: u8,
}

/// How often a server may name us another revision before we stop believing it.
const MAX_RENEGOTIATIONS: u8 = 2;

impl Probe {
    /// A probe that finds out by itself, or one that asks for `pinned`. A legacy server may answer with an older
    /// revision, which is then spoken; a newer one or another era is refused.
    pub fn new(carrier: Carrier, pinned: Option<ProtocolVersion>) -> Self {
        let step = match pinned {
            None => Step::Discover(ProtocolVersion::LATEST),
            Some(version) if version.era() == Era::Modern => Step::Discover(version),
            Some(version) => Step::Initialize(version),
        };
        Self { carrier, pinned, step, over_events: false, renegotiated: 0 }
    }

    /// A probe that only repeats a handshake: the server has been found to speak the legacy era.
    pub fn handshake(carrier: Carrier, version: ProtocolVersion, pinned: Option<ProtocolVersion>) -> Self {
        Self { step: Step::Initialize(version), ..Self::new(carrier, pinned) }
    }

    /// What to do now.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Takes in what came of the step.
    pub fn hear(&mut self, heard: Heard<'_>) -> Verdict {
        let verdict = match self.step {
            Step::Discover(version) => self.after_discover(version, heard),
            Step::Initialize(version) => self.after_initialize(version, heard),
            Step::OpenEventStream => self.after_event_stream(heard),
        };
        if let Verdict::Next(step) = verdict {
            self.step = step;
        }
        verdict
    }

    fn after_discover(&mut self, version: ProtocolVersion, heard: Heard<'_>) -> Verdict {
        match heard {
            Heard::Reply { outcome: Ok(result), .. } => match supported_versions(result) {
                Some(supported) => self.choose(version, result, &supported),
                None => self.fall_back(),
            },
            Heard::Reply { outcome: Err(error), .. } if is_version_error(error) => {
                self.renegotiate(supported_in(error), error)
            }
            Heard::Reply { outcome: Err(error), .. } if is_modern_error(error) => {
                Verdict::Incompatible(format!("server/discover was refused: {}", told(error)))
            }
            Heard::Reply { status: Some(status), .. } | Heard::Status(status) if is_auth(status) => {
                Verdict::Unauthorized(status)
            }
            Heard::Reply { status: Some(status), .. } | Heard::Status(status) if is_passing(status) => {
                unavailable(status)
            }
            Heard::Silence if self.carrier == Carrier::Http => {
                Verdict::Unavailable("no answer to server/discover in time".to_owned())
            }
            Heard::Endpoint | Heard::Reply { .. } | Heard::Silence | Heard::Status(_) => self.fall_back(),
        }
    }

    /// A DiscoverResult: the newest revision that both sides speak.
    fn choose(&mut self, asked: ProtocolVersion, result: &RawValue, supported: &[String]) -> Verdict {
        // The revision that was asked for has just worked, whether the list names it or not.
        let modern = newest_common(supported, Some(Era::Modern)).unwrap_or(asked);
        let listed = supported.iter().any(|name| name == asked.as_str());
        if !listed && newest_common(supported, Some(Era::Modern)).is_none() {
            return match newest_common(supported, Some(Era::Legacy)) {
                Some(legacy) if self.pinned.is_none() => Verdict::Next(Step::Initialize(legacy)),
                _ => self.no_common(supported),
            };
        }
        match describe(result, true) {
            Some(server) => {
                Verdict::Found(Box::new(Found { version: modern, transport: self.transport(), server }))
            }
            None => Verdict::Incompatible("the result of server/discover is misshapen".to_owned()),
        }
    }

    fn renegotiate(&mut self, supported: Option<Vec<String>>, error: &ErrorObject) -> Verdict {
        let Some(supported) = supported else {
            return Verdict::Incompatible(format!(
                "the server names no revision it supports: {}",
                told(error)
            ));
        };
        self.renegotiated += 1;
        if self.renegotiated > MAX_RENEGOTIATIONS {
            return Verdict::Incompatible(format!(
                "the server refuses the revisions it names: {}",
                told(error)
            ));
        }
        let allowed = |version: &ProtocolVersion| self.pinned.is_none_or(|pinned| pinned == *version);
        match newest_common(&supported, None).filter(allowed) {
            Some(version) if version.era() == Era::Modern => Verdict::Next(Step::Discover(version)),
            Some(version) => Verdict::Next(Step::Initialize(version)),
            None => self.no_common(&supported),
        }
    }

    fn fall_back(&self) -> Verdict {
        match self.pinned {
            Some(pinned) => Verdict::Incompatible(format!(
                "the server does not answer server/discover, and revision {pinned} is configured"
            )),
            None => Verdict::Next(Step::Initialize(ProtocolVersion::LATEST_LEGACY)),
        }
    }

    fn after_initialize(&mut self, asked: ProtocolVersion, heard: Heard<'_>) -> Verdict {
        match heard {
            Heard::Reply { outcome: Ok(result), .. } => self.initialized(asked, result),
            Heard::Reply { outcome: Err(error), .. } if is_version_error(error) => {
                // A modern server that does not want us to begin this way.
                match supported_in(error).and_then(|supported| newest_common(&supported, Some(Era::Legacy))) {
                    Some(version) if version != asked && self.pinned.is_none() => {
                        self.renegotiate(supported_in(error), error)
                    }
                    _ => Verdict::Incompatible(format!("initialize was refused: {}", told(error))),
                }
            }
            Heard::Reply { status: Some(status), .. } | Heard::Status(status) if is_auth(status) => {
                Verdict::Unauthorized(status)
            }
            Heard::Reply { status: Some(status), .. } | Heard::Status(status) if is_passing(status) => {
                unavailable(status)
            }
            Heard::Reply { outcome: Err(error), .. } if is_modern_error(error) => {
                Verdict::Incompatible(format!("initialize was refused: {}", told(error)))
            }
            // 2025-11-25, transports, "Backwards compatibility".
            Heard::Reply { status: Some(400 | 404 | 405), .. } | Heard::Status(400 | 404 | 405)
                if self.carrier == Carrier::Http && !self.over_events =>
            {
                Verdict::Next(Step::OpenEventStream)
            }
            Heard::Reply { outcome: Err(error), .. } => match supported_in(error) {
                // Legacy servers say it with -32602 and the same data (2025-11-25, lifecycle).
                Some(supported) if self.pinned.is_none() => self.renegotiate(Some(supported), error),
                _ => Verdict::Incompatible(format!("initialize was refused: {}", told(error))),
            },
            Heard::Silence => Verdict::Unavailable("no answer to initialize in time".to_owned()),
            Heard::Endpoint => {
                Verdict::Incompatible("an event stream instead of an answer to initialize".to_owned())
            }
            Heard::Status(status) => {
                Verdict::Incompatible(format!("HTTP status {status} instead of an answer to initialize"))
            }
        }
    }

    fn initialized(&self, asked: ProtocolVersion, result: &RawValue) -> Verdict {
        let Some(server) = describe(result, false) else {
            return Verdict::Incompatible("the result of initialize is misshapen".to_owned());
        };
        let named =
            Object::parse(result).ok().and_then(|object| object.string("protocolVersion").ok().flatten());
        let Some(named) = named else {
            return Verdict::Incompatible("the result of initialize names no protocolVersion".to_owned());
        };
        match ProtocolVersion::parse(&named) {
            Some(version) if version.era() == Era::Legacy && self.pinned.is_none_or(|_| version <= asked) => {
                Verdict::Found(Box::new(Found { version, transport: self.transport(), server }))
            }
            Some(version) if version.era() == Era::Legacy => Verdict::Incompatible(format!(
                "the server answers initialize with revision {version}, and {asked} is configured"
            )),
            _ => Verdict::Incompatible(format!(
                "the server answers initialize with revision {named:?}, which is none we speak that way"
            )),
        }
    }

    fn after_event_stream(&mut self, heard: Heard<'_>) -> Verdict {
        match heard {
            Heard::Endpoint => {
                self.over_events = true;
                let version = self.pinned.unwrap_or(ProtocolVersion::V2024_11_05);
                Verdict::Next(Step::Initialize(version))
            }
            Heard::Status(status) if is_auth(status) => Verdict::Unauthorized(status),
            Heard::Status(status) if is_passing(status) => unavailable(status),
            Heard::Silence => Verdict::Unavailable("no event on the event stream in time".to_owned()),
            Heard::Reply { .. } | Heard::Status(_) => Verdict::Incompatible(
                "no MCP server: it answers neither server/discover nor initialize, and opens no event stream"
                    .to_owned(),
            ),
        }
    }

    fn transport(&self) -> Transport {
        match self.carrier {
            Carrier::Stdio => Transport::Stdio,
            Carrier::Http if self.over_events => Transport::EventStream,
            Carrier::Http => Transport::Streamable,
        }
    }

    fn no_common(&self, supported: &[String]) -> Verdict {
        let ours = match self.pinned {
            Some(pinned) => format!("{pinned} is configured"),
            None => "we speak none of them".to_owned(),
        };
        Verdict::Incompatible(format!("the server speaks {}; {ours}", supported.join(", ")))
    }
}

fn supported_versions(result: &RawValue) -> Option<Vec<String>> {
    strings_of(Object::parse(result).ok()?.get("supportedVersions")?)
}

fn supported_in(error: &ErrorObject) -> Option<Vec<String>> {
    strings_of(Object::parse(error.data.as_deref()?).ok()?.get("supported")?)
}

fn newest_common(supported: &[String], era: Option<Era>) -> Option<ProtocolVersion> {
    ProtocolVersion::ALL
        .into_iter()
        .filter(|version| era.is_none_or(|era| version.era() == era))
        .find(|version| supported.iter().any(|name| name == version.as_str()))
}

fn describe(result: &RawValue, modern: bool) -> Option<ServerDescription> {
    let object = Object::parse(result).ok()?;
    let in_meta = || {
        let meta = Object::parse(object.present("_meta")?).ok()?;
        meta.present(key::SERVER_INFO)
    };
    let server_info = object.present("serverInfo").or_else(|| modern.then(in_meta).flatten());
    Some(ServerDescription {
        capabilities: match object.present("capabilities") {
            Some(raw) if raw.get().starts_with('{') => raw.to_owned(),
            Some(_) => return None,
            None => RawValue::from_string("{}".to_owned()).ok()?,
        },
        server_info: server_info.map(ToOwned::to_owned),
        instructions: object.string("instructions").ok().flatten().map(Into::into),
    })
}

fn is_version_error(error: &ErrorObject) -> bool {
    error.code == code::UNSUPPORTED_PROTOCOL_VERSION
}

fn is_modern_error(error: &ErrorObject) -> bool {
    matches!(error.code, code::HEADER_MISMATCH | code::MISSING_CLIENT_CAPABILITY)
}

fn is_auth(status: u16) -> bool {
    matches!(status, 401 | 403)
}

/// Statuses that say something about the moment and nothing about the server.
fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

fn unavailable(status: u16) -> Verdict {
    Verdict::Unavailable(format!("HTTP status {status}"))
}

fn told(error: &ErrorObject) -> String {
    format!("error {}: {}", error.code, error.message)
}

#[cfg(test)]
mod tests;
