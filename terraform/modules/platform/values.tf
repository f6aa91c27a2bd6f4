# What the charts are told; tests render them with this.

locals {
  namespace = "forebay"
  account   = "forebay"
  urls      = "forebay-redis"
  artifacts = "forebay-artifacts"
  on_system = { "forebay.dev/nodes" = "system" }
  on_cpus   = { "forebay.dev/nodes" = "cpu" }
  on_gpus   = { "forebay.dev/nodes" = "gpu" }

  # A cluster's own names for these: infra/chart/values.yaml.
  gpu_taint = { key = "nvidia.com/gpu", operator = "Exists", effect = "NoSchedule" }

  balancer = merge(
    {
      "service.beta.kubernetes.io/aws-load-balancer-type"     = "nlb"
      "service.beta.kubernetes.io/aws-load-balancer-internal" = tostring(!var.public)
    },
    var.certificate_arn == null ? {} : {
      "service.beta.kubernetes.io/aws-load-balancer-ssl-cert"  = var.certificate_arn
      "service.beta.kubernetes.io/aws-load-balancer-ssl-ports" = "*"
    },
  )

  values = {
    fullnameOverride = "forebay"
    image            = var.image
    models           = var.models

    settings = {
      durability = var.redis.durability
      files_url  = "s3://${var.storage.bucket}/files"
    }

    redis = {
      existingSecret = merge({ name = local.urls }, { for one in var.redis.processes : one => one })
    }

    home = var.artifacts_from == "bucket" ? { artifactsClaim = local.artifacts } : {}

    serviceAccount = {
      create      = true
      name        = local.account
      annotations = { "eks.amazonaws.com/role-arn" = aws_iam_role.this["forebay"].arn }
    }

    gateway = {
      nodeSelector = local.on_system
      service      = { type = "LoadBalancer", annotations = local.balancer }
    }

    background = { nodeSelector = local.on_system }
    beat       = { nodeSelector = local.on_system }
    autoscaler = { nodeSelector = local.on_system }
    workers    = { nodeSelector = local.on_cpus }

    gpu = {
      nodeSelector = local.on_gpus
      tolerations  = [local.gpu_taint]
    }

    # Told by the autoscaler, so nobody needs an API key before there is one.
    keda = { enabled = true, push = true }

    networkPolicy = {
      # S3, and STS for what a service account may: public addresses of AWS, over TLS.
      extraEgress = [{ ports = [{ port = 443, protocol = "TCP" }] }]
    }
  }

  # Of the chart in objects/.
  objects = {
    cluster = {
      name            = var.cluster.name
      subnets         = var.subnet_ids
      securityGroup   = var.cluster.security_group_id
      instanceProfile = var.cluster.karpenter.instance_profile
      kmsKey          = var.cluster.kms_key_arn
    }

    cpu = { nodes = local.on_cpus, families = var.cpu_nodes.families, spot = var.cpu_nodes.spot, limit = var.cpu_nodes.max_cpus }
    gpu = { nodes = local.on_gpus, families = var.gpu_nodes.families, spot = var.gpu_nodes.spot, limit = var.gpu_nodes.max_gpus }

    secrets = {
      region = data.aws_region.current.region
      from   = { (local.urls) = var.redis.secret_name }
    }

    artifacts = {
      claim  = var.artifacts_from == "bucket" ? local.artifacts : ""
      bucket = var.storage.bucket
    }
  }
}
