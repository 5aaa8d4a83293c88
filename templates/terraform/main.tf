# The nodes of the cluster {{ cluster }} as an Auto Scaling group, for those who keep their account by Terraform.
#
# Written by `clusterctl render --format terraform`, from the spec. Change the spec and write it anew: a change by
# hand is gone with the next run. What differs from place to place is a variable. The servers are not here:
# `clusterctl up` makes them, and takes the groups and the role below, which have the names and tags it looks for.

terraform {
  required_version = ">= 1.3"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

# An AMI of `clusterctl ami build`; null: the newest one of this cluster whose host had joined when it was tried.
variable "image" {
  description = "The AMI of the nodes; null takes the newest proved one of the cluster."
  type = string
  default = {{ image | hcl }}
}

variable "vpc_id" {
  description = "The VPC; null takes that of the subnets, or the account's default one."
  type = string
  default = {{ vpc | hcl }}
}

variable "subnet_ids" {
  description = "The subnets that nodes are spread over; none takes all of the VPC."
  type = list(string)
  default = {{ subnets | hcl }}
}

variable "instance_type" {
  description = "What a node is, where the group does not choose among several."
  type = string
  default = {{ instance_type | hcl }}
}

variable "key_name" {
  description = "A key pair to log in with; nodes need none."
  type = string
  default = {{ key_pair | hcl }}
}

variable "min_size" {
  description = "The group never has fewer nodes."
  type = number
  default = {{ fleet.min }}
}

variable "max_size" {
  description = "The group never has more nodes."
  type = number
  default = {{ fleet.max }}
}

variable "size" {
  description = "How many nodes a new group begins with; later the group itself knows."
  type = number
  default = {{ fleet.size }}
}

variable "tags" {
  description = "Your own tags, on all that is made."
  type = map(string)
{%- if tags %}
  default = {
{%- for key, value in tags %}
    {{ key | hcl }} = {{ value | hcl }}
{%- endfor %}
  }
{%- else %}
  default = {}
{%- endif %}
}

# The region is the provider's.
data "aws_region" "current" {}

# Looked for only where nobody names a subnet or a VPC.
data "aws_vpc" "default" {
  count = var.vpc_id == null && length(var.subnet_ids) == 0 ? 1 : 0
  default = true
}

data "aws_subnet" "first" {
  count = length(var.subnet_ids) > 0 ? 1 : 0
  id = var.subnet_ids[0]
}

data "aws_subnets" "all" {
  count = length(var.subnet_ids) > 0 ? 0 : 1

  filter {
    name = "vpc-id"
    values = [local.vpc_id]
  }
}

# The AMI itself, for the name of its root volume. `ami build` tags an image clusterctl:proved when a host that was
# booted from it was alive in Consul and scraped by Prometheus; without that no node is made of it.
data "aws_ami" "node" {
  most_recent = true
  owners = var.image == null ? ["self"] : null

  dynamic "filter" {
    for_each = local.image

    content {
      name = filter.key
      values = [filter.value]
    }
  }
}

locals {
  region = data.aws_region.current.id
  vpc_id = coalesce(var.vpc_id, one(data.aws_subnet.first[*].vpc_id), one(data.aws_vpc.default[*].id))
  subnet_ids = length(var.subnet_ids) > 0 ? var.subnet_ids : data.aws_subnets.all[0].ids

  image = var.image != null ? tomap({ "image-id" = var.image }) : tomap({
    "tag:clusterctl:image-of" = {{ cluster | hcl }}
    "tag:clusterctl:role" = "node"
    "tag-key" = "clusterctl:proved"
    "state" = "available"
  })

  # By this tag `clusterctl` knows what is the cluster's.
  tags = merge(var.tags, { "clusterctl:cluster" = {{ cluster | hcl }} })
{%- if make_identity %}

  # IAM is one for all regions, so that the region is in the name, or what is left of it in 64 characters.
{%- if identity %}
  identity = {{ identity | hcl }}
{%- else %}
  identity_whole = "clusterctl-{{ cluster }}-${local.region}"
  identity_short = "clusterctl-{{ cluster }}-${substr(sha256(local.region), 0, 8)}"
  identity = length(local.identity_whole) <= 64 ? local.identity_whole : local.identity_short
{%- endif %}
{%- endif %}
}
{%- if make_identity %}

# What a node may do in the account: what `clusterctl policy iam` shows.
resource "aws_iam_role" "node" {
  name = local.identity
  path = "/clusterctl/"
  tags = local.tags

  assume_role_policy = jsonencode({{ trust }})
}

resource "aws_iam_role_policy" "node" {
  name = "clusterctl-discovery"
  role = aws_iam_role.node.id

  policy = jsonencode({{ policy }})
}

resource "aws_iam_instance_profile" "node" {
  name = local.identity
  path = "/clusterctl/"
  role = aws_iam_role.node.name
  tags = local.tags
}
{%- endif %}

# All hosts of the cluster are in the first group, its servers in the second one too: `clusterctl policy ports`.
{%- for group in groups %}
resource "aws_security_group" {{ group.key | hcl }} {
  name = {{ group.name | hcl }}
  description = {{ group_description | hcl }}
  vpc_id = local.vpc_id
  tags = merge(local.tags, { Name = {{ group.name | hcl }} })
}
{% endfor %}
{%- for rule in rules %}
resource "aws_vpc_security_group_ingress_rule" {{ rule.key | hcl }} {
  security_group_id = aws_security_group.{{ rule.group }}.id
  description = {{ rule.description | hcl }}
  ip_protocol = {{ rule.protocol | hcl }}
  from_port = {{ rule.from_port }}
  to_port = {{ rule.to_port }}
{%- if rule.peer %}
  referenced_security_group_id = aws_security_group.{{ rule.peer }}.id
{%- elif rule.cidr_ipv4 %}
  cidr_ipv4 = {{ rule.cidr_ipv4 | hcl }}
{%- else %}
  cidr_ipv6 = {{ rule.cidr_ipv6 | hcl }}
{%- endif %}
}
{% endfor %}
# Terraform takes away the rule that EC2 gives each new group, by which all may leave.
resource "aws_vpc_security_group_egress_rule" "all_ipv4" {
  security_group_id = aws_security_group.all.id
  ip_protocol = "-1"
  cidr_ipv4 = "0.0.0.0/0"
}

resource "aws_vpc_security_group_egress_rule" "all_ipv6" {
  security_group_id = aws_security_group.all.id
  ip_protocol = "-1"
  cidr_ipv6 = "::/0"
}

# How a node is launched. It is told its cluster in user-data, and finds all else out when it boots.
resource "aws_launch_template" "node" {
  name = {{ fleet_name | hcl }}
  image_id = data.aws_ami.node.id
  instance_type = var.instance_type
  key_name = var.key_name
  update_default_version = true
  user_data = base64encode({{ user_data | hcl }})
  tags = local.tags
{%- if profile %}

  iam_instance_profile {
    name = {{ profile }}
  }
{%- endif %}

  # Version 2 of the metadata service only: what a node runs cannot be made to fetch the role's credentials by a URL.
  metadata_options {
    http_endpoint = "enabled"
    http_tokens = "required"
    http_put_response_hop_limit = 1
  }

  network_interfaces {
    associate_public_ip_address = {{ public }}
    delete_on_termination = true
    security_groups = concat([aws_security_group.all.id], {{ security_groups | hcl }})
  }

  block_device_mappings {
    device_name = data.aws_ami.node.root_device_name

    ebs {
{%- if root_volume.size %}
      volume_size = {{ root_volume.size }}
{%- endif %}
      volume_type = {{ root_volume.kind | hcl }}
      encrypted = {{ root_volume.encrypted }}
      delete_on_termination = true
    }
  }

  # A node of a fleet has no clusterctl:host: its name is its instance's id.
  tag_specifications {
    resource_type = "instance"

    tags = merge(local.tags, {
      "Name" = {{ instance_name | hcl }}
      "clusterctl:role" = "node"
      "clusterctl:origin" = "fleet"
    })
  }

  tag_specifications {
    resource_type = "volume"

    tags = merge(local.tags, {
      "Name" = {{ instance_name | hcl }}
      "clusterctl:origin" = "fleet"
    })
  }
{%- if region %}

  lifecycle {
    precondition {
      condition = local.region == {{ region | hcl }}
      error_message = {{ wrong_region | hcl }}
    }
  }
{%- endif %}
}

# The fleet, under the name that `clusterctl fleet` knows it by. A new version of the launch template, such as one with a newer image, replaces its nodes a few at a time.
resource "aws_autoscaling_group" "nodes" {
  name = {{ fleet_name | hcl }}
  min_size = var.min_size
  max_size = var.max_size
  desired_capacity = var.size
  vpc_zone_identifier = local.subnet_ids
  health_check_type = "EC2"
{%- if fleet.mixed and fleet.spot_percent > 0 %}
  capacity_rebalance = true
{%- endif %}

{%- if fleet.mixed %}

  # It takes what there is of these types{% if fleet.spot_percent > 0 %}, and spot instances for a share of them{% endif %}.
  mixed_instances_policy {
    instances_distribution {
      on_demand_base_capacity = {{ fleet.on_demand }}
      on_demand_percentage_above_base_capacity = {{ 100 - fleet.spot_percent }}
      spot_allocation_strategy = "price-capacity-optimized"
    }

    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.node.id
        version = aws_launch_template.node.latest_version
      }
{%- for type in fleet.instance_types %}

      override {
        instance_type = {{ type | hcl }}
      }
{%- endfor %}
    }
  }
{%- else %}

  launch_template {
    id = aws_launch_template.node.id
    version = aws_launch_template.node.latest_version
  }
{%- endif %}

  instance_refresh {
    strategy = "Rolling"

    preferences {
      min_healthy_percentage = {{ fleet.min_healthy }}
      skip_matching = true
      auto_rollback = true
    }
  }

  # The launch template tags the instances; these are on the group itself.
  dynamic "tag" {
    for_each = local.tags

    content {
      key = tag.key
      value = tag.value
      propagate_at_launch = false
    }
  }

  lifecycle {
    ignore_changes = [desired_capacity]
  }
}

output "autoscaling_group_name" {
  description = "The fleet."
  value = aws_autoscaling_group.nodes.name
}

output "launch_template_id" {
  description = "How its nodes are launched."
  value = aws_launch_template.node.id
}

output "image_id" {
  description = "The AMI that new nodes boot."
  value = data.aws_ami.node.id
}

output "security_group_ids" {
  description = "The groups of all hosts and of the servers."
  value = { all = aws_security_group.all.id, server = aws_security_group.server.id }
}
{%- if make_identity %}

output "instance_profile_name" {
  description = "The nodes' instance profile."
  value = aws_iam_instance_profile.node.name
}
{%- endif %}
