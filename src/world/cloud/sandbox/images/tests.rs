use std::collections::BTreeMap;

use super::*;
use crate::model::name::ClusterName;
use crate::world::cloud::sandbox::state::{BridgeName, Network};

fn label(name: &str, role: Role, created: &str) -> Label {
    Label {
        name: name.to_owned(),
        cluster: ClusterName::new("shop").unwrap(),
        role,
        servers: 1,
        programs: BTreeMap::new(),
        sums: BTreeMap::new(),
        spec: "sha256:00".to_owned(),
        created: created.parse().unwrap(),
    }
}

fn host(name: &str, role: Role, image: Option<&str>) -> HostRecord {
    HostRecord {
        name: HostName::new(name).unwrap(),
        role,
        generation: "00".to_owned(),
        address: "10.1.2.3".parse().unwrap(),
        network: Network { bridge: BridgeName::from_hash(1), subnet: "10.1.2.0/24".parse().unwrap() },
        base: base::RECIPE.to_owned(),
        image: image.map(|id| ImageId(id.to_owned())),
        host_key: Some("ssh-ed25519 AAAA".to_owned()),
        process: None,
    }
}

/// A root folder with a cluster `shop` whose hosts do not run.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap()
    }

    fn site(&self) -> Site {
        Site::new(ClusterName::new("shop").unwrap(), &self.path(), self.path().join("base"))
    }

    fn host(&self, record: &HostRecord) -> HostDir {
        let dir = self.site().host_dir(&record.name);
        fs::create_dir_all(dir.upper().join("etc")).unwrap();
        fs::write(dir.upper().join("etc/hostname"), "its own").unwrap();
        fs::write(dir.upper().join("etc/web.conf"), "for all").unwrap();
        state::write(&dir.record(), record).unwrap();
        dir
    }

    /// An image as `make_image` leaves it.
    fn image(&self, name: &str, role: Role, created: &str) -> ImageId {
        let record = host("shop-builder", role, None);
        self.host(&record);
        let label = label(name, role, created);
        let place = Place::of(&label).unwrap();
        fs::create_dir_all(self.path().join(IMAGES)).unwrap();
        let half = place.half(&self.path()).unwrap();
        self.site().make_image(&record, &place, &label, &half).unwrap();
        // Killed now, its next launch would make its files anew.
        let left = self.site().host_record(&record.name).unwrap().unwrap();
        assert!(left.host_key.is_none() && !self.site().host_dir(&record.name).upper().exists());
        mounts::remove_tree(self.site().host_dir(&record.name).path()).unwrap();
        place.id()
    }

    fn ids(&self) -> Vec<String> {
        of_root(&self.path()).unwrap().into_iter().map(|baked| baked.id.0).collect()
    }
}

#[test]
fn an_id_is_a_name_and_a_role_and_never_a_way_out() {
    for id in ["web/node", "a-1/server"] {
        assert_eq!(Place::parse(&ImageId(id.to_owned())).unwrap().id().0, id);
    }
    for wrong in
        ["", "web", "web/", "/node", "../node", "web/nodes", "a/b/node", "Web/node", ".half-x/node", "web/node/"]
    {
        assert!(Place::parse(&ImageId(wrong.to_owned())).is_none(), "{wrong}");
    }
    let error = Place::of(&label("../x", Role::Node, "2026-01-01T00:00:00Z")).unwrap_err();
    assert!(error.cure().is_some(), "{error}");
}

#[test]
fn a_hosts_layer_becomes_an_image_without_what_is_its_own() {
    let root = Root::new();
    let id = root.image("web", Role::Node, "2026-01-02T00:00:00Z");
    let tree = root.path().join("images/web/node/tree");
    assert_eq!(fs::read_to_string(tree.join("etc/web.conf")).unwrap(), "for all");
    assert!(!tree.join("etc/hostname").exists());
    assert!(half_made(&root.path()).unwrap().is_empty());

    let site = root.site();
    assert!(!of_root(&root.path()).unwrap()[0].is_trusted());
    site.prove_image(&id, &Events::silent()).unwrap();
    assert!(of_root(&root.path()).unwrap()[0].is_trusted());
    site.prove_image(&ImageId("web/server".to_owned()), &Events::silent()).unwrap_err();

    // A new one of the same name is not trusted because the old one was.
    fs::write(tree.join("old"), "").unwrap();
    root.image("web", Role::Node, "2026-01-03T00:00:00Z");
    assert!(!of_root(&root.path()).unwrap()[0].is_trusted());
    assert!(!tree.join("old").exists() && tree.join("etc/web.conf").exists());
    assert!(half_made(&root.path()).unwrap().is_empty());
}

#[test]
fn a_link_in_the_layer_leads_nowhere() {
    let root = Root::new();
    let tree = root.path().join("tree");
    let machine = root.path().join("machine");
    fs::create_dir_all(&tree).unwrap();
    fs::create_dir_all(&machine).unwrap();
    fs::write(machine.join("hostname"), "the machine's").unwrap();
    std::os::unix::fs::symlink(&machine, tree.join("etc")).unwrap();
    clear_own(&tree).unwrap();
    assert!(machine.join("hostname").exists());
}

