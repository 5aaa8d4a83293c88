# A node's image by Packer, for those whose images are all made by it: Packer launches the builder and makes the image,
# clusterctl does on it what `clusterctl ami build` does. What Packer does not do is prove the image: boot a host of it,
# see it alive in Consul and scraped by Prometheus, and then tag it clusterctl:proved. Before that no fleet takes it.
#
#   packer init packer.pkr.hcl
#   packer build -var cluster=shop packer.pkr.hcl

packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3.0"
    }
  }
}

variable "cluster" {
  description = "The name of [cluster] in the spec."
  type        = string
}

variable "spec" {
  description = "The spec."
  type        = string
  default     = "cluster.toml"
}

variable "clusterctl" {
  description = "A clusterctl for the builder's processor."
  type        = string
  default     = "clusterctl"
}

variable "programs" {
  description = "What is in the image: as `clusterctl render --output json` has the versions of the spec."
  type        = string
  default     = "consul=1.22.7 node_exporter=1.12.1"
}

variable "servers" {
  description = "How many servers the cluster has."
  type        = number
  default     = 1
}

variable "region" {
  type    = string
  default = "eu-west-1"
}

variable "instance_type" {
  type    = string
  default = "t3.small"
}

# Credentials come from the default chain, as clusterctl's own do.
source "amazon-ebs" "node" {
  region        = var.region
  instance_type = var.instance_type
  ssh_username  = "admin"
  ami_name      = "clusterctl-${var.cluster}-node-${formatdate("YYYYMMDD-hhmmss", timestamp())}"
  encrypt_boot  = true
  imds_support  = "v2.0"

  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
  }

  # Debian 12; the number is the account of Debian's cloud team.
  source_ami_filter {
    most_recent = true
    owners      = ["136693071363"]

    filters = {
      name                = "debian-12-amd64-*"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }

  # What `clusterctl ami` knows an image by.
  tags = {
    "Name"                = "clusterctl ${var.cluster} node"
    "clusterctl:image-of" = var.cluster
    "clusterctl:role"     = "node"
    "clusterctl:servers"  = var.servers
    "clusterctl:programs" = var.programs
    "clusterctl:spec"     = "sha256:${sha256(file(var.spec))}"
    "clusterctl:created"  = timestamp()
  }
}

build {
  sources = ["source.amazon-ebs.node"]

  provisioner "file" {
    source      = var.clusterctl
    destination = "/tmp/clusterctl"
  }

  provisioner "file" {
    source      = var.spec
    destination = "/tmp/cluster.toml"
  }

  # `--seal` clears what belongs to this machine alone, keys for logging in among it: it is the last thing that needs
  # a login. The same shell then takes the two files away.
  provisioner "shell" {
    execute_command = "chmod +x {{ .Path }}; sudo env {{ .Vars }} sh -e {{ .Path }}"

    inline = [
      "chmod 755 /tmp/clusterctl",
      "/tmp/clusterctl ami provision --local --role node --seal -f /tmp/cluster.toml --yes",
      "rm -f /tmp/clusterctl /tmp/cluster.toml",
    ]
  }
}
