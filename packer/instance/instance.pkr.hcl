# Provisions a machine that runs already, over SSH, with the same scripts as the images: a test
# instance, or a server that is not in AWS. The user needs sudo without a password. The last step
# removes host keys, authorized keys and the machine id; skip it with -var steps=… if the machine
# is to stay what it is.
#
#   packer build -var host=192.0.2.7 -var user=admin -var key=id_ed25519 packer/instance

variable "host" {
  type        = string
  description = "The address of the machine."
}

variable "user" {
  type    = string
  default = "root"
}

variable "key" {
  type        = string
  description = "The file with the private key of the user."
}

variable "packages" {
  type        = string
  default     = "target/image"
  description = "A directory with the agent's package, and others to install."
}

variable "frameworks" {
  type    = string
  default = "none"
}

variable "release" {
  type        = string
  default     = ""
  description = "The URL of a release to stage; none by default."
}

variable "steps" {
  type        = string
  default     = ""
  description = "The steps of packer/provision to run, separated by spaces; all by default."
}

source "null" "instance" {
  communicator         = "ssh"
  ssh_host             = var.host
  ssh_username         = var.user
  ssh_private_key_file = var.key
}

build {
  sources = ["source.null.instance"]

  provisioner "shell" {
    inline = ["rm -rf /tmp/deploy-image", "mkdir -p /tmp/deploy-image/packages"]
  }

  provisioner "file" {
    source      = "${path.root}/../provision"
    destination = "/tmp/deploy-image"
  }

  provisioner "file" {
    source      = "${var.packages}/"
    destination = "/tmp/deploy-image/packages"
  }

  provisioner "shell" {
    environment_vars = [
      "FRAMEWORKS=${var.frameworks}",
      "PACKAGES=/tmp/deploy-image/packages",
      "RELEASE=${var.release}",
      "STEPS=${var.steps}",
    ]
    execute_command = "chmod +x {{ .Path }}; sudo env {{ .Vars }} {{ .Path }}"
    inline = [
      "bash /tmp/deploy-image/provision/run.sh",
      "rm -rf /tmp/deploy-image",
    ]
  }
}
