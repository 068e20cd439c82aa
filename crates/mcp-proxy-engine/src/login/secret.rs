//! Secrets that the engine asks for anew each time.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use mpe_engine::upstream::SecretSource;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// A secret in a file that somebody else rotates, such as a workload's token. Read at each use.
#[derive(Clone, Debug)]
pub struct FileSecret {
    file: PathBuf,
}

/// A secret that stands in the configuration.
#[derive(Clone, Debug)]
pub struct GivenSecret {
    secret: SecretString,
}

/// Bytes of such a file, at most.
const LARGEST: u64 = 64 << 10;

impl FileSecret {
    /// The content of `file`, without the space around it.
    pub fn new(file: PathBuf) -> Self {
        Self { file }
    }
}

impl SecretSource for FileSecret {
    fn name(&self) -> String {
        self.file.display().to_string()
    }

    fn read(&self) -> BoxFuture<'_, Result<SecretString, String>> {
        let file = self.file.clone();
        Box::pin(async move {
            let name = file.display().to_string();
            let read = tokio::task::spawn_blocking(move || {
                use std::io::Read as _;
                let mut text = String::new();
                std::fs::File::open(&file)?.take(LARGEST).read_to_string(&mut text)?;
                Ok::<_, std::io::Error>(text)
            });
            let text = read.await.map_err(|error| error.to_string())?;
            let text = text.map_err(|error| format!("{name} cannot be read: {error}"))?;
            match text.trim() {
                "" => Err(format!("{name} is empty")),
                text => Ok(SecretString::from(text.to_owned())),
            }
        })
    }
}

impl GivenSecret {
    /// This secret.
    pub fn new(secret: SecretString) -> Self {
        Self { secret }
    }
}

impl SecretSource for GivenSecret {
    fn name(&self) -> String {
        format!("{:x}", Sha256::digest(self.secret.expose_secret().as_bytes()))
    }

    fn read(&self) -> BoxFuture<'_, Result<SecretString, String>> {
        Box::pin(async { Ok(self.secret.clone()) })
    }
}
