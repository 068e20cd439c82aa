//! When a caller stops waiting, from wherever it may say so.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

use crate::carrier::Deadline;
use crate::problem::{Problem, ProblemType};

/// Longer waits than this are cut to it: the upstreams' own limits are far below.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the caller waits, in seconds.
const X_REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
/// The same among other preferences (RFC 7240).
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The earliest of what the carrier says, `X-Request-Timeout: SECONDS`, and `Prefer: wait=SECONDS` (RFC 7240 §4.3).
///
/// # Errors
/// 400 for a timeout that is no positive number of seconds. A preference that cannot be read is ignored, as its RFC says.
pub(crate) fn of(parts: &Parts) -> Result<Option<Instant>, Problem> {
    let carriers = parts.extensions.get::<Deadline>().map(|deadline| deadline.0);
    let asked = [timeout(&parts.headers)?, preferred(&parts.headers)];
    let asked = asked.into_iter().flatten().min().map(|wait| Instant::now() + wait.min(LONGEST));
    Ok(carriers.into_iter().chain(asked).min())
}

fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let Some(value) = headers.get(X_REQUEST_TIMEOUT) else { return Ok(None) };
    let seconds = value.to_str().ok().and_then(|text| text.trim().parse::<f64>().ok());
    let wait = seconds.filter(|seconds| *seconds > 0.0).and_then(|s| Duration::try_from_secs_f64(s).ok());
    match wait {
        Some(wait) => Ok(Some(wait)),
        None => {
            let detail = "the header X-Request-Timeout is no positive number of seconds";
            Err(Problem::new(ProblemType::BadRequest, detail))
        }
    }
}

fn preferred(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        // Names of any case, white space around `=` (RFC 7240 §2).
        .filter_map(|preference| preference.split(';').next()?.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .find_map(|(_, seconds)| seconds.trim().trim_matches('"').parse().ok())
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::of;
    use crate::carrier::Deadline;

    fn waits(headers: &[(&str, &str)], carriers: Option<u64>) -> Option<f64> {
        let mut request = http::Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        if let Some(seconds) = carriers {
            parts.extensions.insert(Deadline(Instant::now() + Duration::from_secs(seconds)));
        }
        Some((of(&parts).ok()?? - Instant::now()).as_secs_f64())
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_word_counts() {
        assert_eq!(
            waits(&[("x-request-timeout", "2.5"), ("prefer", "respond-async, wait=10")], Some(60)),
            Some(2.5)
        );
        assert_eq!(waits(&[("x-request-timeout", "20"), ("prefer", "wait=10")], None), Some(10.0));
        assert_eq!(waits(&[("prefer", "wait=10")], Some(3)), Some(3.0));
        assert_eq!(waits(&[("prefer", "respond-async, Wait = \"7\"; x")], None), Some(7.0));
        assert_eq!(waits(&[("x-request-timeout", "1e12")], None), Some(86_400.0));
        assert_eq!(waits(&[], None), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_that_is_none_is_refused_and_a_preference_ignored() {
        for bad in ["0", "-1", "soon", "NaN", "inf"] {
            let parts =
                http::Request::get("/").header("x-request-timeout", bad).body(()).unwrap().into_parts().0;
            assert!(of(&parts).is_err(), "{bad}");
        }
        assert_eq!(waits(&[("prefer", "wait=soon")], None), None);
    }
}
