//! The floors of the architecture: imports point down only.

use std::path::{Path, PathBuf};

/// From the top; a floor may use the ones after it. `world` and `ui` stand side by side.
const FLOORS: [(&str, &[&str]); 6] = [
    ("cli", &["engine", "world", "ui", "core", "model"]),
    ("engine", &["world", "core", "model"]),
    ("world", &["core", "model"]),
    ("ui", &["core", "model"]),
    ("core", &["model"]),
    ("model", &[]),
];

/// What the pure floors may not name: files, processes, the network, the clock, the environment, async.
const IMPURE: [&str; 9] = [
    "std::fs",
    "std::process",
    "std::env",
    "std::net::Tcp",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
    "reqwest",
    "async fn",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every `crate::<floor>` that stands in the code (not in comments), whether in a `use` line or in a path.
fn floors_named(text: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let floor: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            named.push((number + 1, floor));
        }
        assert!(
            !code.contains("use crate::{"),
            "write one `use crate::floor::…` a line, so that this test can read it"
        );
    }
    named
}

#[test]
fn imports_point_down_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (floor, may_use) in FLOORS {
        let mut files = Vec::new();
        sources(&src.join(floor), &mut files);
        assert!(!files.is_empty(), "no sources in {floor}");
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for (line, named) in floors_named(&text) {
                if named != floor && !may_use.contains(&named.as_str()) {
                    wrong.push(format!("{}:{line}: {floor} uses {named}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that point up or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn the_pure_floors_stay_pure() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for floor in ["core", "model"] {
        let mut files = Vec::new();
        sources(&src.join(floor), &mut files);
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let is_test = file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests");
            let code = if is_test { "" } else { text.split("#[cfg(test)]").next().unwrap_or_default() };
            for (number, line) in code.lines().enumerate() {
                let line = line.split("//").next().unwrap_or_default();
                for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                    wrong.push(format!("{}:{}: {word}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the pure floors name the outside:\n{}", wrong.join("\n"));
}

/// The operator's policy is written beside the code: both must name the same calls.
#[test]
fn the_operators_policy_names_the_calls_that_the_code_makes() {
    use std::collections::BTreeSet;
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/world/cloud/ec2"), &mut files);
    let pattern = regex::Regex::new(r#""((?:autoscaling|ec2|iam|ssm|sts|servicequotas):[A-Z][A-Za-z]+)""#).unwrap();
    let mut called = BTreeSet::new();
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = std::fs::read_to_string(file).unwrap();
        called.extend(pattern.captures_iter(&text).map(|found| found[1].to_owned()));
    }
    use clusterctl::core::ec2::policy::{ACTIONS, UNCALLED};
    let uncalled: BTreeSet<String> = UNCALLED.iter().map(|(s, a)| format!("{s}:{a}")).collect();
    let named: BTreeSet<String> = ACTIONS.iter().map(|(service, action, _)| format!("{service}:{action}")).collect();
    assert_eq!(called, named.difference(&uncalled).cloned().collect());
}
