# An AMI with the agent, and a release staged in it where one is named:
#
#   packer init packer
#   packer build -var release=s3://releases/my-app/production/r42 \
#                -var instance_profile=my-app packer

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

variable "deb" {
  type        = string
  default     = "target/debian/deploy-agent.deb"
  description = "The package, as `make deb` makes it."
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

source "amazon-ebs" "debian" {
  region               = var.region
  instance_type        = "t3.small"
  ssh_username         = "admin"
  ami_name             = "deploy-agent-{{timestamp}}"
  iam_instance_profile = var.instance_profile

  source_ami_filter {
    owners      = ["136693071363"] # Debian
    most_recent = true
    filters = {
      name                = "debian-12-amd64-*"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
}

build {
  sources = ["source.amazon-ebs.debian"]

  provisioner "file" {
    source      = var.deb
    destination = "/tmp/deploy-agent.deb"
  }

  provisioner "shell" {
    environment_vars = ["RELEASE=${var.release}"]
    inline = [
      "cloud-init status --wait || true",
      "sudo apt-get update",
      "sudo DEBIAN_FRONTEND=noninteractive apt-get install -y /tmp/deploy-agent.deb rsyslog",
      "rm /tmp/deploy-agent.deb",
      "if [ -n \"$RELEASE\" ]; then sudo deploy stage \"$RELEASE\"; fi",
    ]
  }
}
