use mpe_engine::EndpointId;

use super::{LARGEST, Store};

fn ids(names: &[&str]) -> Vec<EndpointId> {
    names.iter().map(|name| EndpointId::new(*name)).collect()
}

#[test]
fn every_endpoint_has_a_file_of_its_own_within_the_folder() {
    let store = Store::new("/kept".into());
    let names = ["default", "Default", "a.b", "a_b", "~", "..a", "../../etc/passwd", "con"];
    let mut files: Vec<_> = ids(&names).iter().map(|id| store.file(id)).collect();
    for file in &files {
        assert_eq!(file.parent().unwrap(), std::path::Path::new("/kept"), "{file:?}");
    }
    // Also where a file system does not tell the case of letters.
    files.iter_mut().for_each(|file| *file = file.to_str().unwrap().to_ascii_lowercase().into());
    files.sort();
    files.dedup();
    assert_eq!(files.len(), names.len());
}

#[tokio::test]
async fn files_that_cannot_be_used_cost_nobody_else_his_catalogue() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().to_owned());
    let all = ids(&["absent", "broken", "folder", "good", "huge", "newer"]);
    let file = |n: usize| store.file(&all[n]);
    std::fs::write(file(1), "{\"format\":1,\"upstr").unwrap();
    std::fs::create_dir(file(2)).unwrap();
    std::fs::write(file(3), "{\"format\":1,\"upstreams\":{}}").unwrap();
    std::fs::File::create(file(4)).unwrap().set_len(LARGEST + 1).unwrap();
    std::fs::write(file(5), "{\"format\":2,\"upstreams\":{}}").unwrap();
    let (memories, _) = store.read(&all).await;
    assert_eq!(memories.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["good"]);
}
