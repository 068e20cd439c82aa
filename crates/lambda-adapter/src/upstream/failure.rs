//! What Lambda's refusals mean: whose fault, and could the function have run?

use std::error::Error as StdError;
use std::time::Duration;

use aws_sdk_lambda::config::http::HttpResponse;
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::operation::invoke::InvokeError;
use mpe_engine::CallErrorKind;
use mpe_engine::upstream::{Sent, UpstreamError};

use super::error;
use crate::MAX_PAYLOAD_BYTES;

/// Server-side errors that Lambda raises before any of the function's code runs (AWS Lambda API reference, "Invoke",
/// errors: "couldn't be invoked", "couldn't set up", "throttled … during initialization").
const NEVER_RAN: [&str; 17] = [
    "CodeArtifactUserDeletedException",
    "CodeArtifactUserFailedException",
    "CodeArtifactUserPendingException",
    "EC2AccessDeniedException",
    "EC2ThrottledException",
    "EFSMountConnectivityException",
    "EFSMountFailureException",
    "EFSMountTimeoutException",
    "ENILimitReachedException",
    "ENINotReadyException",
    "InvalidRuntimeException",
    "InvalidSecurityGroupIDException",
    "InvalidSubnetIDException",
    "InvalidZipFileException",
    "ResourceNotReadyException",
    "SnapStartNotReadyException",
    "SubnetIPAddressLimitReachedException",
];

/// The call is larger than Lambda accepts.
pub(super) fn too_large(bytes: usize) -> UpstreamError {
    let message =
        format!("the call has {bytes} bytes; a Lambda invocation carries at most {MAX_PAYLOAD_BYTES}");
    error(CallErrorKind::UpstreamProtocol, Sent::No, message)
}

/// The deadline passed while the function had the request, or while credentials were being found.
pub(super) fn deadline(function: &str) -> UpstreamError {
    let message = format!("the Lambda function {function} did not answer in time");
    error(CallErrorKind::DeadlineExceeded, Sent::Maybe, message)
}

/// What the SDK reported.
pub(super) fn of_sdk(failure: SdkError<InvokeError, HttpResponse>, function: &str) -> UpstreamError {
    let mut reported = match &failure {
        SdkError::ServiceError(refusal) => {
            let status = refusal.raw().status().as_u16();
            let mut reported = of_service(refusal.err().code(), status, refusal.err().message(), function);
            reported.retry_after = retry_after(refusal.raw());
            reported
        }
        SdkError::ConstructionFailure(_) => error(
            CallErrorKind::UpstreamAuth,
            Sent::No,
            format!("the Lambda function {function} cannot be called: no usable AWS credentials or region"),
        ),
        SdkError::DispatchFailure(_) if is_connect(&failure) => error(
            CallErrorKind::UpstreamUnreachable,
            Sent::No,
            format!("the Lambda service cannot be reached to call {function}"),
        ),
        SdkError::ResponseError(unreadable) if !unreadable.raw().status().is_success() => {
            of_service(None, unreadable.raw().status().as_u16(), None, function)
        }
        _ => error(
            CallErrorKind::UpstreamLost,
            Sent::Maybe,
            format!("the connection to the Lambda service was lost while {function} was being called"),
        ),
    };
    reported.source = Some(Box::new(failure));
    reported
}

fn of_service(code: Option<&str>, status: u16, words: Option<&str>, function: &str) -> UpstreamError {
    let (kind, sent) = match status {
        401 | 403 => (CallErrorKind::UpstreamAuth, Sent::No),
        404 => (CallErrorKind::UpstreamUnreachable, Sent::No),
        400..500 => (CallErrorKind::UpstreamStatus, Sent::No),
        _ if code.is_some_and(|code| NEVER_RAN.contains(&code)) => (CallErrorKind::UpstreamStatus, Sent::No),
        _ => (CallErrorKind::UpstreamStatus, Sent::Maybe),
    };
    let mut message = format!("Lambda refused to call {function}: status {status}");
    if let Some(code) = code {
        message.push_str(", ");
        message.push_str(code);
    }
    // Authorization errors name accounts, roles and policies: for the log only.
    if let Some(words) = words.filter(|_| kind != CallErrorKind::UpstreamAuth) {
        message.push_str(": ");
        message.extend(words.chars().take(300));
    }
    error(kind, sent, message)
}

fn retry_after(response: &HttpResponse) -> Option<Duration> {
    response.headers().get("retry-after")?.trim().parse().ok().map(Duration::from_secs)
}

/// Whether no connection was made, so that nothing can have been sent.
fn is_connect(failure: &(dyn StdError + 'static)) -> bool {
    let mut link = Some(failure);
    while let Some(cause) = link {
        if cause.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|error| error.is_connect()) {
            return true;
        }
        link = cause.source();
    }
    false
}
