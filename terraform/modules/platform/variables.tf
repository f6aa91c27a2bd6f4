variable "name" {
  description = "Begins every name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name: 3 to 20 of a-z, 0-9 and hyphens, beginning with a letter."
  }
}

variable "cluster" {
  description = "The cluster: what the module `cluster` gives."
  type = object({
    name              = string
    endpoint          = string
    security_group_id = string
    kms_key_arn       = string
    oidc              = object({ arn = string, issuer = string })
    karpenter         = object({ role_arn = string, queue = string, instance_profile = string })
  })
}

variable "subnet_ids" {
  description = "Private subnets of the nodes that Karpenter starts."
  type        = list(string)
}

variable "redis" {
  description = "Redis: what the module `redis` gives."
  type = object({
    processes   = list(string)
    durability  = string
    secret_name = string
    secret_arn  = string
    kms_key_arn = string
  })
}

variable "storage" {
  description = "Bucket of artifacts and files: what the module `registry` gives."
  type = object({
    bucket      = string
    bucket_arn  = string
    kms_key_arn = string
  })
}

variable "image" {
  description = "The image that every process runs, unless `workers` says another."
  type        = object({ repository = string, tag = string })
}

variable "models" {
  description = "Text of models.toml."
  type        = string

  validation {
    condition     = strcontains(var.models, "[models.") || strcontains(var.models, "[[")
    error_message = "models: the text of a models.toml, with a table [models.NAME] for each model: file(\"models.toml\")."
  }
}

variable "artifacts_from" {
  description = "Where built models are: `image`, in it, or `bucket`, under artifacts/ there, mounted read-only."
  type        = string
  default     = "image"

  validation {
    condition     = contains(["image", "bucket"], var.artifacts_from)
    error_message = "artifacts_from: image or bucket."
  }
}

variable "values" {
  description = "Further values of the chart, as YAML; what they say is said in the place of what is set here, and the last one wins."
  type        = list(string)
  default     = []
}

variable "certificate_arn" {
  description = "Certificate of ACM for the gateways' address; with none they are reached by plain HTTP, from inside the VPC alone."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn == null || can(regex("^arn:aws[a-z-]*:acm:", var.certificate_arn))
    error_message = "certificate_arn: the ARN of a certificate of ACM, or null."
  }
}

variable "public" {
  description = "Whether the gateways can be reached from the internet. Needs `certificate_arn`."
  type        = bool
  default     = false

  validation {
    condition     = !var.public || var.certificate_arn != null
    error_message = "public: API keys don't go over the internet unencrypted: give certificate_arn."
  }
}

variable "cpu_nodes" {
  description = "Nodes for workers on CPUs: the most vCPUs at once, families of instances, and whether they may be spot instances (what those held when they are taken away is finished or let go for others)."
  type = object({
    max_cpus = optional(number, 64)
    families = optional(list(string), ["c7i", "c7a", "c6i"])
    spot     = optional(bool, true)
  })
  default = {}

  validation {
    condition     = var.cpu_nodes.max_cpus > 0 && length(var.cpu_nodes.families) > 0
    error_message = "cpu_nodes: max_cpus more than 0, and a family at least."
  }
}

variable "gpu_nodes" {
  description = "Nodes with GPUs, of which there are none until a worker wants one: the most GPUs at once (0: none ever), families of instances, and whether they may be spot instances."
  type = object({
    max_gpus = optional(number, 4)
    families = optional(list(string), ["g6", "g5"])
    spot     = optional(bool, false)
  })
  default = {}

  validation {
    condition     = var.gpu_nodes.max_gpus >= 0 && length(var.gpu_nodes.families) > 0
    error_message = "gpu_nodes: max_gpus 0 or more, and a family at least."
  }
}

variable "chart_versions" {
  description = "Versions of the charts that Forebay's stands on."
  type = object({
    karpenter        = optional(string, "1.14.1")
    keda             = optional(string, "2.20.0")
    external_secrets = optional(string, "2.6.0")
    nvidia           = optional(string, "0.17.1")
  })
  default = {}
}
