# What runs in the cluster: what makes nodes (Karpenter), counts workers (KEDA), brings secrets
# (External Secrets) and GPUs (NVIDIA's device plugin), and Forebay's own chart.

data "aws_region" "current" {}

resource "helm_release" "karpenter" {
  name       = "karpenter"
  namespace  = "kube-system"
  repository = "oci://public.ecr.aws/karpenter"
  chart      = "karpenter"
  version    = var.chart_versions.karpenter

  values = [yamlencode({
    nodeSelector   = local.on_system
    serviceAccount = { annotations = { "eks.amazonaws.com/role-arn" = var.cluster.karpenter.role_arn } }
    settings       = { clusterName = var.cluster.name, interruptionQueue = var.cluster.karpenter.queue }
  })]
}

resource "helm_release" "keda" {
  name             = "keda"
  namespace        = "keda"
  create_namespace = true
  repository       = "https://kedacore.github.io/charts"
  chart            = "keda"
  version          = var.chart_versions.keda

  values = [yamlencode({ nodeSelector = local.on_system })]
}

resource "helm_release" "external_secrets" {
  name             = "external-secrets"
  namespace        = "external-secrets"
  create_namespace = true
  repository       = "https://charts.external-secrets.io"
  chart            = "external-secrets"
  version          = var.chart_versions.external_secrets

  values = [yamlencode({
    nodeSelector   = local.on_system
    serviceAccount = { name = "external-secrets", annotations = { "eks.amazonaws.com/role-arn" = aws_iam_role.this["secrets"].arn } }
  })]
}

resource "helm_release" "nvidia" {
  count = var.gpu_nodes.max_gpus > 0 ? 1 : 0

  name       = "nvidia-device-plugin"
  namespace  = "kube-system"
  repository = "https://nvidia.github.io/k8s-device-plugin"
  chart      = "nvidia-device-plugin"
  version    = var.chart_versions.nvidia

  values = [yamlencode({
    nodeSelector = local.on_gpus
    tolerations  = [local.gpu_taint]
    affinity     = null # of its own it waits for labels of a discovery that is not here
  })]
}

resource "aws_eks_addon" "mount" {
  count = var.artifacts_from == "bucket" ? 1 : 0

  cluster_name                = var.cluster.name
  addon_name                  = "aws-mountpoint-s3-csi-driver"
  service_account_role_arn    = aws_iam_role.this["mount"].arn
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  # On nodes that carry the GPUs' taint, too.
  configuration_values = jsonencode({ node = { tolerateAllTaints = true } })
}

# Kinds of node, where secrets come from, and the volume of artifacts: what has no chart of its own.
resource "helm_release" "objects" {
  name             = "forebay-objects"
  namespace        = local.namespace
  create_namespace = true
  chart            = "${path.module}/objects"

  values = [yamlencode(local.objects)]

  depends_on = [
    aws_eks_addon.mount,
    helm_release.external_secrets,
    helm_release.karpenter,
  ]
}

resource "helm_release" "forebay" {
  name      = "forebay"
  namespace = local.namespace
  chart     = "${path.module}/../../../infra/chart"
  timeout   = 900

  values = concat([yamlencode(local.values)], var.values)

  depends_on = [
    aws_iam_role_policy.this,
    helm_release.keda,
    helm_release.nvidia,
    helm_release.objects,
  ]
}
