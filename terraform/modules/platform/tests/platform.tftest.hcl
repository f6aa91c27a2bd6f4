mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

mock_provider "helm" {}

variables {
  name       = "water"
  subnet_ids = ["subnet-1", "subnet-2"]
  image      = { repository = "registry.example/forebay", tag = "1" }
  models     = "[models.echo]\ntask = \"echo\"\nbackend = \"echo\"\n"
  storage    = { bucket = "water-1", bucket_arn = "arn:aws:s3:::water-1", kms_key_arn = "arn:key" }

  cluster = {
    name              = "water"
    endpoint          = "https://water.example"
    security_group_id = "sg-1"
    kms_key_arn       = "arn:key"
    oidc              = { arn = "arn:oidc", issuer = "one" }
    karpenter         = { role_arn = "arn:role", queue = "water", instance_profile = "water-node" }
  }

  redis = {
    processes   = ["autoscaler", "background", "gateway", "pipeline", "worker"]
    durability  = "replicated"
    secret_name = "water-redis"
    secret_arn  = "arn:secret"
    kms_key_arn = "arn:key"
  }
}

run "with_gpus" {
  assert {
    condition     = length(helm_release.nvidia) == 1 && length(aws_eks_addon.mount) == 0
    error_message = "Nodes with GPUs need the device plugin; artifacts are in the image."
  }
}

run "without_gpus" {
  variables {
    gpu_nodes      = { max_gpus = 0 }
    artifacts_from = "bucket"
  }

  assert {
    condition     = length(helm_release.nvidia) == 0 && length(aws_eks_addon.mount) == 1
    error_message = "No device plugin without GPUs; artifacts of the bucket need its driver."
  }
}
