//! Who may import whom: the arrows of `docs/architecture.md`, checked against what the manifests say.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// Every crate that others build on, with the crates of ours that it may name. Its tests may name everything below
/// it; one that needs an upper layer belongs up there, or into this package.
const ARROWS: &[(&str, &[&str])] = &[
    ("mpe-mcp-protocol", &[]),
    ("mpe-transport", &[]),
    ("mpe-schema", &["mpe-mcp-protocol"]),
    ("mpe-engine", &["mpe-mcp-protocol", "mpe-transport"]),
    ("mpe-gateway", &["mpe-engine", "mpe-mcp-protocol", "mpe-schema", "mpe-transport"]),
    ("mpe-lambda-adapter", &["mpe-engine", "mpe-gateway", "mpe-mcp-protocol"]),
    (
        "mcp-proxy-engine",
        &[
            "mpe-engine",
            "mpe-gateway",
            "mpe-lambda-adapter",
            "mpe-mcp-protocol",
            "mpe-schema",
            "mpe-transport",
        ],
    ),
    ("xtask", &[]),
];

/// Leaves of the graph, which look at everything and which nothing may build on.
const OBSERVERS: &[&str] = &["mpe-bench", "mpe-tests"];

/// What a layer keeps away from itself, beside our own crates.
const ABSENCES: &[(&str, &[&str])] = &[
    // No IO, no clock, no runtime, no HTTP types.
    ("mpe-mcp-protocol", &["tokio", "http", "http-body", "hyper", "h2", "tracing", "rustls"]),
    // No JSON.
    ("mpe-transport", &["serde", "serde_json", "jsonschema"]),
    // Pure; and the slow builds stay out of the engine's way.
    ("mpe-schema", &["tokio", "hyper", "h2", "http", "rustls"]),
    (
        "mpe-engine",
        &["jsonschema", "async-graphql", "openapiv3", "hyper", "h2", "aws-sdk-lambda", "aws-config"],
    ),
    ("mpe-gateway", &["aws-sdk-lambda", "aws-config", "lambda_runtime", "lambda_http", "clap", "h2"]),
    ("mpe-lambda-adapter", &["clap", "h2", "jsonschema"]),
    ("xtask", &["tokio", "hyper", "clap"]),
];

fn workspace() -> Vec<Package> {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata must work");
    metadata.packages
}

/// Every arrow from `package` to another crate of ours, and whether only its tests draw it.
fn arrows(package: &Package, ours: &BTreeSet<String>) -> BTreeSet<(String, bool)> {
    package
        .dependencies
        .iter()
        .map(|dependency| (dependency.name.clone(), dependency.kind == DependencyKind::Development))
        .filter(|(name, _)| ours.contains(name) && *name != *package.name)
        .collect()
}

/// Whether `to` lies below `from`, over however many arrows.
fn is_below(table: &BTreeMap<&str, &[&str]>, from: &str, to: &str) -> bool {
    let next = table.get(from).copied().unwrap_or_default();
    next.contains(&to) || next.iter().any(|step| is_below(table, step, to))
}

#[test]
fn every_arrow_between_our_crates_is_drawn_in_the_table() {
    let packages = workspace();
    let ours: BTreeSet<String> = packages.iter().map(|package| package.name.to_string()).collect();
    let table: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in &packages {
        let name = package.name.as_str();
        if OBSERVERS.contains(&name) {
            continue;
        }
        let Some(allowed) = table.get(name) else {
            wrong.push(format!("{name} is not in the table: say where it stands"));
            continue;
        };
        for (arrow, only_tests) in arrows(package, &ours) {
            let may = allowed.contains(&arrow.as_str()) || only_tests && is_below(&table, name, &arrow);
            if !may {
                wrong.push(format!("{name} → {arrow}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that the architecture does not draw: {wrong:#?}");
}

#[test]
fn the_table_names_only_crates_that_exist() {
    let ours: BTreeSet<String> = workspace().iter().map(|package| package.name.to_string()).collect();
    for (name, allowed) in ARROWS {
        for crate_name in std::iter::once(name).chain(allowed.iter()) {
            assert!(ours.contains(*crate_name), "no crate {crate_name}");
        }
    }
}

#[test]
fn each_layer_keeps_away_what_belongs_elsewhere() {
    let packages = workspace();
    let mut wrong = Vec::new();
    for (name, absent) in ABSENCES {
        let package =
            packages.iter().find(|package| package.name.as_str() == *name).expect("a crate of ours");
        for dependency in package.dependencies.iter().filter(|dep| dep.kind == DependencyKind::Normal) {
            if absent.contains(&dependency.name.as_str()) {
                wrong.push(format!("{name} → {}", dependency.name));
            }
        }
    }
    assert!(wrong.is_empty(), "what a layer promises not to know: {wrong:#?}");
}

#[test]
fn only_crates_for_others_can_be_published_and_each_says_what_it_is() {
    for package in workspace() {
        let name = package.name.as_str();
        assert!(package.description.is_some(), "{name} has no description");
        assert_eq!(package.license.as_deref(), Some("MIT"), "{name}");
        let publishable = package.publish.is_none();
        assert_eq!(publishable, name != "xtask" && !OBSERVERS.contains(&name), "publish of {name}");
    }
}
