//! What the AWS provider (5 and 6) takes, as far as the module uses it, written by hand from its documentation:
//! <https://registry.terraform.io/providers/hashicorp/aws/latest/docs>. And what Terraform itself takes of a block.

use super::hcl::{Block, Body, Token};

/// A block's path, its required attributes and blocks, its optional attributes, its optional blocks.
type Known = (&'static str, &'static str, &'static str, &'static str);

const KNOWN: &[Known] = &[
    ("terraform", "required_version required_providers", "", "backend"),
    ("terraform/required_providers", "aws", "", ""),
    ("variable", "", "description type default nullable sensitive ephemeral", "validation"),
    ("output", "value", "description sensitive ephemeral depends_on", "precondition"),
    ("data aws_region", "", "name endpoint region", ""),
    ("data aws_vpc", "", "id default cidr_block dhcp_options_id state tags region", "filter"),
    ("data aws_subnet", "", "id vpc_id availability_zone cidr_block default_for_az state tags region", "filter"),
    ("data aws_subnets", "", "tags region", "filter"),
    ("data aws_subnets/filter", "name values", "", ""),
    (
        "data aws_ami",
        "",
        "owners most_recent executable_users include_deprecated name_regex allow_unsafe_filter uefi_data region",
        "filter",
    ),
    ("data aws_ami/filter", "name values", "", ""),
    (
        "resource aws_iam_role",
        "assume_role_policy",
        "name name_prefix path tags description force_detach_policies max_session_duration permissions_boundary",
        "",
    ),
    ("resource aws_iam_role_policy", "role policy", "name name_prefix", ""),
    ("resource aws_iam_instance_profile", "", "name name_prefix path role tags", ""),
    (
        "resource aws_security_group",
        "",
        "name name_prefix description vpc_id tags revoke_rules_on_delete ingress egress region",
        "",
    ),
    (
        "resource aws_vpc_security_group_ingress_rule",
        "security_group_id ip_protocol",
        "cidr_ipv4 cidr_ipv6 description from_port to_port prefix_list_id referenced_security_group_id tags region",
        "",
    ),
    (
        "resource aws_vpc_security_group_egress_rule",
        "security_group_id ip_protocol",
        "cidr_ipv4 cidr_ipv6 description from_port to_port prefix_list_id referenced_security_group_id tags region",
        "",
    ),
    (
        "resource aws_launch_template",
        "",
        "name name_prefix description image_id instance_type key_name user_data tags default_version region \
         update_default_version vpc_security_group_ids security_group_names ebs_optimized disable_api_stop \
         disable_api_termination instance_initiated_shutdown_behavior kernel_id ram_disk_id",
        "block_device_mappings iam_instance_profile metadata_options network_interfaces tag_specifications monitoring \
         instance_market_options credit_specification placement cpu_options",
    ),
    ("resource aws_launch_template/iam_instance_profile", "", "arn name", ""),
    (
        "resource aws_launch_template/metadata_options",
        "",
        "http_endpoint http_tokens http_put_response_hop_limit http_protocol_ipv6 instance_metadata_tags",
        "",
    ),
    (
        "resource aws_launch_template/network_interfaces",
        "",
        "associate_public_ip_address delete_on_termination security_groups subnet_id device_index description \
         associate_carrier_ip_address interface_type ipv4_addresses ipv6_address_count ipv6_addresses \
         network_card_index network_interface_id primary_ipv6 private_ip_address",
        "",
    ),
    ("resource aws_launch_template/block_device_mappings", "device_name", "no_device virtual_name", "ebs"),
    (
        "resource aws_launch_template/block_device_mappings/ebs",
        "",
        "delete_on_termination encrypted iops kms_key_id snapshot_id throughput volume_size volume_type \
         volume_initialization_rate",
        "",
    ),
    ("resource aws_launch_template/tag_specifications", "resource_type", "tags", ""),
    (
        "resource aws_autoscaling_group",
        "min_size max_size",
        "name name_prefix desired_capacity desired_capacity_type availability_zones vpc_zone_identifier \
         capacity_rebalance default_cooldown default_instance_warmup health_check_grace_period health_check_type \
         force_delete termination_policies suspended_processes max_instance_lifetime protect_from_scale_in \
         wait_for_capacity_timeout ignore_failed_scaling_activities enabled_metrics metrics_granularity \
         service_linked_role_arn placement_group region",
        "launch_template mixed_instances_policy instance_refresh tag instance_maintenance_policy warm_pool \
         initial_lifecycle_hook availability_zone_distribution timeouts",
    ),
    ("resource aws_autoscaling_group/launch_template", "", "id name version", ""),
    ("resource aws_autoscaling_group/mixed_instances_policy", "launch_template", "", "instances_distribution"),
    (
        "resource aws_autoscaling_group/mixed_instances_policy/instances_distribution",
        "",
        "on_demand_allocation_strategy on_demand_base_capacity on_demand_percentage_above_base_capacity \
         spot_allocation_strategy spot_instance_pools spot_max_price",
        "",
    ),
    (
        "resource aws_autoscaling_group/mixed_instances_policy/launch_template",
        "launch_template_specification",
        "",
        "override",
    ),
    (
        "resource aws_autoscaling_group/mixed_instances_policy/launch_template/launch_template_specification",
        "",
        "launch_template_id launch_template_name version",
        "",
    ),
    (
        "resource aws_autoscaling_group/mixed_instances_policy/launch_template/override",
        "",
        "instance_type weighted_capacity",
        "instance_requirements launch_template_specification",
    ),
    ("resource aws_autoscaling_group/instance_refresh", "strategy", "triggers", "preferences"),
    (
        "resource aws_autoscaling_group/instance_refresh/preferences",
        "",
        "auto_rollback checkpoint_delay checkpoint_percentages instance_warmup max_healthy_percentage \
         min_healthy_percentage scale_in_protected_instances skip_matching standby_instances",
        "alarm_specification",
    ),
    ("resource aws_autoscaling_group/tag", "key value propagate_at_launch", "", ""),
    ("lifecycle", "", "create_before_destroy prevent_destroy ignore_changes replace_triggered_by", "precondition"),
    ("lifecycle/precondition", "condition error_message", "", ""),
];
/// What every resource and data source takes.
const META: &str = "count for_each depends_on provider";
const FUNCTIONS: &str = "base64encode coalesce concat jsonencode length list map merge one sha256 substr tomap";

