//! The example configurations of `docs/examples`.

use std::path::{Path, PathBuf};

use mcp_proxy_engine::config::{Format, Source};

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_example_configuration_loads() {
    let files = examples();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let settings = Source::open(&file).and_then(Source::settings);
        let settings = settings.unwrap_or_else(|error| panic!("{error}"));
        assert!(
            settings.endpoints.iter().any(|endpoint| !endpoint.upstreams.is_empty()),
            "{}",
            file.display()
        );
    }
}

#[test]
fn every_example_survives_being_printed_in_every_format() {
    for file in examples() {
        let source = Source::open(&file).unwrap();
        for format in [Format::Json, Format::Toml, Format::Yaml] {
            let text = source.effective(format).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let again = Source::parse(&text, format, "printed", PathBuf::new(), &|_| Some("set".to_owned()));
            let settings = again.and_then(Source::settings);
            assert!(settings.is_ok(), "{}: {}\n{text}", file.display(), settings.err().unwrap());
        }
    }
}