#[test]
fn images_are_listed_newest_first_and_broken_ones_are_none() {
    let root = Root::new();
    assert!(root.ids().is_empty());
    root.image("old", Role::Node, "2026-01-01T00:00:00Z");
    root.image("new", Role::Node, "2026-01-03T00:00:00Z");
    root.image("new", Role::Server, "2026-01-02T00:00:00Z");
    assert_eq!(root.ids(), ["new/node", "new/server", "old/node"]);
    // Half a label, and a label of another place.
    fs::write(root.path().join("images/old/node/label.json"), "{\"label\":").unwrap();
    let other = root.path().join("images/other/node");
    fs::create_dir_all(&other).unwrap();
    fs::copy(root.path().join("images/new/node/label.json"), other.join("label.json")).unwrap();
    assert_eq!(root.ids(), ["new/node", "new/server"]);
    // They can be removed all the same, and what is gone counts as removed.
    for id in ["old/node", "other/node", "new/node", "new/server", "new/server"] {
        root.site().remove_image(&ImageId(id.to_owned()), &Events::silent()).unwrap();
    }
    assert!(!root.path().join(IMAGES).exists());
}

#[test]
fn an_image_that_hosts_stand_on_stays() {
    let root = Root::new();
    let id = root.image("web", Role::Node, "2026-01-01T00:00:00Z");
    let stands = host("shop-node-1", Role::Node, Some("web/node"));
    let dir = root.host(&stands);
    let error = root.site().remove_image(&id, &Events::silent()).unwrap_err();
    assert!(error.to_string().contains("shop-node-1") && error.cure().unwrap().contains("--cluster shop"), "{error}");
    assert_eq!(root.ids(), ["web/node"]);

    // Nor is it replaced, and the builder is left as it was.
    let builder = host("shop-build-1", Role::Node, None);
    let built = root.host(&builder);
    let label = label("web", Role::Node, "2026-01-02T00:00:00Z");
    let error = root.site().seal(&root.site().id(&builder), &label, &Events::silent()).unwrap_err();
    assert!(error.to_string().contains("cannot be replaced"), "{error}");
    assert!(built.upper().join("etc/hostname").exists());

    mounts::remove_tree(dir.path()).unwrap();
    root.site().remove_image(&id, &Events::silent()).unwrap();
    assert!(root.ids().is_empty());
}

#[test]
fn only_a_plain_host_of_the_role_becomes_an_image() {
    let label = label("web", Role::Node, "2026-01-01T00:00:00Z");
    fits(&host("a", Role::Node, None), &label).unwrap();
    fits(&host("a", Role::Server, None), &label).unwrap_err();
    fits(&host("a", Role::Node, Some("web/node")), &label).unwrap_err();
}

#[test]
fn half_made_images_go_and_whole_ones_stay() {
    let root = Root::new();
    clear_half_made(&root.path(), &Events::silent()).unwrap();
    assert!(!root.path().join(IMAGES).exists(), "nothing is made only to be cleared");
    root.image("web", Role::Node, "2026-01-01T00:00:00Z");
    let half = root.path().join("images/.half-web-node-00/tree/etc");
    fs::create_dir_all(&half).unwrap();
    clear_half_made(&root.path(), &Events::silent()).unwrap();
    assert!(!half.exists());
    assert_eq!(root.ids(), ["web/node"]);
}

#[test]
fn a_failure_gives_the_host_back_its_layer() {
    let root = Root::new();
    let record = host("shop-node-1", Role::Node, None);
    let dir = root.host(&record);
    let label = label("web", Role::Node, "2026-01-01T00:00:00Z");
    let place = Place::of(&label).unwrap();
    fs::create_dir_all(root.path().join(IMAGES)).unwrap();
    // Something that is no folder is in the way of the finished image.
    fs::write(root.path().join("images/web"), "").unwrap();
    let half = place.half(&root.path()).unwrap();
    root.site().make_image(&record, &place, &label, &half).unwrap_err();
    give_back(&dir, &record, &half);
    assert!(dir.upper().join("etc/web.conf").exists() && !half.exists());
    assert_eq!(root.site().host_record(&record.name).unwrap(), Some(record));
}

#[test]
fn a_host_stands_on_its_image_and_on_the_images_base() {
    let root = Root::new();
    let id = root.image("web", Role::Node, "2026-01-01T00:00:00Z");
    let launch = |role| Launch { image: Some(id.clone()), ..Launch::plain(HostName::new("a").unwrap(), role) };
    assert_eq!(base_for(&root.path(), &launch(Role::Node), &id).unwrap(), base::RECIPE);
    let error = base_for(&root.path(), &launch(Role::Server), &id).unwrap_err().to_string();
    assert!(error.starts_with("a: it is a server"), "{error}");
    let gone = ImageId("gone/node".to_owned());
    assert!(base_for(&root.path(), &launch(Role::Node), &gone).unwrap_err().to_string().contains("no image gone/node"));

    let bases = Path::new("/bases");
    let plain = lowers(&root.path(), bases, &host("a", Role::Node, None));
    assert_eq!(plain, [bases.join(base::RECIPE)]);
    let imaged = lowers(&root.path(), bases, &host("a", Role::Node, Some("web/node")));
    assert_eq!(imaged, [root.path().join("images/web/node/tree"), bases.join(base::RECIPE)]);
}
