//! Prompts, resources and templates of a catalogue, and who answers a request about one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use mpe_mcp_protocol::object::Object;

use super::item::{CataloguePrompt, CatalogueResource, CatalogueTemplate};
use super::uri::{self, Schemes};
use super::{Catalogue, UpstreamStatus};
use crate::UpstreamKey;

/// What is listed beside tools.
#[derive(Debug, Default)]
pub(crate) struct Items {
    pub(crate) prompts: Vec<CataloguePrompt>,
    pub(crate) resources: Vec<CatalogueResource>,
    pub(crate) templates: Vec<CatalogueTemplate>,
}

/// Tables made once per catalogue.
#[derive(Debug)]
pub(crate) struct Routing {
    prompts: HashMap<Arc<str>, usize>,
    resources: HashMap<Arc<str>, usize>,
    schemes: Schemes,
    /// The only upstream that has resources at all.
    only_with_resources: Option<UpstreamKey>,
    /// The only upstream, where names are untouched and unlisted ones are forwarded.
    pub(crate) transparent: Option<UpstreamKey>,
}

impl Routing {
    pub(crate) fn of(items: &Items, upstreams: &[UpstreamStatus], transparent: Option<UpstreamKey>) -> Self {
        let mut schemes = Schemes::default();
        for resource in &items.resources {
            schemes.add(&resource.original_uri, &resource.upstream);
        }
        for template in &items.templates {
            schemes.add(&template.original_template, &template.upstream);
        }
        let mut with_resources = upstreams.iter().filter(|status| has_resources(status));
        let only_with_resources = match (with_resources.next(), with_resources.next()) {
            (Some(only), None) => Some(only.key.clone()),
            _ => None,
        };
        Self {
            prompts: index(items.prompts.iter().map(|prompt| &prompt.name)),
            resources: index(items.resources.iter().map(|resource| &resource.uri)),
            schemes,
            only_with_resources,
            transparent,
        }
    }
}

fn has_resources(status: &UpstreamStatus) -> bool {
    let declares = |raw| Object::parse(raw).is_ok_and(|object| object.present("resources").is_some());
    status.capabilities.as_deref().is_some_and(declares)
}

fn index<'a>(ids: impl Iterator<Item = &'a Arc<str>>) -> HashMap<Arc<str>, usize> {
    ids.enumerate().map(|(n, id)| (Arc::clone(id), n)).collect()
}

impl Catalogue {
    /// Every prompt, in the order of [`Catalogue::tools`].
    pub fn prompts(&self) -> &[CataloguePrompt] {
        &self.items.prompts
    }

    /// The prompt of that exposed name.
    pub fn prompt(&self, name: &str) -> Option<&CataloguePrompt> {
        self.routing.prompts.get(name).map(|&n| &self.items.prompts[n])
    }

    /// Every resource, in the order of [`Catalogue::tools`].
    pub fn resources(&self) -> &[CatalogueResource] {
        &self.items.resources
    }

    /// The resource of that exposed URI.
    pub fn resource(&self, uri: &str) -> Option<&CatalogueResource> {
        self.routing.resources.get(uri).map(|&n| &self.items.resources[n])
    }

    /// Every resource template, in the order of [`Catalogue::tools`].
    pub fn resource_templates(&self) -> &[CatalogueTemplate] {
        &self.items.templates
    }

    /// The only upstream, where names are untouched and unlisted ones are forwarded ([`Naming::Auto`](crate::Naming)).
    pub fn transparent(&self) -> Option<&UpstreamKey> {
        self.routing.transparent.as_ref()
    }

    /// Who answers for a URI. See [`Catalogue::resolve_uri`].
    pub fn route_uri(&self, uri: &str) -> Option<&UpstreamKey> {
        self.resolve_uri(uri).map(|(upstream, _)| upstream)
    }

    /// Who answers for a URI, and the URI there. In this order: a listed resource; a URI that carries its upstream because
    /// another one lists the same; a template that it fits; the only upstream that lists its scheme; the only upstream
    /// that has resources; the only upstream.
    pub fn resolve_uri<'u>(&self, uri: &'u str) -> Option<(&UpstreamKey, Cow<'u, str>)> {
        if let Some(resource) = self.resource(uri) {
            let is_same = *resource.original_uri == *uri;
            let original =
                if is_same { Cow::Borrowed(uri) } else { Cow::Owned(resource.original_uri.to_string()) };
            return Some((&resource.upstream, original));
        }
        let keys = self.upstreams.iter().map(|status| &status.key);
        if let Some((upstream, original)) = uri::unprefixed(keys, uri) {
            return Some((upstream, Cow::Borrowed(original)));
        }
        let fits = |template: &&CatalogueTemplate| uri::matches(&template.uri_template, uri);
        let by_template = self.items.templates.iter().find(fits).map(|template| &template.upstream);
        by_template
            .or_else(|| self.routing.schemes.owner(uri))
            .or(self.routing.only_with_resources.as_ref())
            .or(self.routing.transparent.as_ref())
            .map(|upstream| (upstream, Cow::Borrowed(uri)))
    }

    /// The URI under which the endpoint shows an upstream's resource.
    pub fn exposed_uri<'u>(&self, upstream: &UpstreamKey, original: &'u str) -> Cow<'u, str> {
        match self.resource(original) {
            Some(resource) if resource.upstream != *upstream => Cow::Owned(uri::prefixed(upstream, original)),
            _ => Cow::Borrowed(original),
        }
    }
}
