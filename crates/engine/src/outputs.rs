//! Looks whether results keep to their tool's `outputSchema`. A result that does not is passed on all the same, and counted.
//!
//! Unless the operator wants every result looked at before it is handed on, a few are, in the background: one at a time and
//! at most ten a second per upstream, so that the looking costs calls nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mpe_mcp_protocol::object::Object;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::debug;

use crate::handle::Handle;
use crate::{ArgumentChecker, CatalogueTool, Violation};

/// The least time between two looks in the background.
const PAUSE: Duration = Duration::from_millis(100);

/// Paces the looks in the background.
#[derive(Debug)]
pub(crate) struct Pace {
    began: Instant,
    /// Milliseconds from `began` to when the next look may begin.
    next: AtomicU64,
    is_looking: AtomicBool,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), next: AtomicU64::new(0), is_looking: AtomicBool::new(false) }
    }

    /// Leave to look once.
    fn may_look(&self) -> bool {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now < self.next.load(Ordering::Relaxed) || self.is_looking.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.next.store(now.saturating_add(PAUSE.as_millis() as u64), Ordering::Relaxed);
        true
    }
}

/// A look in the background; over when dropped.
struct Looking(Arc<Handle>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.outputs.is_looking.store(false, Ordering::Release);
    }
}

/// Looks at a complete result. Returns what is wrong with it, where the operator wants to know at once.
pub(crate) fn look(handle: &Arc<Handle>, tool: &CatalogueTool, result: &RawValue) -> Vec<Violation> {
    let Some(checker) = &tool.output_checker else { return Vec::new() };
    if handle.config.check_outputs {
        return judge(handle, &tool.original_name, checker, result);
    }
    if handle.outputs.may_look() {
        let (handle, name) = (Arc::clone(handle), Arc::clone(&tool.original_name));
        let (checker, result) = (Arc::clone(checker), result.to_owned());
        // The handle counts its holders: an upstream is not closed before this has ended.
        tokio::task::spawn_blocking(move || {
            let looking = Looking(handle);
            judge(&looking.0, &name, &checker, &result);
        });
    }
    Vec::new()
}

fn judge(
    handle: &Handle,
    tool: &str,
    checker: &Arc<dyn ArgumentChecker>,
    result: &RawValue,
) -> Vec<Violation> {
    let violations = violations(checker, result);
    handle.meters.outputs_checked.increment(1);
    if let Some(first) = violations.first() {
        handle.meters.output_violations.increment(1);
        debug!(
            upstream = %handle.config.key,
            tool,
            pointer = first.pointer,
            message = first.message,
            "a result breaks its tool's output schema"
        );
    }
    violations
}

/// A tool with an `outputSchema` must give structured content (MCP 2025-06-18 and later, server/tools, "Output Schema").
fn violations(checker: &Arc<dyn ArgumentChecker>, result: &RawValue) -> Vec<Violation> {
    let structured =
        Object::parse(result).ok().and_then(|result| result.get("structuredContent").map(RawValue::to_owned));
    match structured {
        Some(structured) => checker.check(&structured),
        None => vec![Violation {
            pointer: String::new(),
            message: "the result has no structured content, which the tool's output schema demands"
                .to_owned(),
        }],
    }
}
