# Images (AMIs) of instances with the agent. One build for each distribution, each for amd64 and
# arm64; this file has what they share.
#
#   install -D target/debian/deploy-agent.deb -t target/image
#   packer init packer
#   packer build -only='debian-12.*.amd64' -var frameworks=node packer
#
# packer/provision/run.sh does the work on the machine.

packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3.0"
    }
  }
}

variable "region" {
  type    = string
  default = "eu-central-1"
}

variable "packages" {
  type        = string
  default     = "target/image"
  description = "A directory with the agent's package, and others to install; each machine takes those of its format and architecture."
}

variable "frameworks" {
  type        = string
  default     = "none"
  description = "The runtimes to install: node, ruby, python, java, several separated by commas, or none."
}

variable "release" {
  type        = string
  default     = ""
  description = "The URL of a release to stage in the image; none by default."
}

variable "instance_profile" {
  type        = string
  default     = ""
  description = "A profile whose role may read the release."
}

locals {
  # On the machine that is provisioned.
  uploads = "/tmp/deploy-image"

  environment = [
    "FRAMEWORKS=${var.frameworks}",
    "PACKAGES=${local.uploads}/packages",
    "RELEASE=${var.release}",
  ]

  # The exit code of cloud-init says how the vendor's user-data ended, which is not ours.
  commands = [
    "cloud-init status --wait >/dev/null || true",
    "bash ${local.uploads}/provision/run.sh",
    "rm -rf ${local.uploads}",
  ]
}

source "amazon-ebs" "image" {
  region               = var.region
  iam_instance_profile = var.instance_profile
  ena_support          = true

  # Tokens for the metadata (IMDSv2) are required while the image is built, and for each instance
  # of it unless its launch template says otherwise.
  imds_support = "v2.0"
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
}
