//! Documents whose figures are a program's: they are what it prints.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The tables between their marks, by name.
fn tables(text: &str) -> BTreeMap<String, String> {
    let pattern = regex::Regex::new(r"(?s)<!-- scale-model: (\w+) -->\n(.*?)<!-- end -->").unwrap();
    pattern.captures_iter(text).map(|found| (found[1].to_owned(), found[2].to_owned())).collect()
}

/// With `CLUSTERCTL_BLESS` set, the document is mended.
#[test]
fn the_tables_of_scale_are_the_models() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output =
        Command::new("python3").arg(root.join("scripts/scale-model")).output().expect("these tests need python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = tables(&String::from_utf8(output.stdout).unwrap());
    assert!(printed.len() >= 6, "{printed:?}");
    let file = root.join("docs/scale.md");
    let text = std::fs::read_to_string(&file).unwrap();
    if std::env::var_os("CLUSTERCTL_BLESS").is_some() {
        let mended = printed.iter().fold(text.clone(), |text, (name, table)| {
            let mark = format!("<!-- scale-model: {name} -->\n");
            let Some((before, after)) = text.split_once(&mark) else { return text };
            let rest = after.split_once("<!-- end -->").expect("the mark has its end").1;
            format!("{before}{mark}{table}<!-- end -->{rest}")
        });
        std::fs::write(&file, mended).unwrap();
        return;
    }
    assert_eq!(tables(&text), printed, "run `CLUSTERCTL_BLESS=1 cargo test --test it docs::`, and read the text again");
}
