# Small: two zones, one way to the internet; `terraform destroy` leaves nothing that costs.

locals {
  name = "forebay-dev"
}

module "alerts" {
  source = "../../modules/alerts"

  name           = local.name
  emails         = var.alarm_emails
  monthly_budget = var.monthly_budget
}

module "network" {
  source = "../../modules/network"

  name          = local.name
  zones         = var.zones
  nat_per_zone  = false
  flow_log_days = 30
}

module "registry" {
  source = "../../modules/registry"

  name      = local.name
  deletable = true
}

module "cluster" {
  source = "../../modules/cluster"

  name               = local.name
  kubernetes_version = "1.34"
  subnet_ids         = module.network.private_subnet_ids
  api_cidrs          = var.api_cidrs
  admins             = var.admins
  system_nodes       = 2
  log_days           = 30
}

module "redis" {
  source = "../../modules/redis"

  name                      = local.name
  vpc_id                    = module.network.vpc_id
  subnet_ids                = module.network.private_subnet_ids
  client_security_group_ids = { nodes = module.cluster.security_group_id }
  durable                   = false
  node_type                 = "cache.t4g.medium"
  replicas                  = 1
  snapshot_days             = 1
  final_snapshot            = false
  users_file                = "${path.module}/../../../infra/redis/users.acl"
  log_days                  = 30
  alarm_topic_arn           = module.alerts.topic_arn
}

module "platform" {
  source = "../../modules/platform"

  name            = local.name
  cluster         = module.cluster
  subnet_ids      = module.network.private_subnet_ids
  redis           = module.redis
  storage         = module.registry
  image           = { repository = module.registry.repositories["forebay"], tag = var.image_tag }
  models          = file(var.models_file)
  artifacts_from  = var.artifacts_from
  certificate_arn = var.certificate_arn
  public          = var.public
  cpu_nodes       = { max_cpus = 16 }
  gpu_nodes       = { max_gpus = 1, spot = true }
  values          = concat([yamlencode(local.values)], [for one in var.values_files : file(one)])
}

locals {
  # Of the chart: infra/chart/values.yaml. Files of `values_files` win over them.
  values = {
    gateway    = { replicas = 1 }
    background = { replicas = 1 }
  }
}
