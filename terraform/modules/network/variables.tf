variable "name" {
  description = "Begins every name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name: 3 to 20 of a-z, 0-9 and hyphens, beginning with a letter."
  }
}

variable "cidr" {
  description = "Addresses of the network, a /16: a twentieth of it goes to each zone's nodes and pods."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && endswith(var.cidr, "/16")
    error_message = "cidr: an IPv4 network of 16 bits, such as 10.40.0.0/16."
  }
}

variable "zones" {
  description = "Availability zones, such as [\"eu-central-1a\", \"eu-central-1b\"]. Kubernetes needs two."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 2 && length(var.zones) <= 4 && length(distinct(var.zones)) == length(var.zones)
    error_message = "zones: two to four different availability zones."
  }
}

variable "nat_per_zone" {
  description = "Whether each zone has a NAT gateway of its own: nobody loses the internet with another's zone, and each costs as much again."
  type        = bool
  default     = true
}

variable "flow_log_days" {
  description = "How long CloudWatch keeps who spoke to whom."
  type        = number
  default     = 365

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.flow_log_days)
    error_message = "flow_log_days: one of the periods that CloudWatch has: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731."
  }
}