fn has(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|known| known == word)
}

/// Everything that Terraform would refuse.
pub fn mistakes(module: &Body) -> Vec<String> {
    let mut out = Vec::new();
    for block in &module.blocks {
        match block.kind.as_str() {
            "locals" => {}
            "resource" | "data" if block.labels.len() == 2 => {
                check(&format!("{} {}", block.kind, block.labels[0]), &block.body, META, &mut out);
            }
            "variable" | "output" if block.labels.len() == 1 => check(&block.kind, &block.body, "", &mut out),
            "terraform" if block.labels.is_empty() => check("terraform", &block.body, "", &mut out),
            other => out.push(format!("a block {other} {:?}", block.labels)),
        }
    }
    let declared = declared(module);
    let same = |name: &String| declared.iter().filter(|other| *other == name).count() > 1;
    out.extend(declared.iter().filter(|name| same(name)).map(|name| format!("{name} is declared twice")));
    walk(module, &mut Vec::new(), &declared, &mut out);
    out
}

fn check(path: &str, body: &Body, meta: &str, out: &mut Vec<String>) {
    let Some((_, required, optional, blocks)) = KNOWN.iter().find(|(known, ..)| *known == path) else {
        out.push(format!("nothing is known of {path}"));
        return;
    };
    let there = |word: &str| {
        body.get(word).is_some() || body.blocks.iter().any(|block| block.kind == word || is_dynamic(block, word))
    };
    out.extend(required.split_whitespace().filter(|word| !there(word)).map(|word| format!("{path} lacks {word}")));
    for (name, _) in &body.attributes {
        if !(has(required, name) || has(optional, name) || has(meta, name)) {
            out.push(format!("{path} takes no {name}"));
        }
    }
    for block in &body.blocks {
        let (kind, inner) = if block.kind == "dynamic" && block.labels.len() == 1 {
            let content = block.body.blocks.iter().find(|inner| inner.kind == "content");
            if block.body.get("for_each").is_none() || block.body.attributes.len() != 1 {
                out.push(format!("{path}: a dynamic block has for_each alone"));
            }
            (block.labels[0].as_str(), content.map_or(&block.body, |content| &content.body))
        } else {
            (block.kind.as_str(), &block.body)
        };
        if kind == "lifecycle" && !meta.is_empty() {
            check("lifecycle", inner, "", out);
        } else if has(required, kind) || has(blocks, kind) {
            check(&format!("{path}/{kind}"), inner, "", out);
        } else {
            out.push(format!("{path} takes no block {kind}"));
        }
    }
}

