//! Whom authorization asks: a person with a browser, and whoever holds a secret that changes.

use futures_util::future::BoxFuture;
use secrecy::SecretString;

/// Shows a person where to log in, and brings back where the browser was sent afterwards.
pub trait Person: Send + Sync + 'static {
    /// Whether somebody is there to be asked.
    ///
    /// # Errors
    /// One sentence that says what to do instead; it is shown to whoever called.
    fn available(&self) -> Result<(), String> {
        Ok(())
    }

    /// Where the browser shall be sent afterwards: an absolute URL, used exactly so. `registered` is the one that the
    /// client has registered before; another one makes it register anew.
    ///
    /// # Errors
    /// One sentence: nothing can be listened on.
    fn redirect_uri<'a>(&'a self, registered: Option<&'a str>) -> BoxFuture<'a, Result<String, String>>;

    /// Shows `url` to the person, and waits until the browser is sent back. Returns the URL it was sent to.
    ///
    /// # Errors
    /// One sentence: nobody came back.
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up.
    fn authorize<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<String, String>>;
}

/// A secret that somebody else renews, such as a file that the platform rotates.
pub trait SecretSource: Send + Sync + 'static {
    /// What tells this source from another: two of the same name give the same secrets. Never the secret itself.
    fn name(&self) -> String;

    /// The secret as it is now.
    ///
    /// # Errors
    /// One sentence that does not repeat the secret.
    fn read(&self) -> BoxFuture<'_, Result<SecretString, String>>;
}

impl std::fmt::Debug for dyn SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretSource({})", self.name())
    }
}
