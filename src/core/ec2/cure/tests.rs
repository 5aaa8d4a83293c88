use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn what_operators_meet() {
    let denied = "You are not authorized to perform this operation. User: arn:aws:iam::1:user/x is not authorized to \
                  perform: iam:PassRole on resource: arn:aws:iam::1:role/y because no identity-based policy allows it";
    let scp = "User: u is not authorized to perform: ec2:RunInstances on resource: r with an explicit deny in a service \
               control policy";
    let cases = [
        ("ec2", "RunInstances", "UnauthorizedOperation", "You are not authorized to perform this operation."),
        ("ec2", "RunInstances", "UnauthorizedOperation", denied),
        ("ec2", "RunInstances", "UnauthorizedOperation", scp),
        (
            "iam",
            "CreateRole",
            "AccessDenied",
            "User: u is not authorized to perform: iam:CreateRole on resource: role x",
        ),
        ("ssm", "GetParameter", "AccessDeniedException", "x"),
        ("ec2", "RunInstances", "UnauthorizedOperation", "to perform: rm\u{1b}[2J -rf"),
        ("ec2", "DescribeInstances", "AuthFailure", "AWS was not able to validate the provided access credentials"),
        ("ec2", "RunInstances", "AuthFailure", "Not authorized for images: [ami-1]"),
        ("ec2", "DescribeInstances", "RequestExpired", "Request has expired."),
        ("ec2", "RunInstances", "Client.InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist"),
        ("ec2", "RunInstances", "InvalidAMIID.Malformed", "Invalid id"),
        ("ec2", "RunInstances", "Server.InsufficientInstanceCapacity", "We currently do not have sufficient capacity"),
        ("ec2", "RunInstances", "Client.InternalError", "Client error on launch"),
        ("ec2", "RunInstances", "InternalError", "An internal error has occurred"),
        ("ec2", "RunInstances", "VcpuLimitExceeded", "You have requested more vCPU capacity than your current limit"),
        (
            "ec2",
            "RunInstances",
            "InvalidParameterValue",
            "The architecture 'arm64' of the specified instance type does not match the architecture 'x86_64' of the \
             specified AMI.",
        ),
        (
            "ec2",
            "RunInstances",
            "InvalidParameterValue",
            "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
        ),
        (
            "ec2",
            "RunInstances",
            "InvalidParameterValue",
            "Invalid value 't9.huge' for InstanceType: invalid instance type",
        ),
        ("ec2", "RunInstances", "Unsupported", "Your requested instance type is not supported in your requested zone"),
        ("ec2", "DescribeSubnets", "ThrottlingException", "Rate exceeded"),
        ("ec2", "DeleteSecurityGroup", "DependencyViolation", "resource sg-1 has a dependent object"),
    ];
    let mut shown = String::new();
    for (service, action, code, message) in cases {
        let cure = cure(service, action, code, message).unwrap_or_else(|| panic!("no cure for {code}"));
        assert!(!cure.chars().any(char::is_control));
        shown += &format!("{service}:{action} {code}: {}\n  {cure}\n", message.escape_debug());
    }
    insta::assert_snapshot!(shown);
}

/// Codes that the table must know, whatever the message says.
#[test]
fn the_codes_that_must_be_known() {
    for code in "UnauthorizedOperation AccessDenied AuthFailure InvalidClientTokenId ExpiredToken RequestExpired \
                 SignatureDoesNotMatch OptInRequired InsufficientInstanceCapacity VcpuLimitExceeded InstanceLimitExceeded \
                 MaxSpotInstanceCountExceeded SpotMaxPriceTooLow InsufficientFreeAddressesInSubnet InvalidAMIID.NotFound \
                 InvalidAMIID.Malformed InvalidAMIID.Unavailable InvalidSubnetID.NotFound InvalidGroup.NotFound \
                 InvalidKeyPair.NotFound InvalidKeyPair.Duplicate InvalidKeyPair.Format Unsupported RequestLimitExceeded \
                 InternalError Unavailable DependencyViolation IdempotentParameterMismatch VPCIdNotSpecified \
                 DefaultVpcDoesNotExist InvalidUserData.Malformed EntityAlreadyExists LimitExceeded ParameterNotFound \
                 DeleteConflict NoSuchEntity InvalidInstanceID.NotFound InvalidVpcID.NotFound PendingVerification"
        .split_whitespace()
    {
        assert!(cure("ec2", "RunInstances", code, "").is_some(), "{code}");
    }
    assert_eq!(cure("ec2", "RunInstances", "NobodyKnowsThis", "x"), None);
    assert_eq!(cure("ec2", "RunInstances", "InvalidParameterValue", "x"), None);
}

/// A row behind one that takes all it could take is dead.
#[test]
fn no_row_is_hidden_by_an_earlier_one() {
    for (at, (codes, within, cure)) in CURES.iter().enumerate() {
        assert!(!codes.is_empty() && !cure.is_empty() && *within == within.to_lowercase());
        assert!(!cure.ends_with('.'), "a cure is a clause, and no sentence: {cure}");
        for code in *codes {
            let hidden = CURES[..at].iter().any(|(earlier, needs, _)| {
                (needs.is_empty() || needs == within)
                    && earlier.iter().any(|pattern| fits(pattern, code.trim_end_matches('*')))
            });
            assert!(!hidden, "{code} {within}");
        }
    }
    let all: Vec<_> =
        CURES.iter().flat_map(|(codes, within, _)| codes.iter().map(move |code| (code, within))).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "a code stands twice");
}

#[test]
fn which_errors_pass_and_which_are_of_a_place() {
    for code in ["RequestLimitExceeded", "Throttling", "ThrottlingException", "Server.InternalError", "Unavailable"] {
        assert!(!is_elsewhere(code) && !is_not_yet(code, None), "{code}");
    }
    for code in ["InsufficientInstanceCapacity", "InsufficientFreeAddressesInSubnet", "Unsupported"] {
        assert!(is_elsewhere(code), "{code}");
    }
    for code in ["VcpuLimitExceeded", "UnauthorizedOperation", "InvalidAMIID.NotFound"] {
        assert!(!is_elsewhere(code) && !is_not_yet(code, Some("x")), "{code}");
    }
    assert!(is_not_yet("InvalidInstanceID.NotFound", None) && is_not_yet("InvalidGroup.NotFound", Some("x")));
    let profile = "Value (p) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name";
    assert!(is_not_yet("InvalidParameterValue", Some(profile)));
    assert!(
        !is_not_yet("InvalidParameterValue", Some("the architecture")) && !is_not_yet("InvalidParameterValue", None)
    );
}

proptest! {
    #[test]
    fn no_error_is_too_strange(code in "\\PC{0,20}|[A-Z][a-z]{3,9}\\.[A-Z]{0,3}", message in "\\PC{0,80}") {
        let _ = (is_not_yet(&code, Some(&message)), is_elsewhere(&code));
        if let Some(cure) = cure("ec2", "RunInstances", &code, &message) {
            prop_assert!(!cure.chars().any(char::is_control));
        }
        prop_assert!(!permission("ec2", "RunInstances", &message).chars().any(char::is_control));
    }
}