fn is_dynamic(block: &Block, word: &str) -> bool {
    block.kind == "dynamic" && block.labels == [word]
}

/// `var.x`, `local.x`, `data.T.x`, `T.x`.
fn declared(module: &Body) -> Vec<String> {
    let mut out = Vec::new();
    for block in &module.blocks {
        match (block.kind.as_str(), block.labels.as_slice()) {
            ("variable", [name]) => out.push(format!("var.{name}")),
            ("locals", []) => out.extend(block.body.attributes.iter().map(|(name, _)| format!("local.{name}"))),
            ("data", [kind, name]) => out.push(format!("data.{kind}.{name}")),
            ("resource", [kind, name]) => out.push(format!("{kind}.{name}")),
            _ => {}
        }
    }
    out
}

/// Follows every expression; `iterators` are the names of the dynamic blocks around it.
fn walk(body: &Body, iterators: &mut Vec<String>, declared: &[String], out: &mut Vec<String>) {
    for (name, value) in &body.attributes {
        // These two are no expressions: types, and names of attributes.
        if name != "type" && name != "ignore_changes" {
            refers(value, iterators, declared, out);
        }
    }
    for block in &body.blocks {
        let dynamic = block.kind == "dynamic";
        if dynamic {
            iterators.extend(block.labels.first().cloned());
        }
        walk(&block.body, iterators, declared, out);
        if dynamic {
            iterators.pop();
        }
    }
}

fn refers(value: &[Token], iterators: &[String], declared: &[String], out: &mut Vec<String>) {
    for (at, token) in value.iter().enumerate() {
        if let Token::Text(_, inner) = token {
            inner.iter().for_each(|inner| refers(inner, iterators, declared, out));
        }
        let Token::Word(word) = token else { continue };
        let before = at.checked_sub(1).map(|at| &value[at]);
        let after = value.get(at + 1);
        let number = word.bytes().all(|b| b.is_ascii_digit());
        if before == Some(&Token::Sign('.'))
            || after == Some(&Token::Sign('='))
            || number
            || has("true false null", word)
        {
            continue;
        }
        if after == Some(&Token::Sign('(')) {
            if !has(FUNCTIONS, word) {
                out.push(format!("no function {word}"));
            }
            continue;
        }
        let parts = if word == "data" { 3 } else { 2 };
        let path: Vec<&str> = value[at..]
            .iter()
            .take(2 * parts - 1)
            .filter_map(|token| if let Token::Word(word) = token { Some(word.as_str()) } else { None })
            .collect();
        if !iterators.contains(word) && !declared.contains(&path.join(".")) {
            out.push(format!("{} is declared nowhere", path.join(".")));
        }
    }
}
