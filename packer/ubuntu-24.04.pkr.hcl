# Ubuntu 24.04, from Canonical's images.
build {
  name = "ubuntu-24.04"

  source "source.amazon-ebs.image" {
    name          = "amd64"
    ami_name      = "ubuntu-24.04-amd64-deploy-agent-{{timestamp}}"
    instance_type = "t3.small"
    ssh_username  = "ubuntu"

    source_ami_filter {
      owners      = ["099720109477"]
      most_recent = true
      filters = {
        name                = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*"
        architecture        = "x86_64"
        root-device-type    = "ebs"
        virtualization-type = "hvm"
      }
    }
  }

  source "source.amazon-ebs.image" {
    name          = "arm64"
    ami_name      = "ubuntu-24.04-arm64-deploy-agent-{{timestamp}}"
    instance_type = "t4g.small"
    ssh_username  = "ubuntu"

    source_ami_filter {
      owners      = ["099720109477"]
      most_recent = true
      filters = {
        name                = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-arm64-server-*"
        architecture        = "arm64"
        root-device-type    = "ebs"
        virtualization-type = "hvm"
      }
    }
  }

  provisioner "shell" {
    inline = ["rm -rf ${local.uploads}", "mkdir -p ${local.uploads}/packages"]
  }

  provisioner "file" {
    source      = "${path.root}/provision"
    destination = local.uploads
  }

  provisioner "file" {
    source      = "${var.packages}/"
    destination = "${local.uploads}/packages"
  }

  provisioner "shell" {
    environment_vars = local.environment
    execute_command  = "chmod +x {{ .Path }}; sudo env {{ .Vars }} {{ .Path }}"
    inline           = local.commands
  }
}
