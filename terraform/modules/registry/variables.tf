variable "name" {
  description = "Begins every name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name: 3 to 20 of a-z, 0-9 and hyphens, beginning with a letter."
  }
}

variable "images" {
  description = "Names of the repositories of images, under `name`: one for each target of the Dockerfile that is used."
  type        = set(string)
  default     = ["forebay"]

  validation {
    condition     = length(var.images) > 0 && alltrue([for one in var.images : can(regex("^[a-z0-9]+([._-][a-z0-9]+)*$", one))])
    error_message = "images: at least one, of a-z and 0-9 with single dots, underscores or hyphens between."
  }
}

variable "kept_images" {
  description = "How many images each repository keeps; the oldest go."
  type        = number
  default     = 30

  validation {
    condition     = var.kept_images >= 2 && floor(var.kept_images) == var.kept_images
    error_message = "kept_images: a whole number, 2 at least: the one that runs, and the one before."
  }
}

variable "deletable" {
  description = "Whether `terraform destroy` may delete the bucket and the repositories with what is in them."
  type        = bool
  default     = false
}
