//! What to do about an error of AWS, and whether waiting or going elsewhere helps. The table of codes stands in
//! `cure/table.rs`.

mod table;

use table::CURES;

/// What to do about an error: of which action of which service (`ec2`, `RunInstances`), its code and message.
/// `None` where nothing better than the message is known.
pub fn cure(service: &str, action: &str, code: &str, message: &str) -> Option<String> {
    let whole = code;
    let code = bare(code);
    if is_refusal(code) {
        return Some(permission(service, action, message));
    }
    let message = message.to_lowercase();
    let is = |known: &&str| fits(known, whole) || fits(known, code);
    let found = CURES.iter().find(|(codes, within, _)| codes.iter().any(is) && message.contains(within));
    found.map(|(_, _, cure)| (*cure).to_owned())
}

/// Some SDKs and EC2's older answers say whose fault it is: `Client.InvalidAMIID.NotFound`.
fn bare(code: &str) -> &str {
    code.strip_prefix("Client.").or_else(|| code.strip_prefix("Server.")).unwrap_or(code)
}

fn fits(pattern: &str, code: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => code.starts_with(prefix),
        None => pattern == code,
    }
}

/// Does this code say that IAM does not allow it?
pub fn is_refusal(code: &str) -> bool {
    matches!(
        code,
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" | "NotAuthorized" | "UnauthorizedAccess"
    )
}

/// Names the action that is missing. That may be another one than what was called: RunInstances needs
/// iam:PassRole where instances get a profile.
fn permission(service: &str, action: &str, message: &str) -> String {
    let named = message.split_once("to perform: ").and_then(|(_, rest)| rest.split_whitespace().next());
    let fine =
        |name: &&str| name.contains(':') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b':' || b == b'-');
    let missing = named.map(|name| name.trim_end_matches(['.', ','])).filter(fine);
    let missing = missing.map_or_else(|| format!("{service}:{action}"), str::to_owned);
    let who = if message.contains("explicit deny") {
        format!("a policy of the account or of its organization denies {missing}: ask whoever manages those")
    } else {
        format!(
            "{missing} is not allowed to you: ask whoever manages the account's IAM; `clusterctl policy operator` prints the \
             least policy that is needed"
        )
    };
    match missing.split_once(':') {
        Some(("iam", "PassRole")) => {
            format!("{who} (for a profile of your own, on its role); or say instance_profile = \"none\" in [ec2]")
        }
        Some(("iam", _)) => format!("{who}; or name an existing profile as instance_profile in [ec2], or \"none\""),
        Some(("ssm", _)) => format!("{who}; or name an AMI's id as `ami` in [ec2]"),
        _ => who,
    }
}

/// Does it only say that what was made just now is not known everywhere yet? For calls that name such things:
/// from anywhere else the same codes mean that there is no such thing.
pub fn is_not_yet(code: &str, message: Option<&str>) -> bool {
    const NOT_YET: [&str; 7] = [
        "InvalidInstanceID.NotFound",
        "InvalidGroup.NotFound",
        "InvalidGroupId.NotFound",
        "InvalidSecurityGroupID.NotFound",
        "InvalidKeyPair.NotFound",
        "InvalidNetworkInterfaceID.NotFound",
        "NoSuchEntity",
    ];
    let of_profile =
        |message: &str| message.to_lowercase().contains("instance profile") || message.contains("iamInstanceProfile");
    match bare(code) {
        "InvalidParameterValue" => message.is_some_and(of_profile),
        code => NOT_YET.iter().any(|known| fits(known, code)),
    }
}

/// Is it only that place, so that another subnet or zone may do?
pub fn is_elsewhere(code: &str) -> bool {
    const ELSEWHERE: [&str; 9] = [
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientCapacity",
        "InsufficientVolumeCapacity",
        "InsufficientFreeAddressesInSubnet",
        "UnfulfillableCapacity",
        "SpotMaxPriceTooLow",
        "Unsupported",
        "VolumeTypeNotAvailableInZone",
    ];
    ELSEWHERE.contains(&bare(code))
}

#[cfg(test)]
mod tests;
