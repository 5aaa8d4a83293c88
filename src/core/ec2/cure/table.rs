//! Codes and their cures. The codes are those of
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>, of IAM's, SSM's and Service
//! Quotas' references, and of the signature's check, which all services share.

/// Codes, what must stand in the message (in small letters; empty: anything), and the cure. A code ending in
/// `*` stands for all that begin so. The first that fits is the one.
pub(super) const CURES: &[(&[&str], &str, &str)] = &[
    // How an instance that was launched ended at once.
    (
        &["Client.InternalError"],
        "",
        "most often the KMS key for its volumes is not yours to use: allow it to you, or say encrypted = false in \
         [ec2.root_volume]",
    ),
    // Who asks.
    (
        &["AuthFailure.ServiceLinkedRoleCreationNotPermitted"],
        "",
        "an account's first spot instance needs a role of EC2's: let somebody run `aws iam create-service-linked-role \
         --aws-service-name spot.amazonaws.com`, or say spot = false in [ec2]",
    ),
    (
        &["AuthFailure"],
        "not able to validate",
        "are the credentials those of this region's account, and is the region switched on for it? `aws sts \
         get-caller-identity` tells who you are",
    ),
    (
        &["AuthFailure"],
        "",
        "is what is named yours, or shared with this account? `aws sts get-caller-identity` tells who you are",
    ),
    (
        &["InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "InvalidAccessKeyId.NotFound"],
        "",
        "the access key is unknown: is it deleted, mistyped, of another partition, or is AWS_SESSION_TOKEN missing or old? \
         Log in again (`aws sso login`), or name another `profile` in [ec2]",
    ),
    (
        &["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"],
        "",
        "the session has ended: log in again (`aws sso login`, or new AWS_SESSION_TOKEN), and run the command again",
    ),
    (
        &["RequestExpired"],
        "",
        "either the session has ended (log in again: `aws sso login`, or a new AWS_SESSION_TOKEN), or this machine's clock is \
         more than 5 minutes off (`timedatectl set-ntp true`)",
    ),
    (
        &["RequestTimeTooSkewed", "RequestInTheFuture"],
        "",
        "AWS takes requests that are at most 5 minutes old: set this machine's clock (`timedatectl set-ntp true`)",
    ),
    (
        &["SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature", "IncompleteSignatureException"],
        "",
        "the secret key does not belong to the access key, or this machine's clock is wrong: check \
         AWS_SECRET_ACCESS_KEY or the profile, and `timedatectl`",
    ),
    (
        &["MissingAuthenticationToken", "MissingAuthenticationTokenException"],
        "",
        "no credentials were sent: name a `profile` in [ec2], or set AWS_PROFILE",
    ),
    (
        &["OptInRequired", "SubscriptionRequiredException"],
        "marketplace",
        "the image is the Marketplace's: accept its terms on its page there, or name another `ami` in [ec2]",
    ),
    (
        &["OptInRequired", "SubscriptionRequiredException"],
        "",
        "the account is not signed up for this: finish its registration, switch the region on in it, or accept the image's terms",
    ),
    (
        &["PendingVerification"],
        "",
        "AWS is still checking the account for this region: it takes up to a few hours; then run the command again",
    ),
    (&["Blocked"], "", "AWS has blocked the account: its owner must ask AWS Support"),
    // Room.
    (
        &[
            "InsufficientInstanceCapacity",
            "InsufficientHostCapacity",
            "InsufficientCapacity",
            "InsufficientVolumeCapacity",
            "UnfulfillableCapacity",
        ],
        "",
        "AWS has no such machine free there now: name subnets in other zones or another instance_type in [ec2], say spot = \
         false, or run the command again later",
    ),
    (
        &["VcpuLimitExceeded", "InstanceLimitExceeded"],
        "",
        "the account's quota is full: end instances, take fewer `nodes` or a smaller instance_type, or ask for more under \
         Service Quotas (Running On-Demand instances)",
    ),
    (
        &["MaxSpotInstanceCountExceeded"],
        "",
        "the account's quota of spot instances is full: say spot = false in [ec2], or ask for more under Service Quotas (All \
         Spot Instance Requests)",
    ),
    (
        &["SpotMaxPriceTooLow"],
        "",
        "spot instances cost more than that now: name another instance_type, or say spot = false in [ec2]",
    ),
    (
        &["InsufficientFreeAddressesInSubnet"],
        "",
        "the subnet has no address left: name more or larger `subnets` in [ec2], or end instances in it",
    ),
    (
        &["VolumeLimitExceeded", "MaxIOPSLimitExceeded"],
        "",
        "the account's quota of EBS is full: delete volumes, or take a smaller size in [ec2.root_volume]",
    ),
    (
        &[
            "SecurityGroupLimitExceeded",
            "SecurityGroupsPerInstanceLimitExceeded",
            "SecurityGroupsPerInterfaceLimitExceeded",
        ],
        "",
        "delete security groups that nobody uses, take fewer `security_groups` in [ec2], or ask for more under Service Quotas",
    ),
    (
        &["RulesPerSecurityGroupLimitExceeded"],
        "",
        "put several addresses of ssh_from in [ec2] together as one larger network",
    ),
    (
        &["NetworkInterfaceLimitExceeded", "PrivateIpAddressLimitExceeded", "AddressLimitExceeded"],
        "",
        "the account's quota of network interfaces or addresses is full: end instances, or ask for more under Service Quotas",
    ),
    (
        &["KeyPairLimitExceeded"],
        "",
        "delete key pairs that nobody uses, or name an existing one as `key_pair` in [ec2]",
    ),
    (
        &["CustomerKeyHasBeenRevoked", "EncryptedVolumesNotSupported"],
        "",
        "the account's key for EBS cannot be used there: choose another one (`aws ec2 modify-ebs-default-kms-key-id`), or \
         say encrypted = false in [ec2.root_volume]",
    ),
    (&["TagLimitExceeded"], "", "a resource has at most 50 tags: take some out of [ec2.tags]"),
    // What the spec names.
    (
        &["InvalidAMIID.*"],
        "",
        "AMIs belong to one region: name one of this region as `ami` in [ec2], or a distribution such as \"debian-12\"",
    ),
    (
        &["InvalidSubnetID.*", "InvalidSubnetId.*", "InvalidSubnet", "InvalidSubnet.*"],
        "",
        "name `subnets` of this region and account in [ec2] (`aws ec2 describe-subnets`)",
    ),
    (&["InvalidVpcID.*"], "", "name a `vpc` of this region and account in [ec2] (`aws ec2 describe-vpcs`)"),
    (
        &["InvalidGroup.NotFound", "InvalidGroupId.*", "InvalidSecurityGroupID.*", "InvalidSecurityGroupId.*"],
        "",
        "name `security_groups` of the hosts' VPC in [ec2] by their ids (`aws ec2 describe-security-groups`); one that \
         clusterctl makes is made again when the command is run again",
    ),
    (&["InvalidGroup.InUse"], "", "another group or instance still uses it: run the command again when that is gone"),
    (
        &["InvalidKeyPair.NotFound"],
        "",
        "name a `key_pair` of this region in [ec2] (`aws ec2 describe-key-pairs`), or leave it out: then your own key is imported",
    ),
    (
        &["InvalidKeyPair.Duplicate"],
        "",
        "a key pair of that name exists and is not this cluster's: name it as `key_pair` in [ec2], or delete it",
    ),
    (
        &["InvalidKeyPair.*", "InvalidKey.*"],
        "",
        "EC2 takes ed25519 and RSA keys: make one with `ssh-keygen -t ed25519`, and name it as `key` in [ssh]",
    ),
    (
        &["VPCIdNotSpecified", "DefaultVpcDoesNotExist", "MissingInput"],
        "",
        "the account has no default VPC in this region: name `subnets` in [ec2], or make one with `aws ec2 create-default-vpc`",
    ),
    (
        &["InvalidParameterValue", "InvalidParameterCombination", "Unsupported*"],
        "architecture",
        "image and instance_type are for different processors: t4g, m7g and c7g are arm64, t3, m7i and c7i are x86_64; a \
         distribution's name as `ami` in [ec2] fits either",
    ),
    (
        &["InvalidParameterValue"],
        "instance profile",
        "name an existing profile as instance_profile in [ec2] (`aws iam list-instance-profiles`), \"none\" for none, or leave it \
         out; one that was made just now may need some seconds more",
    ),
    (
        &["InvalidParameterValue"],
        "instance type",
        "name an instance_type that this region has (`aws ec2 describe-instance-type-offerings`)",
    ),
    (
        &["InvalidParameterValue", "InvalidBlockDeviceMapping", "InvalidParameterCombination"],
        "volume",
        "check size and kind in [ec2.root_volume]: a root volume is at least as large as its image",
    ),
    (
        &["InvalidBlockDeviceMapping", "InvalidBlockDevice*"],
        "",
        "check size and kind in [ec2.root_volume]: a root volume is at least as large as its image",
    ),
    (&["InvalidInstanceType"], "", "name another instance_type in [ec2] (`aws ec2 describe-instance-type-offerings`)"),
    (
        &["Unsupported", "UnsupportedOperation", "UnsupportedHostConfiguration"],
        "",
        "the zone or the image does not bear this instance_type: name `subnets` in other zones, another instance_type, or \
         another image in [ec2]",
    ),
    (&["VolumeTypeNotAvailableInZone"], "", "name another kind in [ec2.root_volume]: gp3 is in every zone"),
    (&["InvalidUserData*"], "", "the instance's first script was refused: this is a bug in clusterctl"),
    (
        &["InvalidTag*", "TagPolicyViolation"],
        "",
        "check [ec2.tags]: keys have at most 128 and values at most 256 characters; the organization may want certain tags",
    ),
    (
        &["InvalidInstanceID.*"],
        "",
        "there is no such instance in this region: check the id, `region` and `profile` (`clusterctl status` lists the hosts)",
    ),
    (
        &["IncorrectInstanceState", "IncorrectState"],
        "",
        "the instance is just changing: run the command again in a minute",
    ),
    (
        &["OperationNotPermitted"],
        "terminat",
        "the instance is protected: `aws ec2 modify-instance-attribute --no-disable-api-termination --instance-id …`",
    ),
    (
        &["ParameterNotFound", "ParameterVersionNotFound"],
        "",
        "the SSM parameter is not in this region: name another one, or the AMI's id, as `ami` in [ec2]",
    ),
    (
        &["InvalidSecurityGroupRuleId.*", "InvalidPermission.*"],
        "",
        "somebody else changed the group's rules meanwhile: run the command again",
    ),
    // What is in the way.
    (
        &["DependencyViolation"],
        "",
        "something else still uses it: the message names it; take it away, and run the command again",
    ),
    (
        &["DeleteConflict"],
        "",
        "somebody hung more on the role or profile (policies, other profiles): take it off, and run the command again",
    ),
    (
        &["IdempotentParameterMismatch", "IdempotentInstanceTerminated"],
        "",
        "an earlier launch of this host was asked for with other settings: run the command again, it takes a new token",
    ),
    (
        &["EntityAlreadyExists"],
        "",
        "it exists and is not this cluster's: delete or rename it, or name a profile of your own as instance_profile in [ec2]",
    ),
    (&["NoSuchEntity"], "", "it is gone, or was made just now: run the command again"),
    (
        &["LimitExceeded"],
        "",
        "IAM's quota of roles or profiles is full: delete unused ones, or name an existing profile as instance_profile in [ec2]",
    ),
    (
        &["MalformedPolicyDocument", "InvalidPolicyDocument"],
        "",
        "AWS refused a policy of clusterctl's: this is a bug; instance_profile in [ec2] goes round it",
    ),
    (
        &["ConcurrentModification", "ConcurrentModificationException", "ConcurrentTagAccess"],
        "",
        "somebody else changes it at the same time: run the command again",
    ),
    (&["NoSuchResourceException"], "", "this region has no such quota to look at: nothing needs to be done"),
    // AWS itself.
    (
        &[
            "RequestLimitExceeded",
            "Throttling*",
            "RequestThrottled*",
            "EC2ThrottledException",
            "TooManyRequestsException",
            "SlowDown",
        ],
        "",
        "the account makes more calls than AWS lets it: what else calls the API there? Running the command again later is safe",
    ),
    (
        &[
            "InternalError",
            "InternalFailure",
            "Unavailable",
            "ServiceUnavailable*",
            "InternalServer*",
            "InternalServiceError",
        ],
        "",
        "AWS itself failed (https://health.aws.amazon.com): running the command again is safe",
    ),
];
