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

/// An example as the JSON value that an editor checks.
fn value(file: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(file).unwrap();
    match Format::of(file).unwrap() {
        Format::Json => serde_json::from_str(&text).unwrap(),
        Format::Toml => toml::from_str(&text).unwrap(),
        Format::Yaml => serde_saphyr::from_str(&text).unwrap(),
    }
}

#[test]
fn every_example_satisfies_the_published_schema() {
    let schema = serde_json::to_value(mcp_proxy_engine::config::config_schema()).unwrap();
    let validator = mcp_proxy_engine::schema::Validator::compile(&schema).unwrap();
    for file in examples() {
        let violations = validator.check(&value(&file));
        assert!(violations.is_empty(), "{}: {violations:?}", file.display());
    }
    let broken = serde_json::json!({ "mcpServers": { "a": { "ulr": "http://h/" } } });
    assert!(!validator.check(&broken).is_empty(), "the schema forbids what the engine refuses");
}
