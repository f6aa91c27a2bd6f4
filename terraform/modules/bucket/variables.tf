variable "name" {
  description = "Name of the bucket; unique among everybody's."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.name))
    error_message = "name: 3 to 63 of a-z, 0-9, dots and hyphens, beginning and ending in a letter or number."
  }
}

variable "kms_key_arn" {
  description = "Key that what is in it is encrypted with."
  type        = string
}

variable "kept_days" {
  description = "So long what was deleted or written over can be had back."
  type        = number

  validation {
    condition     = var.kept_days >= 1
    error_message = "kept_days: 1 at least."
  }
}

variable "deletable" {
  description = "Whether `terraform destroy` may delete it with what is in it."
  type        = bool
  default     = false
}
