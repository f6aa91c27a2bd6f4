variable "name" {
  description = "Name of the cluster, and begins every name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name: 3 to 20 of a-z, 0-9 and hyphens, beginning with a letter."
  }
}

variable "kubernetes_version" {
  description = "Minor version, such as 1.33; Forebay's chart takes 1.30 and newer."
  type        = string

  validation {
    condition     = can(regex("^1\\.(3[0-9]|[4-9][0-9])$", var.kubernetes_version))
    error_message = "kubernetes_version: 1.30 or newer, as major and minor."
  }
}

variable "subnet_ids" {
  description = "Private subnets of nodes and pods, in two zones at least."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids: two at least, in different zones."
  }
}

variable "api_cidrs" {
  description = "Networks that may reach Kubernetes' API from outside, such as [\"198.51.100.0/24\"]; with none it is reached from inside the VPC alone, by Terraform, too."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for one in var.api_cidrs : can(cidrhost(one, 0))]) && !contains(var.api_cidrs, "0.0.0.0/0")
    error_message = "api_cidrs: IPv4 networks, and not everybody's (0.0.0.0/0)."
  }
}

variable "admins" {
  description = "ARNs of IAM roles or users that may do anything in the cluster, beside who applies this."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for one in var.admins : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/.+", one))])
    error_message = "admins: ARNs of IAM roles or users: arn:aws:iam::123456789012:role/operators."
  }
}

variable "system_instance_types" {
  description = "Instances of the nodes that are always there: for Karpenter, KEDA, gateways, the background. All of one architecture: that of the images."
  type        = list(string)
  default     = ["m7i.large", "m7a.large", "m6i.large"]

  validation {
    condition     = length(var.system_instance_types) > 0
    error_message = "system_instance_types: one at least."
  }
}

variable "system_nodes" {
  description = "How many of these there are; two at least, in different zones."
  type        = number
  default     = 2

  validation {
    condition     = var.system_nodes >= 2 && floor(var.system_nodes) == var.system_nodes
    error_message = "system_nodes: 2 at least, so that Karpenter lives through the end of one."
  }
}

variable "log_days" {
  description = "How long CloudWatch keeps what the control plane logs."
  type        = number
  default     = 365

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.log_days)
    error_message = "log_days: one of the periods that CloudWatch has: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731."
  }
}
