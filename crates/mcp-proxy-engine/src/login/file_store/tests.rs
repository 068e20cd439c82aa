use std::path::PathBuf;

use mpe_engine::upstream::{StoredLogin, TokenStore};

use super::{FileTokenStore, folder_of};

const SERVER: &str = "https://mcp.example.com:8443/mcp";

fn login() -> StoredLogin {
    let text = r#"{"server": "https://mcp.example.com:8443/mcp", "clients": {"https://as": {"id": "us"}},
        "tokens": {"issuer": "https://as", "token_endpoint": "https://as/t", "client_id": "us", "resource": "r",
        "access_token": "secret-1", "refresh_token": "secret-2", "expires_at": 7}}"#;
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn a_login_comes_back_as_it_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileTokenStore::new(folder.path().join("deep").join("logins"));
    assert!(store.load(SERVER).await.unwrap().is_none());
    store.save(SERVER, &login()).await.unwrap();
    let back = store.load(SERVER).await.unwrap().unwrap();
    assert_eq!(serde_json::to_value(&back).unwrap(), serde_json::to_value(login()).unwrap());
    assert_eq!(serde_json::to_value(&back).unwrap()["tokens"]["refresh_token"], "secret-2");
    // Nobody else's login is found, and nothing is left of the writing.
    assert!(store.load("https://mcp.example.com:8443/mcp2").await.unwrap().is_none());
    assert_eq!(std::fs::read_dir(folder.path().join("deep").join("logins")).unwrap().count(), 1);
    assert!(store.remove(SERVER).await.unwrap());
    assert!(!store.remove(SERVER).await.unwrap());
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_it_also_after_it_was_replaced() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let store = FileTokenStore::new(folder.path().join("logins"));
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    store.save(SERVER, &login()).await.unwrap();
    assert_eq!((mode(folder.path().join("logins")), mode(store.file(SERVER))), (0o700, 0o600));
    // Somebody opened it up meanwhile: the next login closes it again.
    std::fs::set_permissions(store.file(SERVER), std::fs::Permissions::from_mode(0o644)).unwrap();
    store.save(SERVER, &login()).await.unwrap();
    assert_eq!(mode(store.file(SERVER)), 0o600);
}

#[tokio::test]
async fn a_damaged_file_is_named_and_not_repeated_and_a_new_login_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileTokenStore::new(folder.path());
    std::fs::write(store.file(SERVER), "{\"tokens\": \"s3cret-of-somebody\"}").unwrap();
    let error = store.load(SERVER).await.unwrap_err();
    assert!(error.contains("is damaged") && error.contains("mcp.example.com_8443-"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
    store.save(SERVER, &login()).await.unwrap();
    assert!(store.load(SERVER).await.unwrap().is_some());
}

#[test]
fn a_server_s_address_cannot_leave_the_folder() {
    let store = FileTokenStore::new("/logins");
    for server in ["https://../../etc/passwd", "../../x", "https://a\\b/", ""] {
        let file = store.file(server);
        assert_eq!(file.parent(), Some(std::path::Path::new("/logins")), "{}", file.display());
    }
}

#[cfg(all(unix, not(target_os = "macos")))]
#[test]
fn logins_are_kept_where_the_account_keeps_its_state() {
    let folder = |pairs: &[(&str, &str)]| {
        let find =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value));
        folder_of(&find).map(|path| path.display().to_string())
    };
    let home = ("HOME", "/home/ada");
    assert_eq!(folder(&[home]).as_deref(), Some("/home/ada/.local/state/mcp-proxy-engine/logins"));
    assert_eq!(folder(&[home, ("XDG_STATE_HOME", "/s")]).as_deref(), Some("/s/mcp-proxy-engine/logins"));
    assert_eq!(
        folder(&[home, ("XDG_STATE_HOME", "relative")]).as_deref(),
        Some("/home/ada/.local/state/mcp-proxy-engine/logins")
    );
    assert_eq!(folder(&[]), None);
}
