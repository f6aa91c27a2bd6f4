variable "region" {
  description = "Region of the bucket, such as eu-central-1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region: the name of an AWS region, such as eu-central-1."
  }
}

variable "bucket" {
  description = "Name of the bucket that keeps the states; unique among everybody's."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket: 3 to 63 of a-z, 0-9, dots and hyphens, beginning and ending in a letter or number."
  }
}
