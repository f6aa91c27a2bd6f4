variable "name" {
  description = "Name of the key's alias."
  type        = string
}

variable "description" {
  description = "What it encrypts."
  type        = string
}

variable "deletion_days" {
  description = "So long a key that was given up can be had back."
  type        = number
  default     = 30

  validation {
    condition     = var.deletion_days >= 7 && var.deletion_days <= 30
    error_message = "deletion_days: 7 to 30."
  }
}

variable "log_groups" {
  description = "Names of log groups of CloudWatch that it encrypts; `*` at the end stands for any."
  type        = list(string)
  default     = []
}

variable "senders" {
  description = "Services of AWS that send what is encrypted with it, such as cloudwatch.amazonaws.com."
  type        = list(string)
  default     = []
}

variable "disks" {
  description = "Whether it encrypts disks of instances that Auto Scaling starts."
  type        = bool
  default     = false
}
