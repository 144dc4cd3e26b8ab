# Amazon Linux 2023; not the minimal images, which lack the SSM agent.
build {
  name = "amazon-linux-2023"

  source "source.amazon-ebs.image" {
    name          = "amd64"
    ami_name      = "amazon-linux-2023-amd64-deploy-agent-{{timestamp}}"
    instance_type = "t3.small"
    ssh_username  = "ec2-user"

    source_ami_filter {
      owners      = ["amazon"]
      most_recent = true
      filters = {
        name                = "al2023-ami-2023.*-kernel-*-x86_64"
        architecture        = "x86_64"
        root-device-type    = "ebs"
        virtualization-type = "hvm"
      }
    }
  }

  source "source.amazon-ebs.image" {
    name          = "arm64"
    ami_name      = "amazon-linux-2023-arm64-deploy-agent-{{timestamp}}"
    instance_type = "t4g.small"
    ssh_username  = "ec2-user"

    source_ami_filter {
      owners      = ["amazon"]
      most_recent = true
      filters = {
        name                = "al2023-ami-2023.*-kernel-*-arm64"
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
