//! Logins in files: one a server, for their owner's eyes only.

use std::io;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use mpe_engine::upstream::{StoredLogin, TokenStore};
use sha2::{Digest, Sha256};

use crate::files;

/// A folder of logins, one file a server.
///
/// Files have mode 0600, the folder 0700. A file is replaced as a whole, so that a reader sees the old login or the new
/// one. What is in it is as secret as a password, and is not encrypted: whoever can read the account's files can use it.
#[derive(Clone, Debug)]
pub struct FileTokenStore {
    folder: PathBuf,
}

/// Where logins are kept unless the configuration says otherwise: `mcp-proxy-engine/logins` in the folder for state of
/// the account (`XDG_STATE_HOME`, else `~/.local/state`; on macOS `~/Library/Application Support`, on Windows
/// `%LOCALAPPDATA%`). `None`: the account has no such folder, as on AWS Lambda.
pub fn default_folder() -> Option<PathBuf> {
    folder_of(&|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn folder_of(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let state = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library").join("Application Support"))
    } else {
        // The specification wants a relative path to be ignored.
        let state = variable("XDG_STATE_HOME").filter(|path| path.is_absolute());
        state.or_else(|| variable("HOME").map(|home| home.join(".local").join("state")))
    };
    state.filter(|path| path.is_absolute()).map(|path| path.join("mcp-proxy-engine").join("logins"))
}

impl FileTokenStore {
    /// The logins in `folder`, which is made when the first one is kept.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The file for a server: its host for people, a digest of its address for uniqueness.
    pub fn file(&self, server: &str) -> PathBuf {
        let host = server.split_once("://").map_or(server, |(_, rest)| rest);
        let host: String = host
            .chars()
            .take_while(|c| *c != '/')
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' })
            .take(64)
            .collect();
        let digest = format!("{:x}", Sha256::digest(server.as_bytes()));
        self.folder.join(format!("{host}-{}.json", &digest[..16]))
    }
}

impl TokenStore for FileTokenStore {
    fn name(&self) -> String {
        self.folder.display().to_string()
    }

    fn load<'a>(&'a self, server: &'a str) -> BoxFuture<'a, Result<Option<StoredLogin>, String>> {
        let file = self.file(server);
        Box::pin(files::blocking(move || read(&file)))
    }

    fn save<'a>(&'a self, server: &'a str, login: &'a StoredLogin) -> BoxFuture<'a, Result<(), String>> {
        let (folder, file) = (self.folder.clone(), self.file(server));
        let text = serde_json::to_string_pretty(login);
        Box::pin(async move {
            let text = text.map_err(|error| error.to_string())?;
            files::blocking(move || {
                let failed = |error: io::Error| format!("{} cannot be written: {error}", file.display());
                files::make_folder(&folder).map_err(failed)?;
                files::replace(&file, text.as_bytes()).map_err(failed)
            })
            .await
        })
    }

    fn remove<'a>(&'a self, server: &'a str) -> BoxFuture<'a, Result<bool, String>> {
        let file = self.file(server);
        Box::pin(files::blocking(move || match std::fs::remove_file(&file) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(format!("{} cannot be removed: {error}", file.display())),
        }))
    }
}

fn read(file: &Path) -> Result<Option<StoredLogin>, String> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("the login in {} cannot be read: {error}", file.display())),
    };
    // Where the fault is, and not what stands there.
    let damaged = |error: serde_json::Error| {
        format!(
            "the login in {} is damaged (line {}, column {}): log in again, or remove the file",
            file.display(),
            error.line(),
            error.column()
        )
    };
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

#[cfg(test)]
mod tests;
