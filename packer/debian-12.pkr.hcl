# Debian 12, from Debian's own images.
build {
  name = "debian-12"

  source "source.amazon-ebs.image" {
    name          = "amd64"
    ami_name      = "debian-12-amd64-deploy-agent-{{timestamp}}"
    instance_type = "t3.small"
    ssh_username  = "admin"

    source_ami_filter {
      owners      = ["136693071363"]
      most_recent = true
      filters = {
        name                = "debian-12-amd64-*"
        architecture        = "x86_64"
        root-device-type    = "ebs"
        virtualization-type = "hvm"
      }
    }
  }

  source "source.amazon-ebs.image" {
    name          = "arm64"
    ami_name      = "debian-12-arm64-deploy-agent-{{timestamp}}"
    instance_type = "t4g.small"
    ssh_username  = "admin"

    source_ami_filter {
      owners      = ["136693071363"]
      most_recent = true
      filters = {
        name                = "debian-12-arm64-*"
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
