output "name" {
  description = "Name of the cluster."
  value       = aws_eks_cluster.this.name
}

output "endpoint" {
  description = "Kubernetes' API."
  value       = aws_eks_cluster.this.endpoint
}

output "certificate_authority" {
  description = "Its authority, base64."
  value       = aws_eks_cluster.this.certificate_authority[0].data
}

output "security_group_id" {
  description = "Security group of all nodes and their pods."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "oidc" {
  description = "Provider of identities of service accounts: `arn`, and `issuer` without its https://."
  value = {
    arn    = aws_iam_openid_connect_provider.this.arn
    issuer = aws_iam_openid_connect_provider.this.url
  }
}

output "kms_key_arn" {
  description = "Key of secrets, disks and logs."
  value       = module.key.arn
}

output "karpenter" {
  description = "What Karpenter is told: `role_arn`, `queue` and the `instance_profile` of its nodes."
  value = {
    role_arn         = aws_iam_role.karpenter.arn
    queue            = aws_sqs_queue.interruptions.name
    instance_profile = aws_iam_instance_profile.node.name
  }

  depends_on = [aws_eks_node_group.system, aws_iam_role_policy.karpenter]
}
