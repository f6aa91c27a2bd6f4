variable "region" {
  description = "AWS region, such as eu-central-1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region: the name of an AWS region, such as eu-central-1."
  }
}

variable "zones" {
  description = "Availability zones of the region, three or more, such as [\"eu-central-1a\", \"eu-central-1b\", \"eu-central-1c\"]. Named, so that a zone that AWS adds moves nothing."
  type        = list(string)

  validation {
    condition     = alltrue([for zone in var.zones : startswith(zone, var.region)])
    error_message = "zones: availability zones of `region`, such as ${var.region}a."
  }
}

variable "image_tag" {
  description = "Tag of the image forebay that was pushed to the repository; never moved, so a new one is a new tag."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.image_tag)) && var.image_tag != "latest"
    error_message = "image_tag: letters, digits, dots, underscores and hyphens; and not `latest`, as tags are never moved."
  }
}

variable "models_file" {
  description = "The models.toml, relative to where Terraform is run."
  type        = string
  default     = "../../../models.toml"

  validation {
    condition     = fileexists(var.models_file)
    error_message = "models_file: there is no such file."
  }
}

variable "alarm_emails" {
  description = "Who is told of alarms and of the budget."
  type        = set(string)
}

variable "api_cidrs" {
  description = "Networks that reach Kubernetes' API: yours, such as [\"198.51.100.7/32\"]. Terraform needs it as well."
  type        = list(string)
  default     = []
}

variable "admins" {
  description = "ARNs of IAM roles or users that may do anything in the cluster, beside who applies this."
  type        = set(string)
  default     = []
}

variable "monthly_budget" {
  description = "US dollars a month above which mails are sent."
  type        = number
  default     = 3000
}

variable "artifacts_from" {
  description = "Where built models are: `image` or `bucket`."
  type        = string
  default     = "image"
}

variable "certificate_arn" {
  description = "Certificate of ACM for the gateways' address; null for plain HTTP inside the VPC."
  type        = string
  default     = null
}

variable "public" {
  description = "Whether the gateways can be reached from the internet. Needs `certificate_arn`."
  type        = bool
  default     = false
}

variable "redis_shards" {
  description = "Primaries of Redis that models are spread over."
  type        = number
  default     = 1
}

variable "values_files" {
  description = "Files of further values of the chart, relative to where Terraform is run."
  type        = list(string)
  default     = []
}
