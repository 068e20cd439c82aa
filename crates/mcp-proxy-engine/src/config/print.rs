//! The configuration in effect, for people: defaults filled in, secrets left out.

use serde_json::{Value, json};

use super::problem::ConfigError;
use super::read::Format;
use super::values::REDACTED;
use super::{Source, default_listen, resolve};

/// Values shorter than this are no secrets, and would be found everywhere.
const SHORTEST_SECRET: usize = 6;

impl Source {
    /// How the configuration was spelled; TOML when it was made in code.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The configuration in effect: variables and presets resolved, defaults filled in. Secrets read `[redacted]`, and
    /// whatever came from the environment is shown as the variable's name.
    ///
    /// # Errors
    /// Something in it has no spelling in `format`.
    pub fn effective(&self, format: Format) -> Result<String, ConfigError> {
        let failed = |error: &dyn std::fmt::Display| {
            ConfigError::whole(self.file.as_str(), format!("cannot be printed: {error}"))
        };
        let mut config = serde_json::to_value(&self.config).map_err(|error| failed(&error))?;
        config["listen"] = json!(self.config.listen.unwrap_or_else(default_listen));
        config["http2_config"] = resolve::effective_http2(&self.config.http2_config);
        self.hide(&mut config);
        match format {
            Format::Json => Ok(format!("{config:#}")),
            Format::Toml => toml::to_string_pretty(&config).map_err(|error| failed(&error)),
            #[cfg(feature = "yaml")]
            Format::Yaml => serde_saphyr::to_string(&config).map_err(|error| failed(&error)),
            #[cfg(not(feature = "yaml"))]
            Format::Yaml => Err(failed(&"this build writes no YAML")),
        }
    }

    fn hide(&self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide(item)),
            Value::Object(members) => {
                for (key, member) in members {
                    self.hide(member);
                    // API keys like to travel in queries.
                    match (key.as_str(), member) {
                        ("url" | "base_url", Value::String(text)) => hide_query(text),
                        ("urls", Value::Array(urls)) => {
                            for url in urls {
                                if let Value::String(text) = url {
                                    hide_query(text);
                                }
                            }
                        }
                        _ => {}
                    }
                }
            }
            Value::String(text) => {
                for (name, secret) in &self.variables {
                    if secret.len() >= SHORTEST_SECRET && text.contains(secret.as_str()) {
                        *text = text.replace(secret.as_str(), &format!("${{{name}}}"));
                    }
                }
            }
            _ => {}
        }
    }
}

fn hide_query(url: &mut String) {
    if let Some((address, _)) = url.split_once('?') {
        *url = format!("{address}?{REDACTED}");
    }
}
