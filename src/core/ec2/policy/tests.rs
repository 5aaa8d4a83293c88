use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn shop() -> ClusterName {
    ClusterName::new("shop").unwrap()
}

fn statements(document: &str) -> Vec<Value> {
    let document: Value = serde_json::from_str(document).unwrap();
    assert_eq!(document["Version"], "2012-10-17");
    document["Statement"].as_array().unwrap().clone()
}

/// A string, or several.
fn several(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(all) => all.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
        other => panic!("neither a string nor several: {other}"),
    }
}

#[test]
fn the_documents() {
    insta::assert_snapshot!("instance", instance_policy("eu-west-1", None));
    insta::assert_snapshot!("instance_with_secrets", instance_policy("eu-west-1", Some(&shop())));
    insta::assert_snapshot!("trust", trust_policy());
    insta::assert_snapshot!("operator", operator_policy(&shop(), Some("eu-west-1"), Some("123456789012")));
    insta::assert_snapshot!("ports", ports_document(&shop(), &["203.0.113.0/24".parse().unwrap()], &[]));
}

#[test]
fn the_operators_policy_is_what_the_code_does() {
    let mut allowed = BTreeSet::new();
    for statement in statements(&operator_policy(&shop(), None, None)) {
        assert_eq!(statement["Effect"], "Allow");
        allowed.extend(several(&statement["Action"]));
    }
    let needed: BTreeSet<String> = ACTIONS.iter().map(|(service, action, _)| format!("{service}:{action}")).collect();
    assert_eq!(allowed, needed);
    assert_eq!(needed.len(), ACTIONS.len(), "an action stands twice");
    assert!(ACTIONS.windows(2).all(|pair| (pair[0].0, pair[0].1) < (pair[1].0, pair[1].1)), "in order");
    let known = |(service, action): &(&str, &str)| ACTIONS.iter().any(|(s, a, _)| (s, a) == (service, action));
    assert!(UNCALLED.iter().all(known));
}

/// Nothing that changes something is allowed on all there is.
#[test]
fn what_changes_something_is_narrowed() {
    for statement in statements(&operator_policy(&shop(), None, None)) {
        if several(&statement["Resource"]) != ["*"] {
            continue;
        }
        for action in several(&statement["Action"]) {
            let (_, verb) = action.split_once(':').unwrap();
            assert!(["Describe", "Get", "List"].iter().any(|read| verb.starts_with(read)), "{action}");
        }
    }
}

/// AWS' own limits on a managed policy and on statement ids.
#[test]
fn the_operators_policy_fits() {
    let cluster = ClusterName::new("c".repeat(40)).unwrap();
    let text = operator_policy(&cluster, Some("us-isob-east-1"), Some("123456789012"));
    assert!(text.chars().filter(|c| !c.is_whitespace()).count() <= 6144);
    let ids: Vec<String> =
        statements(&text).iter().map(|statement| statement["Sid"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    assert!(ids.iter().all(|id| id.bytes().all(|b| b.is_ascii_alphanumeric())));
    for word in ["cluster", "region", "account", "partition", "identity"] {
        assert!(!text.contains(&format!("{{{word}}}")), "{word}");
    }
}

#[test]
fn without_a_region_all_are_meant() {
    let all = operator_policy(&shop(), None, None);
    assert!(!all.contains("ec2:Region"));
    assert!(all.contains("arn:aws:ec2:*:*:instance/*") && all.contains("role/clusterctl/clusterctl-shop-*"));
    let one = operator_policy(&shop(), Some("cn-north-1"), None);
    assert!(one.contains("arn:aws-cn:ec2:cn-north-1:*:instance/*") && one.contains("\"ec2:Region\": \"cn-north-1\""));
}

#[test]
fn values_cannot_become_json() {
    let strange = "x\", \"Action\": \"*\", \"{cluster}";
    let text = operator_policy(&shop(), Some(strange), Some(strange));
    assert_eq!(statements(&text).len(), statements(&operator_policy(&shop(), None, None)).len());
    assert!(text.contains("{cluster}"), "a value is not filled in again");
    assert_eq!(statements(&instance_policy(strange, None))[0]["Condition"]["StringEquals"]["ec2:Region"], strange);
}

#[test]
fn names_of_identities_fit() {
    assert_eq!(identity_name(&shop(), "eu-west-1"), "clusterctl-shop-eu-west-1");
    let long = ClusterName::new("c".repeat(40)).unwrap();
    for region in ["ap-northeast-1", "us-gov-west-1", "ap-southeast-2"] {
        let name = identity_name(&long, region);
        assert!(name.len() <= LONGEST && name.starts_with(&format!("clusterctl-{long}-")), "{name}");
    }
    assert_ne!(identity_name(&long, "ap-northeast-1"), identity_name(&long, "ap-northeast-2"));
}

#[test]
fn documents_are_compared_as_iam_hands_them_out() {
    let policy = instance_policy("eu-west-1", None);
    let encoded: String = policy.bytes().map(|b| format!("%{b:02X}")).collect();
    assert!(same(&encoded, &policy) && same(&policy, &policy));
    assert!(same(&policy.replace(char::is_whitespace, ""), &policy));
    assert!(!same(&instance_policy("eu-west-2", None), &policy));
    for wrong in ["", "%", "%4", "%zz", "%+1", "null", "%FF"] {
        assert!(!same(wrong, &policy), "{wrong}");
    }
}

proptest! {
    #[test]
    fn no_document_is_too_strange(text in "\\PC{0,80}|[%0-9a-fA-F{}\":]{0,80}") {
        prop_assert!(!same(&text, &trust_policy()));
    }
}
