variable "name" {
  description = "Begins every name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name: 3 to 20 of a-z, 0-9 and hyphens, beginning with a letter."
  }
}

variable "vpc_id" {
  description = "The network that it is in."
  type        = string
}

variable "subnet_ids" {
  description = "Its subnets, in two zones at least."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids: two at least, in different zones, so that a replica lives through the end of one."
  }
}

variable "client_security_group_ids" {
  description = "Security groups that may reach it, by any name: the nodes'."
  type        = map(string)
}

variable "durable" {
  description = "Whether what is written is in a log of two zones before it is answered (synchronous durability): then nothing accepted is lost, and a write takes milliseconds. Else it is in the memory of the primary and of a replica. Decided once: a server can't be changed to the other."
  type        = bool
  default     = true
}

variable "engine_version" {
  description = "Version of Valkey, as major and minor; 9.0 is the first that can be `durable`."
  type        = string
  default     = "9.0"

  validation {
    condition     = can(regex("^([7-9]|[1-9][0-9])\\.[0-9]+$", var.engine_version)) && (!var.durable || try(tonumber(var.engine_version) >= 9, false))
    error_message = "engine_version: 7.2 or newer, as major and minor; 9.0 or newer if durable."
  }
}

variable "node_type" {
  description = "Size of each node, such as cache.r7g.large. Not of the burstable kinds (t3, t4g) where it matters: one that is out of credits is slow, and all that asks it."
  type        = string

  validation {
    condition     = startswith(var.node_type, "cache.")
    error_message = "node_type: the name of a node of ElastiCache, such as cache.r7g.large."
  }
}

variable "broker_node_type" {
  description = "Size of the nodes for Celery's messages, which a `durable` Redis needs beside it."
  type        = string
  default     = "cache.t4g.small"

  validation {
    condition     = startswith(var.broker_node_type, "cache.")
    error_message = "broker_node_type: the name of a node of ElastiCache, such as cache.t4g.small."
  }
}

variable "shards" {
  description = "Primaries that models are spread over; only if `durable`. A model's lanes are on one: docs/scaling.md says what one can do."
  type        = number
  default     = 1

  validation {
    condition     = var.shards >= 1 && var.shards <= 90 && floor(var.shards) == var.shards && (var.durable || var.shards == 1)
    error_message = "shards: 1 to 90, and 1 if not durable."
  }
}

variable "replicas" {
  description = "Copies of each primary, in other zones. Without `durable` each request waits until one has it, and with two there still is one while the other is replaced."
  type        = number
  default     = 2

  validation {
    condition     = var.replicas >= 1 && var.replicas <= 5 && floor(var.replicas) == var.replicas
    error_message = "replicas: 1 to 5. With none nobody takes over when a primary goes."
  }
}

variable "snapshot_days" {
  description = "How many daily snapshots are kept; 0 for none."
  type        = number
  default     = 7

  validation {
    condition     = var.snapshot_days >= 0 && var.snapshot_days <= 35
    error_message = "snapshot_days: 0 to 35."
  }
}

variable "final_snapshot" {
  description = "Whether `terraform destroy` leaves a last snapshot."
  type        = bool
  default     = true
}

variable "users_file" {
  description = "The ACL file with a user for each process: infra/redis/users.acl. Terraform gives each a password of its own."
  type        = string

  validation {
    condition     = fileexists(var.users_file)
    error_message = "users_file: there is no such file."
  }
}

variable "key_prefix" {
  description = "Forebay's setting of the same name: what begins every key."
  type        = string
  default     = "forebay"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+$", var.key_prefix))
    error_message = "key_prefix: letters, digits, underscores and hyphens."
  }
}

variable "log_days" {
  description = "How long CloudWatch keeps its slow commands and its own log."
  type        = number
  default     = 365

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.log_days)
    error_message = "log_days: one of the periods that CloudWatch has: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731."
  }
}

variable "alarm_topic_arn" {
  description = "Where alarms go: a topic of SNS."
  type        = string
}
