//! What a refusal says: `WWW-Authenticate` (RFC 9110 §11.6.1), read for its bearer challenge.

use std::collections::BTreeSet;

use http::StatusCode;
use http::header::{HeaderMap, WWW_AUTHENTICATE};

/// The parameters of a bearer challenge that we act upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::upstream) struct Challenge {
    /// RFC 9728 §5.1.
    pub(super) resource_metadata: Option<String>,
    /// RFC 6750 §3.
    pub(super) scope: Option<String>,
    pub(super) error: Option<String>,
}

/// What a server wants before it does anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum Demand {
    /// A token that reaches further.
    Scope(Challenge),
    /// A token, or another one.
    Token(Challenge),
}

impl Demand {
    /// What a response demands, if it is a refusal that a token can cure.
    pub(in crate::upstream) fn of(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        match status {
            StatusCode::UNAUTHORIZED => Some(Self::Token(Challenge::of(headers))),
            StatusCode::FORBIDDEN => {
                let challenge = Challenge::of(headers);
                let is_about_scope = challenge.error.as_deref() == Some("insufficient_scope");
                is_about_scope.then_some(Self::Scope(challenge))
            }
            _ => None,
        }
    }
}

impl Challenge {
    /// The bearer challenge among all others; empty when there is none.
    pub(in crate::upstream) fn of(headers: &HeaderMap) -> Self {
        let mut challenge = Self::default();
        let values = headers.get_all(WWW_AUTHENTICATE).iter();
        for value in values.filter_map(|value| value.to_str().ok()) {
            let mut is_ours = false;
            for element in elements(value) {
                let (scheme, parameter) = split(element);
                if let Some(scheme) = scheme {
                    is_ours = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("dpop");
                }
                let Some((name, text)) = parameter.filter(|_| is_ours) else { continue };
                let place = match name.to_ascii_lowercase().as_str() {
                    "error" => &mut challenge.error,
                    "resource_metadata" => &mut challenge.resource_metadata,
                    "scope" => &mut challenge.scope,
                    _ => continue,
                };
                place.get_or_insert_with(|| unquoted(text));
            }
        }
        challenge
    }
}

/// The comma-separated elements, commas within quotes left alone.
fn elements(value: &str) -> Vec<&str> {
    let (mut found, mut start, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => {
                found.push(value[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(value[start..].trim());
    found
}

/// An element: a scheme where a challenge begins, and a parameter.
fn split(element: &str) -> (Option<&str>, Option<(&str, &str)>) {
    let parameter = |text: &'_ str| -> Option<(usize, usize)> {
        let equals = text.find('=')?;
        Some((equals, equals + 1))
    };
    let (scheme, rest) = match element.split_once([' ', '\t']) {
        // `scheme name=value`, and not `name = value`.
        Some((first, rest)) if !first.contains('=') && !rest.trim_start().starts_with('=') => {
            (Some(first), rest.trim_start())
        }
        None if !element.contains('=') => (Some(element), ""),
        _ => (None, element),
    };
    (scheme, parameter(rest).map(|(end, from)| (rest[..end].trim(), rest[from..].trim())))
}

fn unquoted(text: &str) -> String {
    let Some(inside) = text.strip_prefix('"') else { return text.to_owned() };
    let inside = inside.strip_suffix('"').unwrap_or(inside);
    let mut plain = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

/// Scopes as a set: order and repetition mean nothing (RFC 6749 §3.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scopes(BTreeSet<String>);

impl Scopes {
    pub(super) fn of(text: Option<&str>) -> Self {
        Self(text.unwrap_or_default().split_whitespace().map(str::to_owned).collect())
    }

    pub(super) fn and(mut self, others: &Self) -> Self {
        self.0.extend(others.0.iter().cloned());
        self
    }

    pub(super) fn holds(&self, others: &Self) -> bool {
        others.0.is_subset(&self.0)
    }

    pub(super) fn contains(&self, scope: &str) -> bool {
        self.0.contains(scope)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As a request's `scope`; `None` when there is none to ask for.
    pub(super) fn text(&self) -> Option<String> {
        let all: Vec<&str> = self.0.iter().map(String::as_str).collect();
        (!all.is_empty()).then(|| all.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

    use super::{Challenge, Scopes};

    fn of(values: &[&'static str]) -> Challenge {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        Challenge::of(&headers)
    }

    #[test]
    fn the_bearer_challenge_is_found_among_others() {
        let challenge = of(&[
            r#"Basic realm="a, scope=\"x\"", Bearer realm="b", scope="one two", error=invalid_token"#,
            r#"Negotiate, Bearer resource_metadata="https://x/y?z=1""#,
        ]);
        assert_eq!(challenge.scope.as_deref(), Some("one two"));
        assert_eq!(challenge.error.as_deref(), Some("invalid_token"));
        assert_eq!(challenge.resource_metadata.as_deref(), Some("https://x/y?z=1"));
    }

    #[test]
    fn parameters_of_other_schemes_are_not_ours() {
        assert_eq!(of(&[r#"Digest scope="x", error="y""#]), Challenge::default());
        assert_eq!(of(&["", "=", "Bearer", "bearer =,,\"", "Bearer scope"]), Challenge::default());
        assert_eq!(of(&[r#"bearer scope = "a\"b""#]).scope.as_deref(), Some("a\"b"));
    }

    #[test]
    fn scopes_are_sets() {
        let both = Scopes::of(Some("b a")).and(&Scopes::of(Some("c a")));
        assert_eq!(both.text().as_deref(), Some("a b c"));
        assert!(both.holds(&Scopes::of(Some("c b"))) && !both.holds(&Scopes::of(Some("d"))));
        assert_eq!(Scopes::of(None).text(), None);
    }
}
