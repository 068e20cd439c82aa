//! One document: its bytes as they are and compressed, each with the entity tag it is served under.

use std::io::{Read as _, Write as _};
use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::{Body, body};

/// A document that many ask for: each form is made on its first use and kept.
#[derive(Debug)]
pub(crate) struct Document {
    media_type: &'static str,
    /// Without its quotes and the mark of the compressed form.
    tag: String,
    plain: OnceLock<Bytes>,
    gzip: OnceLock<Bytes>,
}

/// Shorter documents are not worth compressing: their head is about as long.
const WORTH_COMPRESSING: usize = 1024;

impl Document {
    /// A document of the catalogue.
    pub(crate) fn of(media_type: &'static str, text: impl Into<Bytes>) -> Self {
        let bytes = text.into();
        let tag = tag(&bytes);
        Self { media_type, tag, plain: OnceLock::from(bytes), gzip: OnceLock::new() }
    }

    /// A document of the program itself, kept compressed.
    pub(crate) fn of_gzip(media_type: &'static str, gzip: &'static [u8]) -> Self {
        let bytes = Bytes::from_static(gzip);
        Self { media_type, tag: tag(&bytes), plain: OnceLock::new(), gzip: OnceLock::from(bytes) }
    }

    /// The document as it is.
    pub(crate) fn plain(&self) -> &Bytes {
        self.plain.get_or_init(|| {
            let mut plain = Vec::new();
            let gzip = self.gzip.get().map(Bytes::as_ref).unwrap_or_default();
            GzDecoder::new(gzip).read_to_end(&mut plain).expect("what is built in was compressed whole");
            Bytes::from(plain)
        })
    }

    /// The compressed form, where it is worth having.
    fn gzip(&self) -> Option<&Bytes> {
        if let Some(plain) = self.plain.get()
            && plain.len() < WORTH_COMPRESSING
        {
            return None;
        }
        Some(self.gzip.get_or_init(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            let written = encoder.write_all(self.plain()).and_then(|()| encoder.finish());
            Bytes::from(written.expect("a vector takes whatever is written to it"))
        }))
    }

    /// 304 for a caller that already has the document (RFC 9110 §13.1.2), else the document, compressed for a caller that reads
    /// gzip. The two forms have tags of their own (§8.8.3.3), and having either is having the document.
    pub(crate) fn response(&self, request: &HeaderMap) -> http::Response<Body> {
        let gzip = if accepts_gzip(request) { self.gzip() } else { None };
        let etag = |is_gzip: bool| format!("\"{}{}\"", self.tag, if is_gzip { "-gzip" } else { "" });
        let has_it = listed(request, header::IF_NONE_MATCH)
            .map(|tag| tag.trim_start_matches("W/"))
            .any(|tag| tag == "*" || tag == etag(false) || tag == etag(true));
        let mut response = match gzip {
            _ if has_it => body::status_only(StatusCode::NOT_MODIFIED),
            Some(bytes) => body::response(StatusCode::OK, self.media_type, bytes.clone()),
            None => body::response(StatusCode::OK, self.media_type, self.plain().clone()),
        };
        let headers = response.headers_mut();
        if gzip.is_some() && !has_it {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Ok(etag) = HeaderValue::try_from(etag(gzip.is_some())) {
            headers.insert(header::ETAG, etag);
        }
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

/// Whether the caller reads gzip: it names it, or `*`, and does not refuse it with `q=0` (RFC 9110 §12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut by_star = false;
    for coding in listed(headers, header::ACCEPT_ENCODING) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")).unwrap_or("1");
        let is_wanted = weight.parse::<f32>().is_ok_and(|weight| weight > 0.0);
        if name.eq_ignore_ascii_case("gzip") {
            return is_wanted;
        }
        if name == "*" {
            by_star = is_wanted;
        }
    }
    by_star
}

/// The entries of a header that is a list.
fn listed(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn tag(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(&digest(&SHA256, bytes).as_ref()[..16])
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{Document, accepts_gzip};

    fn asked(headers: &[(&'static str, &str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_coding_that_is_refused_is_not_used() {
        for (header, is_read) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("*", true),
            ("*;q=1, gzip;q=0", false),
            ("gzip; q=0", false),
            ("br", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(&asked(&[("accept-encoding", header)])), is_read, "{header}");
        }
    }

    #[test]
    fn either_form_is_the_document_and_each_has_its_tag() {
        let document = Document::of("text/plain", "words ".repeat(1000));
        let gzip = [("accept-encoding", "gzip")];
        let plain = document.response(&asked(&[]));
        let packed = document.response(&asked(&gzip));
        assert_eq!(
            (plain.headers().get("content-encoding"), packed.headers()["content-encoding"].as_bytes()),
            (None, &b"gzip"[..])
        );
        let tags =
            [&plain.headers()["etag"], &packed.headers()["etag"]].map(|tag| tag.to_str().unwrap().to_owned());
        assert_ne!(tags[0], tags[1]);
        for tag in &tags {
            for accepted in ["gzip", "identity"] {
                let again =
                    document.response(&asked(&[("if-none-match", tag), ("accept-encoding", accepted)]));
                assert_eq!(again.status(), 304, "{tag} {accepted}");
            }
        }
        assert_eq!(document.response(&asked(&[("if-none-match", "\"other\"")])).status(), 200);
    }

    #[test]
    fn what_is_kept_compressed_is_given_to_whoever_reads_only_plain() {
        let document = Document::of("text/plain", "words ".repeat(1000));
        let packed: &'static [u8] = document.gzip().unwrap().to_vec().leak();
        assert_eq!(Document::of_gzip("text/plain", packed).plain(), document.plain());
    }

    #[test]
    fn a_short_document_is_not_compressed() {
        assert!(Document::of("text/plain", "words").gzip().is_none());
    }
}
